// @ts-check
import { linkName } from "./names.js";
import { make } from "./parts.js";
import { ownAddress } from "./share.js";

/** @typedef {import("./api.js").Service} Service */

// Browsers keep a blob of this size on disk; larger ones may not fit.
export const FITS = 512 << 20;
const KEPT_FOR = 60_000;

/**
 * Save a blob as a file.
 *
 * By its address where the browser can read it by itself; where only a request with the token can, the page
 * reads it first.
 *
 * @param {Service} service
 * @param {{hash: string, name?: string, size: number}} blob
 * @param {{signal: AbortSignal, onProgress: (received: number) => void}} how
 * @returns {Promise<boolean>} false if the page would have to read more than fits
 */
export async function download(service, blob, { signal, onProgress }) {
    // A browser says nothing understandable about a file that is gone.
    await service.request(blob.hash, { method: "HEAD", signal });
    const address = await ownAddress(service, blob.hash, blob.name, signal);
    if (address !== null) {
        save(address, blob);
        return true;
    }
    if (blob.size > FITS) {
        return false;
    }
    const whole = await read(service, blob.hash, { signal, onProgress });
    const url = URL.createObjectURL(new Blob([whole], { type: "application/octet-stream" }));
    save(url, blob);
    setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR);
    return true;
}

/**
 * Read a blob, or the part of it that `range` names.
 *
 * @param {Service} service
 * @param {string} hash
 * @param {{signal: AbortSignal, range?: string, onProgress?: (received: number) => void}} how
 * @returns {Promise<Blob>}
 */
export async function read(service, hash, { signal, range, onProgress }) {
    /** @type {Record<string, string>} */
    const headers = range === undefined ? {} : { Range: `bytes=${range}` };
    const answer = await service.request(hash, { headers, signal, asBlob: true, onReceived: onProgress });
    return /** @type {Blob} */ (answer.blob);
}

/** @param {string} url @param {{hash: string, name?: string}} blob */
function save(url, { hash, name }) {
    const link = make("a");
    link.href = url;
    link.download = linkName(name ?? "").split("/").pop() || hash;
    // Firefox follows a link only in the page.
    document.body.append(link);
    link.click();
    link.remove();
}
