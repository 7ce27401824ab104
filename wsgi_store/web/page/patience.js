// @ts-check
import { Problem } from "./api.js";

/** @typedef {import("./sender.js").Sender} Sender */

// Seconds.
const LONGEST = 30;
// A server or a proxy may ask for no pause at all, or for days.
const LEAST_ASKED = 1;
const MOST_ASKED = 600;
// What fails for a reason that is not known will rarely succeed later.
const FAILURES = 3;
// Failures after which a piece may have been sent for nothing.
const COLLECTED = new Set(["network", "unreadable", "offset_mismatch"]);
// What ends by itself: an upload in use by another request, a service or a proxy that is busy or restarts.
const PASSING = new Set([408, 423, 425, 429, 502, 503, 504]);

/**
 * Send again and again until it succeeds; rejects with a Problem that only a person can solve.
 *
 * @param {Sender} sender
 * @param {AbortSignal} signal
 * @param {() => Promise<string>} send
 * @returns {Promise<string>}
 */
export async function patience(sender, signal, send) {
    const { upload } = sender;
    let failures = 0;
    let waits = 0;
    let reached = 0;
    for (;;) {
        try {
            return await send();
        } catch (reason) {
            signal.throwIfAborted();
            if (!(reason instanceof Problem)) {
                throw reason;
            }
            if (upload.sent > reached) {
                [failures, waits, reached] = [0, 0, upload.sent];
            }
            await requireUnchanged(upload.file);
            // A proxy's limit; the service tells its own.
            if (reason.status === 413 && reason.code === "unreadable" && sender.shrink(true)) {
                continue;
            }
            if (reason.code === "upload_not_found") {
                sender.lose();
            }
            if (!passes(reason) && !(mayPass(reason) && ++failures < FAILURES)) {
                throw reason;
            }
            upload.enter("retrying", signal, reason);
            if (COLLECTED.has(reason.code) && (waits > 0 || reason.code === "offset_mismatch")) {
                // A proxy that collects requests loses the whole piece each time, or has no time for all of it.
                // A browser sends it anew by itself, to a service that has a part of it by then.
                sender.shrink(false);
            }
            await pause(secondsTo(reason, waits), signal);
            waits++;
        }
    }
}

/** How long to wait. @param {Problem} problem @param {number} waits before it */
function secondsTo({ retryAfter }, waits) {
    return retryAfter === null
        ? Math.min(2 ** waits, LONGEST) : Math.min(Math.max(retryAfter, LEAST_ASKED), MOST_ASKED);
}

/** @param {Problem} problem */
function passes({ code, status }) {
    return code === "network" || code === "offset_mismatch" || PASSING.has(status);
}

/** @param {Problem} problem */
function mayPass({ code, status }) {
    return status === 500 || code === "upload_not_found" || code === "incomplete_body";
}

/** Browsers tell a file that changed or went like a broken line. @param {File} file */
async function requireUnchanged(file) {
    const ends = [file.slice(0, 1), file.slice(-1)];
    const read = await Promise.all(ends.map((end) => end.arrayBuffer())).catch(() => []);
    if (read.length === 0 || read.some(({ byteLength }) => byteLength !== Math.min(file.size, 1))) {
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
