// @ts-check
import { say } from "./say.js";
import { sentenceFor, t, write } from "./text.js";

/**
 * Make an element.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} classes
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, classes = "", ...children) {
    const element = document.createElement(tag);
    if (classes !== "") {
        element.className = classes;
    }
    element.append(...children);
    return element;
}

/** A picture from app.css, for the eye alone. @param {string} name */
export function icon(name) {
    const element = make("span", `icon icon-${name}`);
    element.setAttribute("aria-hidden", "true");
    return element;
}

/**
 * Give a button its picture and its words; the element and its focus stay.
 *
 * @param {HTMLButtonElement} element
 * @param {string} picture
 * @param {() => string} label
 * @param {() => string} [words] what is to be seen, if that is less than the label
 */
export function relabel(element, picture, label, words) {
    const [drawn, text] = /** @type {HTMLElement[]} */ ([...element.children]);
    drawn.className = `icon icon-${picture}`;
    if (text) {
        write(text, words ?? label);
    }
    if (words || !text) {
        write(element, label, "label");
        write(element, label, "title");
    }
}

/** @typedef {boolean | (() => string)} Words whether the label is to be seen, or what is to be seen instead */

/**
 * Make a button: with words, or with a picture alone that has its words as a label.
 *
 * @param {{icon: string, label: () => string, words?: Words, kind?: string, does?: string,
 *     onClick: (event: MouseEvent) => void}} how `does` is its name in any language
 */
export function button({ icon: picture, label, words = false, kind = "", does, onClick }) {
    const element = make("button", `button ${words ? "" : "only-icon"} ${kind}`.trim(), icon(picture));
    element.type = "button";
    if (does !== undefined) {
        element.dataset.do = does;
    }
    if (words) {
        element.append(make("span"));
    }
    relabel(element, picture, label, shorter(words));
    element.addEventListener("click", onClick);
    return element;
}

/** @param {Words} words @returns {(() => string) | undefined} */
function shorter(words) {
    return typeof words === "function" ? words : undefined;
}

const SHOWN_FOR = 2000;

/**
 * Copy text; false if the browser does not allow it.
 *
 * @param {string} text
 * @param {Element} near the element in use: a field for copying can only have the focus beside it
 * @returns {Promise<boolean>}
 */
export async function copy(text, near) {
    try {
        // Missing on plain http.
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        return copySelected(text, near);
    }
}

/** @param {string} text @param {Element} near */
function copySelected(text, near) {
    const focused = document.activeElement;
    const field = document.createElement("textarea");
    field.className = "visually-hidden";
    field.readOnly = true;
    field.value = text;
    near.after(field);
    field.focus({ preventScroll: true });
    field.setSelectionRange(0, text.length);
    try {
        return document.execCommand("copy");
    } catch {
        return false;
    } finally {
        field.remove();
        if (focused instanceof HTMLElement) {
            focused.focus({ preventScroll: true });
        }
    }
}

/**
 * Make a button that copies, and shows and says that it did.
 *
 * @param {{label: () => string, does: string, icon?: string, words?: Words, kind?: string, text: () => string | Promise<string>,
 *     copied?: () => void, failed: (problem: unknown, text?: string) => void}} how `failed` gets text that could not
 *     be copied, or the problem of making it
 * @returns {HTMLButtonElement}
 */
export function copyButton({ label, does, icon = "copy", words = false, kind, text, copied = tell, failed }) {
    /** @type {ReturnType<typeof setTimeout>} */
    let timer;
    const onClick = async () => {
        let found;
        try {
            found = await text();
        } catch (problem) {
            failed(problem);
            return;
        }
        if (!await copy(found, made)) {
            failed(null, found);
            return;
        }
        const done = () => t("copy.copied");
        relabel(made, "check", done, shorter(words) && done);
        copied();
        clearTimeout(timer);
        timer = setTimeout(() => relabel(made, icon, label, shorter(words)), SHOWN_FOR);
    };
    const made = button({ icon, label, words, kind, does, onClick });
    return made;
}

function tell() {
    say(() => t("copy.copied"));
}

/**
 * Make an element with words in the language of the page.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} key of its sentence
 * @param {string} [classes]
 */
export function worded(tag, key, classes = "") {
    const element = make(tag, classes);
    write(element, () => t(key));
    return element;
}

/**
 * A line that is read out when it gets words, also in a dialog: what lies behind one is not read.
 *
 * @param {"status" | "alert"} role
 * @param {string} classes
 */
export function spoken(role, classes) {
    const element = make("p", classes);
    element.setAttribute("role", role);
    return element;
}

// Only uploads are tried again without being asked.
const PASSING = new Set(["network", "busy", "store_unavailable", "upload_locked"]);

/**
 * What happened and what to do next, where nothing is tried again by itself.
 *
 * @param {any} problem
 */
export function wordsFor(problem) {
    const { what, next } = sentenceFor(problem);
    return `${what} ${PASSING.has(problem.code) ? t("again.next") : next}`;
}

/**
 * Give the focus to the first of these that can have it, or else to the first thing of the page that can.
 *
 * Keyboard and screen reader would begin at the top again when what has the focus goes away.
 *
 * @param {...(Element | null | undefined)} wanted
 */
export function focusOn(...wanted) {
    for (const one of [...wanted, ...document.querySelectorAll("main :is(button, a[href], [tabindex])")]) {
        if (one instanceof HTMLElement && one.checkVisibility()) {
            one.focus();
            if (document.activeElement === one) {
                return;
            }
        }
    }
}

/** Whether the focus is in an element, which is about to go away. @param {Element} element */
export function hasFocus(element) {
    return element.contains(document.activeElement);
}

let number = 0;

/**
 * Open a dialog over the page; it closes by its button, by Escape and by a click beside it.
 *
 * @param {string} kind a class
 * @param {() => string} title
 * @param {...Node} children
 * @returns {HTMLDialogElement} removed when it closes
 */
export function openDialog(kind, title, ...children) {
    const heading = make("h2");
    heading.id = `dialog-${number += 1}`;
    write(heading, title);
    const close = button({
        icon: "close", label: () => t("dialog.close"), does: "close", onClick: () => dialog.close(),
    });
    const frame = make("div", "frame", make("div", "dialog-head", heading, close), ...children);
    const dialog = make("dialog", kind, frame);
    dialog.setAttribute("aria-labelledby", heading.id);
    const before = document.activeElement;
    dialog.addEventListener("close", () => {
        dialog.remove();
        // What opened it may be gone: the browser then gives the focus to nothing.
        if (before !== document.body && document.activeElement === document.body) {
            focusOn();
        }
    });
    // A press within that ends beside it is a selection of text.
    dialog.addEventListener("pointerdown", (event) => {
        if (event.target === dialog) {
            dialog.addEventListener("click", (click) => {
                if (click.target === dialog) {
                    dialog.close();
                }
            }, { once: true });
        }
    });
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
}

/**
 * Show a message above everything else until it is closed, and say it.
 *
 * @param {() => string} words
 * @param {"" | "bad"} [kind]
 */
export function notify(words, kind = "") {
    const place = /** @type {HTMLElement} */ (document.getElementById("notices"));
    const text = make("p");
    const notice = make("div", `notice ${kind}`.trim(), icon("alert"), text);
    write(text, words);
    notice.append(button({
        icon: "close",
        label: () => t("notice.close"),
        onClick: () => {
            notice.remove();
            focusOn();
        },
    }));
    // The same message twice is one message.
    for (const other of place.children) {
        if (other.textContent === notice.textContent) {
            other.remove();
        }
    }
    place.append(notice);
    say(words);
}
