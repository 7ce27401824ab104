// @ts-check
import { button, make, relabel } from "./parts.js";
import { duration, rate, size, t, write } from "./text.js";
import { Row } from "./upload-row.js";

// A browser lays out two hundred rows within a frame, and nobody looks through more.
const MOST = 200;
const URGENT = 120;
const RECENT = 40;
// Choosing rows among ten thousand uploads for every one that ends would take the time of a frame.
const CHOOSE_EVERY = 300;
// What the first moments tell of the time that is left is wrong.
const KNOWN_AFTER = 3000;
const FOCUSABLE = "button:not([hidden]), a[href]";
const UNDER_WAY = new Set(["hashing", "sending", "storing", "retrying"]);

/** @typedef {import("./upload.js").Upload} Upload */
/** @typedef {import("./queue.js").Queue} Queue */

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
    /** @type {Map<Upload, {element: HTMLElement, row: Row | null}>} */
    const shown = new Map();
    /** @type {Set<Upload>} */
    const changed = new Set();
    let frame = 0;
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
    part("actions").append(pause, retry, clear);

    /** @param {Upload} upload */
    function show(upload) {
        const before = shown.get(upload);
        if (upload.state === "done") {
            if (before?.row === null) {
                return before.element;
            }
            const element = result(upload);
            const focused = before?.element.contains(document.activeElement);
            before?.element.replaceWith(element);
            if (focused) {
                (element.querySelector(FOCUSABLE) ?? title).focus();
            }
            shown.set(upload, { element, row: null });
            return element;
        }
        let { row } = before ?? { row: null };
        if (row === null) {
            row = new Row(upload, queue, pausable);
            before?.element.replaceWith(row.element);
            shown.set(upload, { element: row.element, row });
        }
        row.draw();
        return row.element;
    }

    function choose() {
        chooseAgain = false;
        chosenAt = performance.now();
        const wanted = chosen(queue.uploads);
        const keep = new Set(wanted);
        const focused = [...list.children].findIndex((element) => element.contains(document.activeElement));
        for (const [upload, { element }] of shown) {
            if (!keep.has(upload)) {
                element.remove();
                shown.delete(upload);
            }
        }
        // The order never changes: what is there already is not moved, and keeps its focus.
        let next = list.firstElementChild;
        for (const upload of wanted) {
            const element = shown.get(upload)?.element ?? show(upload);
            if (element === next) {
                next = next.nextElementSibling;
            } else {
                list.insertBefore(element, next);
            }
        }
        if (focused >= 0 && !list.contains(document.activeElement)) {
            const near = list.children[Math.min(focused, list.children.length - 1)];
            (near?.querySelector(FOCUSABLE) ?? title).focus();
        }
        root.hidden = queue.uploads.length === 0;
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
        frame = 0;
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
        frame ||= requestAnimationFrame(draw);
    }

    /** @param {HTMLButtonElement} one @param {boolean} is */
    function offer(one, is) {
        if (!is && document.activeElement === one) {
            title.focus();
        }
        one.hidden = !is;
    }

    function drawTotals() {
        const { count, done, failed, bytes, sent, speed, left } = queue.totals;
        const paused = queue.uploads.some(({ state }) => state === "paused");
        const active = done + failed < count;
        const running = queue.uploads.some(({ state }) => state === "waiting" || UNDER_WAY.has(state));
        since = running ? Math.min(since, performance.now()) : Infinity;
        const isKnown = performance.now() - since > KNOWN_AFTER;
        const states = [
            () => (active ? t("queue.done_of", { done, count }) : done > 0 ? t("queue.all_done", { count: done }) : ""),
            () => (failed > 0 ? t("queue.failed", { count: failed }) : ""),
            () => (active ? t("queue.sent_of", { sent: size(sent), size: size(bytes) }) : size(bytes)),
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
        progress.hidden = !active;
        progress.value = bytes > 0 ? sent / bytes : done / Math.max(count, 1);
        if (halted !== (paused && !running)) {
            halted = !halted;
            const [picture, key] = halted ? ["play", "queue.go_on"] : ["pause", "queue.pause"];
            pause.dataset.do = halted ? "go-on-all" : "pause-all";
            relabel(pause, picture, () => t(key));
        }
        offer(pause, active && count > 1);
        offer(retry, failed > 1);
        offer(clear, done > 0);
    }

    queue.addEventListener("added", () => {
        chooseAgain = true;
        drawTotals();
        plan();
    });
    queue.addEventListener("changed", (event) => {
        const { detail: upload } = /** @type {CustomEvent<Upload>} */ (event);
        changed.add(upload);
        chooseAgain ||= shown.get(upload)?.row?.element.dataset.state !== upload.state;
        plan();
    });
    queue.addEventListener("totals", drawTotals);
}

/**
 * The uploads that deserve a row, in the order in which they were added: those that are under way, that failed or
 * that pause, then the latest that are stored and the next that wait.
 *
 * @param {Upload[]} uploads
 * @returns {Upload[]}
 */
export function chosen(uploads) {
    if (uploads.length <= MOST) {
        return uploads;
    }
    /** @type {Upload[][]} */
    const [active, urgent, recent, waiting] = [[], [], [], []];
    for (const upload of uploads) {
        const { state } = upload;
        (UNDER_WAY.has(state) ? active : state === "done" ? recent : state === "waiting" ? waiting : urgent).push(upload);
    }
    const first = [...active, ...urgent.slice(0, URGENT), ...recent.slice(-RECENT), ...waiting];
    const more = first.length < MOST ? [...recent.slice(0, -RECENT).reverse(), ...urgent.slice(URGENT)] : [];
    const keep = new Set([...first, ...more].slice(0, MOST));
    return uploads.filter((upload) => keep.has(upload));
}
