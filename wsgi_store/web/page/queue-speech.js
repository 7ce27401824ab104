// @ts-check
import { shownName } from "./names.js";
import { say } from "./speak.js";
import { percent, sentenceFor, t } from "./text.js";

// Long uploads are spoken of once a minute.
const SPEAK_EVERY = 60_000;

/** @typedef {import("./upload.js").Upload} Upload */
/** @typedef {import("./queue.js").Queue} Queue */

/** Tell screen readers of failures, of a lost connection and of the end. @param {Queue} queue */
export function speakOf(queue) {
    let ended = true;
    let cut = false;
    let spokenAt = 0;
    queue.addEventListener("changed", (event) => {
        const { detail: upload } = /** @type {CustomEvent<Upload>} */ (event);
        const { state, problem } = upload;
        if (state === "failed" && problem) {
            const name = shownName(upload.name);
            say(() => t("queue.said_failed", { name, what: sentenceFor(problem).what }));
        }
        if (state === "retrying" && !cut) {
            cut = true;
            say(() => t("queue.said_waiting"));
        } else if (state === "sending" && upload.sent > 0 && cut) {
            cut = false;
            say(() => t("queue.said_going"));
        }
    });
    queue.addEventListener("totals", () => {
        const { count, done, failed, bytes, sent } = queue.totals;
        const now = performance.now();
        if (done + failed < count) {
            if (ended) {
                ended = false;
                spokenAt = now;
            } else if (now - spokenAt > SPEAK_EVERY && bytes > 0) {
                spokenAt = now;
                say(() => t("queue.said_progress", { percent: percent(sent / bytes) }));
            }
        } else if (!ended) {
            ended = true;
            if (count > 0) {
                say(() => failed === 0
                    ? t("queue.said_done", { count }) : t("queue.said_ended", { done, failed }));
            }
        }
    });
}
