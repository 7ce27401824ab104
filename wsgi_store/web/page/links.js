// @ts-check

import { linkName, addressOf } from "./names.js";

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
    if (service.everybodyMay("read")) {
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
