// @ts-check
import { Problem } from "./api.js";

/** @typedef {import("./upload.js").Upload} Upload */

// Seconds.
const LONGEST = 30;
// A server that fails will rarely succeed later.
const FAILURES = 3;
// What ends by itself: an upload in use by another request, a service or a proxy that is busy or restarts.
const PASSING = new Set([408, 409, 423, 425, 429, 502, 503, 504]);

/**
 * Do something again and again until it succeeds; rejects with a Problem that only a person can end.
 *
 * @param {Upload} upload
 * @param {AbortSignal} signal
 * @param {() => Promise<string>} work
 * @returns {Promise<string>}
 */
export async function patience(upload, signal, work) {
    let failures = 0;
    let waits = 0;
    let reached = 0;
    for (;;) {
        try {
            return await work();
        } catch (reason) {
            signal.throwIfAborted();
            if (!(reason instanceof Problem)) {
                throw reason;
            }
            if (upload.sent > reached) {
                [failures, waits, reached] = [0, 0, upload.sent];
            }
            await requireReadable(upload.file);
            // A proxy's limit; the service tells its own.
            if (reason.status === 413 && reason.code === "unreadable" && upload.shrink()) {
                continue;
            }
            const passes = reason.code === "network" || PASSING.has(reason.status);
            if (!passes && !(reason.status === 500 && ++failures < FAILURES)) {
                throw reason;
            }
            upload.become("retrying", reason);
            await pause(reason.retryAfter ?? Math.min(2 ** waits, LONGEST), signal);
            waits++;
        }
    }
}

/** Browsers tell a file that changed or went like a broken line. @param {File} file */
async function requireReadable(file) {
    try {
        await file.slice(0, 1).arrayBuffer();
    } catch {
        throw new Problem("file_changed");
    }
}

/** Wait, or until the line is back. @param {number} seconds @param {AbortSignal} signal */
function pause(seconds, signal) {
    return new Promise((resolve, reject) => {
        const end = () => {
            clearTimeout(timer);
            removeEventListener("online", end);
            signal.removeEventListener("abort", end);
            if (signal.aborted) {
                reject(signal.reason);
            } else {
                resolve(undefined);
            }
        };
        const timer = setTimeout(end, seconds * 1000);
        addEventListener("online", end);
        signal.addEventListener("abort", end);
    });
}
