// @ts-check
import { button, icon, make } from "./parts.js";
import { say } from "./speak.js";
import { t, write } from "./text.js";

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
            /** @type {HTMLElement | null} */ (document.querySelector("main :is(button, a[href]):not([hidden])"))?.focus();
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
