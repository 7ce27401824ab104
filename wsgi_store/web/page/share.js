// @ts-check

import { copyButton } from "./copy.js";
import { openDialog, spoken, wordsFor, worded } from "./dialog.js";
import { linkFor, ticketFor } from "./links.js";
import { shownName } from "./names.js";
import { make } from "./parts.js";
import { date, duration, t, write } from "./text.js";

/** @typedef {import("./api.js").Service} Service */
/** @typedef {import("./links.js").Link} Link */

const HOUR = 3600;
const DAY = 24 * HOUR;
const LIFETIMES = [HOUR, DAY, 7 * DAY, 30 * DAY, 365 * DAY];
const MEGABYTE = 1000 * 1000;

/**
 * Ask for how long a link to a blob shall work, and make it.
 *
 * @param {Service} service
 * @param {string} hash
 * @param {string} [name]
 */
export function shareBlob(service, hash, name) {
    const about = make("p", "file-name", make("bdi", "", shownName(name || hash)));
    openForm(service, "share.link", [about], (lifetime) => linkFor(service, hash, name, lifetime));
}

/**
 * Ask for the limits of a ticket, and make it.
 *
 * @param {Service} service
 */
export function shareTicket(service) {
    const most = make("input");
    most.type = "number";
    most.min = "1";
    const size = make("label", "field", worded("span", "share.size"), most);
    openForm(service, "share.ticket", [worded("p", "share.ticket_why", "muted"), size], (lifetime) =>
        ticketFor(service, { lifetime, maxSize: most.value ? Number(most.value) * MEGABYTE : undefined }));
}

/**
 * @param {Service} service
 * @param {string} title
 * @param {HTMLElement[]} fields
 * @param {(lifetime: number) => Promise<Link>} sign
 */
function openForm(service, title, fields, sign) {
    const lifetime = make("select");
    const longest = service.description.limits.link_expires ?? DAY;
    for (const seconds of [...LIFETIMES.filter((one) => one < longest), longest]) {
        const option = make("option");
        write(option, () => duration(seconds));
        option.value = String(seconds);
        option.selected = seconds <= DAY;
        lifetime.append(option);
    }
    const problem = spoken("alert", "file-problem");
    const made = make("div", "made");
    const send = worded("button", "share.make", "button primary");
    const form = make("form", "", ...fields, make("label", "field", worded("span", "share.lifetime"), lifetime),
        problem, make("div", "actions", send), made);
    openDialog("share", () => t(title), form);
    /** @type {HTMLElement} */ (form.querySelector("input, select")).focus();
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        write(problem, () => "");
        send.disabled = true;
        try {
            show(made, await sign(Number(lifetime.value)));
        } catch (error) {
            write(problem, () => wordsFor(error));
        } finally {
            send.disabled = false;
        }
    });
}

/** @param {HTMLElement} place @param {Link} link */
function show(place, { url, expires }) {
    const field = addressField(url);
    const told = spoken("status", "muted");
    const copied = copyButton({
        label: () => t("share.copy"),
        does: "copy",
        words: true,
        text: () => url,
        copied: () => write(told, () => t("copy.copied")),
        failed: () => {
            write(told, () => t("copy.by_hand"));
            field.focus();
        },
    });
    place.replaceChildren(field, make("div", "actions", copied), told);
    copied.focus();
    // A region that is new is not yet listened to.
    setTimeout(() => write(told, () => t("share.until", { date: date(expires ?? 0) })), 100);
}

/**
 * A field from which an address can be copied by hand.
 *
 * @param {string} text
 */
export function addressField(text) {
    const field = make("input", "address");
    field.readOnly = true;
    field.value = text;
    write(field, () => t("share.address"), "label");
    field.addEventListener("focus", () => field.select());
    return field;
}
