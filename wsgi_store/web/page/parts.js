// @ts-check
import { write } from "./text.js";

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

/**
 * Make a button: with words, or with a picture alone that has its words as a label.
 *
 * @param {{icon: string, label: () => string, words?: boolean, kind?: string, does?: string,
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
    relabel(element, picture, label);
    element.addEventListener("click", onClick);
    return element;
}
