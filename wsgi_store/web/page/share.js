// @ts-check
import { addressOf, linkName, shownName } from "./names.js";
import { button, copyButton, make, openDialog, spoken, worded, wordsFor } from "./parts.js";
import { date, duration, t, write } from "./text.js";

/** @typedef {import("./api.js").Service} Service */

/** A link for somebody else: with `isClosed` they need a token; `expires` is in seconds since the epoch.
 *
 * @typedef {{url: string, expires?: number, isClosed?: boolean}} Link
 */

/**
 * Make a signed link or a ticket.
 *
 * @param {Service} service
 * @param {object} wanted what POST /links takes
 * @param {AbortSignal} [signal]
 * @returns {Promise<{url: string, expires: number}>}
 */
async function signed(service, wanted, signal) {
    const answer = await service.request("links", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(wanted),
        signal,
    });
    return answer.json;
}

/**
 * The address of a blob for this page itself: signed if reading needs a token and the caller may sign.
 *
 * Null if only a request with the token can read it.
 *
 * @param {Service} service
 * @param {string} hash
 * @param {string} [name]
 * @param {AbortSignal} [signal]
 * @returns {Promise<string | null>}
 */
export async function ownAddress(service, hash, name, signal) {
    if (service.browserMay("read")) {
        return addressOf(service.base, hash, name);
    }
    return service.may("link") ? (await linkFor(service, hash, name, 3600, signal)).url : null;
}

/**
 * A link that can be given to others; it lasts as long as the service allows without `lifetime` (in seconds).
 *
 * @param {Service} service
 * @param {string} hash
 * @param {string} [name]
 * @param {number} [lifetime]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Link>}
 */
export async function linkFor(service, hash, name, lifetime, signal) {
    if (service.everybodyMay("read")) {
        return { url: addressOf(service.base, hash, name) };
    }
    if (!service.may("link") || !service.may("read")) {
        return { url: addressOf(service.base, hash, name), isClosed: true };
    }
    const filename = linkName(name ?? "") || undefined;
    const { url, expires } = await signed(service, { hash, filename, expires_in: lifetime }, signal);
    // The service may not know under which address people reach it.
    const link = new URL(url, service.base).searchParams.get("link") ?? "";
    return { url: addressOf(service.base, hash, filename, link), expires };
}

/**
 * A link to a page that takes one file.
 *
 * @param {Service} service
 * @param {{lifetime?: number, maxSize?: number}} wanted seconds and bytes
 * @returns {Promise<Link>}
 */
export async function ticketFor(service, { lifetime, maxSize }) {
    const wanted = { ticket: true, expires_in: lifetime, max_size: maxSize };
    const { url, expires } = await signed(service, wanted);
    const own = new URL(service.base);
    own.searchParams.set("ticket", new URL(url, own).searchParams.get("ticket") ?? "");
    return { url: own.href, expires };
}

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
            // From now on the main thing is to copy it.
            send.classList.remove("primary");
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
        kind: "primary",
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

/**
 * Offer in the head of the page what only some need: a token, and asking somebody for a file.
 *
 * @param {HTMLElement} place
 * @param {import("./line.js").Around} around
 */
export function offerDoors(place, { service, access }) {
    const ask = button({ icon: "letter", label: () => t("share.ticket"), words: true, kind: "quiet", does: "ticket",
        onClick: () => shareTicket(service) });
    const token = button({ icon: "key", label: () => t("access.token"), words: true, kind: "quiet", does: "token",
        onClick: () => access.ask() });
    const draw = () => {
        ask.hidden = !(service.may("link") && service.may("write"));
        token.hidden = !access.isUseful;
    };
    place.append(ask, token);
    access.addEventListener("changed", draw);
    draw();
}
