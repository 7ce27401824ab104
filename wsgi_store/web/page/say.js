// @ts-check
import { shownName } from "./names.js";
import { percent, sentenceFor, t } from "./text.js";

// Fewer announcements than this would interrupt what a screen reader is reading.
const PAUSE = 3000;
// Long enough to be read by whoever finds the region by hand, too short to be met as news.
const KEPT = 15000;
// Nobody listens to more sentences in one go.
const MOST = 3;

/** @type {(() => string)[]} */
let waiting = [];
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let last = -Infinity;

/**
 * Tell screen readers something, soon and politely; what comes close together is said in one go.
 *
 * @param {() => string} make
 */
export function say(make) {
    waiting.push(make);
    if (waiting.length > MOST) {
        waiting.shift();
    } else if (waiting.length === 1) {
        clearTimeout(timer);
        // Not at once: what happens together should be heard together.
        timer = setTimeout(speak, Math.max(150, last + PAUSE - performance.now()));
    }
}

function speak() {
    const region = /** @type {HTMLElement} */ (document.getElementById("spoken"));
    const sentences = [...new Set(waiting.map((make) => make()))];
    waiting = [];
    last = performance.now();
    region.textContent = sentences.join(" ");
    timer = setTimeout(() => {
        region.textContent = "";
    }, KEPT);
}

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
