// @ts-check

import { button, make } from "./parts.js";
import { sentenceFor, t, write } from "./text.js";

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
    dialog.addEventListener("close", () => dialog.remove());
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
