// @ts-check
import { button, focusOn, hasFocus, make, relabel, worded } from "./parts.js";
import { say } from "./say.js";
import { duration, rate, size, t, write } from "./text.js";
import { Row } from "./upload-row.js";

// Short lists keep the order in which files were added; in longer ones it is better to see what is going on.
const SHORT = 20;
// Nobody looks through more.
const MOST = 200;
const MOST_HALTED = 90;
const LEAST_WAITING = 50;
// Milliseconds. Small files end faster than a browser can draw them one by one, and drawing takes time from sending.
const DRAW_EVERY = 100;
const DRAW_MANY_EVERY = 250;
const CHOOSE_EVERY = 1000;
// What the first moments tell of the time that is left is wrong.
const KNOWN_AFTER = 3000;
const FOCUSABLE = "button:not([hidden]), a[href]";

/** @typedef {import("./upload.js").Upload} Upload */
/** @typedef {import("./queue.js").Queue} Queue */

/** @typedef {{element: HTMLElement, row: Row | null, rank: number}} Shown */

/**
 * Draw the uploads: a summary with what can be done to all, and a row for each of the most important.
 *
 * @param {HTMLElement} root
 * @param {Queue} queue
 * @param {{pausable: boolean, result: (upload: Upload) => HTMLElement}} how `result` makes the line of a stored file
 */
export function showQueue(root, queue, { pausable, result }) {
    /** @param {string} name @returns {any} */
    const part = (name) => root.querySelector(`#queue-${name}`);
    const [title, list, rest, facts, progress] = ["title", "files", "rest", "facts", "progress"].map(part);
    /** @type {Map<Upload, Shown>} */
    const shown = new Map();
    /** @type {Set<Upload>} */
    const changed = new Set();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let planned;
    let drawnAt = -Infinity;
    let chosenAt = -Infinity;
    let chooseAgain = false;

    let since = Infinity;
    // Whether everything that is unfinished pauses.
    let halted = false;

    const pause = button({ icon: "pause", words: true, does: "pause-all", label: () => t("queue.pause"),
        onClick: () => (halted ? queue.goOnAll() : queue.pauseAll()) });
    const retry = button({ icon: "retry", words: true, does: "retry-all", label: () => t("queue.retry"),
        onClick: () => queue.retryAll() });
    const clear = button({ icon: "check", words: true, does: "clear", label: () => t("queue.clear"),
        onClick: () => queue.clear() });
    const cancel = button({ icon: "close", words: true, does: "cancel-all", label: () => t("queue.cancel"),
        onClick: () => ask() });
    const actions = part("actions");
    /** @type {(() => void) | undefined} what takes the question back */
    let unask;
    actions.append(pause, retry, cancel, clear);

    /** Ask once whether to cancel everything. */
    function ask() {
        const others = [...actions.children];
        const back = () => {
            const hadFocus = actions.contains(document.activeElement);
            actions.replaceChildren(...others);
            unask = undefined;
            if (hadFocus) {
                (cancel.hidden ? title : cancel).focus();
            }
        };
        unask = back;
        const yes = button({ icon: "close", words: true, kind: "danger", does: "cancel-all-now",
            label: () => t("queue.cancel_now"),
            onClick: () => {
                queue.cancelAll();
                back();
                say(() => t("queue.cancelled"));
            } });
        const no = button({ icon: "play", words: true, does: "keep", label: () => t("queue.keep"), onClick: back });
        const group = make("div", "ask", worded("span", "queue.sure"), yes, no);
        group.setAttribute("role", "group");
        write(group, () => t("queue.sure"), "label");
        actions.replaceChildren(group);
        no.focus();
    }

    /** @param {Upload} upload @returns {Shown} */
    function show(upload) {
        const before = shown.get(upload);
        const isStored = upload.state === "done";
        if (before !== undefined && isStored === (before.row === null)) {
            before.row?.draw();
            return before;
        }
        const row = isStored ? null : new Row(upload, queue, pausable);
        const element = row?.element ?? result(upload);
        row?.draw();
        const hadFocus = before !== undefined && hasFocus(before.element);
        before?.element.replaceWith(element);
        if (hadFocus) {
            (element.querySelector(FOCUSABLE) ?? title).focus();
        }
        const now = { element, row, rank: before?.rank ?? -1 };
        shown.set(upload, now);
        return now;
    }

    function choose() {
        chooseAgain = false;
        chosenAt = performance.now();
        const wanted = chosen(queue.uploads);
        const keep = new Set(wanted);
        const rank = queue.uploads.length > SHORT ? rankOf : () => 0;
        const focus = /** @type {HTMLElement} */ (document.activeElement);
        const place = [...list.children].findIndex((element) => element.contains(focus));
        // What stays in the list and keeps its rank is not moved: it need not be laid out anew.
        for (const [upload, one] of shown) {
            if (!keep.has(upload)) {
                one.element.remove();
                shown.delete(upload);
            } else if (one.rank !== rank(upload)) {
                one.element.remove();
            }
        }
        let next = list.firstElementChild;
        for (const upload of wanted) {
            const one = shown.get(upload) ?? show(upload);
            const { element } = one;
            one.rank = rank(upload);
            if (element === next) {
                next = next.nextElementSibling;
            } else {
                list.insertBefore(element, next);
            }
        }
        if (place >= 0 && document.activeElement !== focus) {
            const near = list.children[Math.min(place, list.children.length - 1)];
            const one = focus.isConnected ? focus : near?.querySelector(FOCUSABLE) ?? title;
            one.focus({ preventScroll: true });
        }
        const hadFocus = hasFocus(root);
        root.hidden = queue.uploads.length === 0;
        if (root.hidden) {
            // The words for what was deleted.
            list.replaceChildren();
            if (hadFocus) {
                focusOn(document.getElementById("choose-files"));
            }
        }
        document.body.classList.toggle("busy", !root.hidden);
        drawRest(wanted);
    }

    /** @param {Upload[]} wanted */
    function drawRest(wanted) {
        rest.hidden = wanted.length === queue.uploads.length;
        if (!rest.hidden) {
            const keep = new Set(wanted);
            const counts = { waiting: 0, done: 0, failed: 0 };
            for (const upload of queue.uploads) {
                if (!keep.has(upload)) {
                    const { state } = upload;
                    counts[state === "done" || state === "failed" ? state : "waiting"]++;
                }
            }
            const count = queue.uploads.length - wanted.length;
            write(rest, () => t("queue.rest", { count, ...counts }));
        }
    }

    function draw() {
        planned = undefined;
        drawnAt = performance.now();
        for (const upload of changed) {
            if (shown.has(upload)) {
                show(upload);
            }
        }
        changed.clear();
        if (chooseAgain) {
            if (queue.uploads.length <= MOST || performance.now() - chosenAt > CHOOSE_EVERY) {
                choose();
            } else {
                plan();
            }
        }
    }

    function plan() {
        const every = queue.uploads.length > SHORT ? DRAW_MANY_EVERY : DRAW_EVERY;
        const wait = Math.max(0, drawnAt + every - performance.now());
        planned ??= setTimeout(() => requestAnimationFrame(draw), wait);
    }

    /** @param {HTMLButtonElement} one @param {boolean} is */
    function offer(one, is) {
        if (!is && document.activeElement === one) {
            title.focus();
        }
        one.hidden = !is;
    }

    function drawTotals() {
        const { count, done, failed, waiting, paused, bytes, sent, speed, left, ...of } = queue.totals;
        const active = done + failed < count;
        const running = waiting + of.running > 0;
        since = running ? Math.min(since, performance.now()) : Infinity;
        const isKnown = performance.now() - since > KNOWN_AFTER;
        const states = [
            () => (active ? t("queue.done_of", { done, count }) : done > 0 ? t("queue.all_done", { count: done }) : ""),
            () => (failed > 0 ? t("queue.failed", { count: failed }) : ""),
            () => (active ? t("queue.sent_of", { sent: size(sent), size: size(bytes) }) : done > 0 ? size(bytes) : ""),
            () => (running && speed > 0 ? rate(speed) : ""),
            () => (isKnown && left > 0 && Number.isFinite(left) ? t("queue.left", { time: duration(left) }) : ""),
        ];
        while (facts.children.length < states.length) {
            facts.append(make("span"));
        }
        states.forEach((state, i) => {
            write(facts.children[i], state);
            facts.children[i].hidden = state() === "";
        });
        // One upload tells all of it in its row.
        facts.hidden = count === 1;
        progress.hidden = !active || count === 1;
        progress.value = bytes > 0 ? sent / bytes : done / Math.max(count, 1);
        if (halted !== (paused > 0 && !running)) {
            halted = !halted;
            const [picture, key] = halted ? ["play", "queue.go_on"] : ["pause", "queue.pause"];
            pause.dataset.do = halted ? "go-on-all" : "pause-all";
            relabel(pause, picture, () => t(key));
        }
        offer(pause, active && count > 1);
        offer(retry, failed > 1);
        offer(cancel, active && count - done > 1);
        if (!active) {
            unask?.();
        }
        offer(clear, done > 0);
    }

    let count = 0;
    queue.addEventListener("added", () => {
        chooseAgain = true;
        if (queue.uploads.length < count) {
            // What somebody takes off the list goes at once.
            chosenAt = -Infinity;
        }
        count = queue.uploads.length;
        drawTotals();
        plan();
    });
    queue.addEventListener("changed", (event) => {
        const { detail: upload } = /** @type {CustomEvent<Upload>} */ (event);
        if (upload.state === "cancelled") {
            // It has left the list.
            return;
        }
        changed.add(upload);
        chooseAgain ||= shown.get(upload)?.row?.element.dataset.state !== upload.state;
        plan();
    });
    queue.addEventListener("totals", drawTotals);
}

/** What is under way stands first, then what failed, what waits and what is stored. @param {Upload} upload */
function rankOf({ state }) {
    // What somebody pauses stays under the pointer.
    return state === "failed" ? 1 : state === "waiting" ? 2 : state === "done" ? 3 : 0;
}

/**
 * The uploads that have a row, in order.
 *
 * @param {Upload[]} uploads
 * @returns {Upload[]}
 */
export function chosen(uploads) {
    if (uploads.length <= SHORT) {
        return uploads;
    }
    /** @type {Upload[][]} */
    const ranks = [[], [], [], []];
    for (const upload of uploads) {
        ranks[rankOf(upload)].push(upload);
    }
    const [begun, failed, waiting, stored] = ranks;
    const active = begun.filter(({ state }) => state !== "paused");
    const first = begun.length > MOST_HALTED
        ? [...active, ...begun.filter(({ state }) => state === "paused").slice(0, MOST_HALTED)] : begun;
    first.push(...failed.slice(0, MOST_HALTED));
    const room = MOST - first.length;
    const recent = stored.reverse().slice(0, Math.max(0, room - Math.min(waiting.length, LEAST_WAITING)));
    return [...first, ...waiting.slice(0, room - recent.length), ...recent];
}
