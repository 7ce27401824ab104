// @ts-check

import { button, relabel } from "./parts.js";
import { say } from "./speak.js";
import { t } from "./text.js";

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
 * @param {{label: () => string, does: string, icon?: string, words?: boolean, text: () => string | Promise<string>,
 *     copied?: () => void, failed: (problem: unknown, text?: string) => void}} how `failed` gets text that could not
 *     be copied, or the problem of making it
 * @returns {HTMLButtonElement}
 */
export function copyButton({ label, does, icon = "copy", words = false, text, copied = tell, failed }) {
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
        relabel(made, "check", () => t("copy.copied"));
        copied();
        clearTimeout(timer);
        timer = setTimeout(() => relabel(made, icon, label), SHOWN_FOR);
    };
    const made = button({ icon, label, words, does, onClick });
    return made;
}

function tell() {
    say(() => t("copy.copied"));
}
