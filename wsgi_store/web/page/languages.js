// @ts-check
import { notify } from "./notices.js";
import { language, setLanguage, t } from "./text.js";

const PLACE = "wsgi_store language";

/**
 * Change the language in place by the links to the others, and remember it on this device.
 *
 * @param {() => void} changed
 */
export function offerLanguages(changed) {
    const links = /** @type {HTMLAnchorElement[]} */ ([...document.querySelectorAll("a[hreflang]")]);
    /** @param {string} wanted */
    const change = async (wanted) => {
        await setLanguage(wanted);
        changed();
    };
    for (const link of links) {
        link.addEventListener("click", async (event) => {
            event.preventDefault();
            try {
                await change(link.hreflang);
            } catch {
                notify(() => t("language.failed"), "bad");
                return;
            }
            remember(link.hreflang);
            // The link that was used is gone.
            links.find((other) => other.hreflang !== language)?.focus();
        });
    }
    const asked = new URLSearchParams(location.search).has("lang");
    const wanted = asked ? null : remembered();
    if (wanted !== null && wanted !== language && links.some(({ hreflang }) => hreflang === wanted)) {
        // Without it the page stays in the language that the browser asked for.
        change(wanted).catch(() => {});
    }
}

function remembered() {
    try {
        return localStorage.getItem(PLACE);
    } catch {
        return null;
    }
}

/** @param {string} wanted */
function remember(wanted) {
    try {
        localStorage.setItem(PLACE, wanted);
    } catch {
        // The browser lets this page keep nothing.
    }
}
