// @ts-check
import { shownName } from "./names.js";
import { button, icon, make, relabel } from "./parts.js";
import { say } from "./speak.js";
import { duration, percent, rate, sentenceFor, size, t, write } from "./text.js";

// A browser lays out two hundred rows within a frame, and nobody looks through more.
const MOST = 200;
const URGENT = 120;
const RECENT = 40;
// Choosing rows among ten thousand uploads for every one that ends would take the time of a frame.
const CHOOSE_EVERY = 300;
// Long uploads are spoken of once a minute.
const SPEAK_EVERY = 60_000;

/** @typedef {import("./upload.js").Upload} Upload */
/** @typedef {import("./queue.js").Queue} Queue */

/** @type {Record<string, string>} */
const ICONS = {
    waiting: "clock", hashing: "search", sending: "upload", storing: "sync", retrying: "sync", paused: "pause",
    failed: "alert", done: "check",
};
const FOCUSABLE = "button:not([hidden]), a[href]";
const UNDER_WAY = new Set(["hashing", "sending", "storing", "retrying"]);

/** One upload in the list. Its element, its buttons and their focus stay while its state changes. */
class Row {
    /** @param {Upload} upload @param {Queue} queue @param {boolean} pausable */
    constructor(upload, queue, pausable) {
        this.upload = upload;
        this.queue = queue;
        this.pausable = pausable;
        this.name = shownName(upload.name);
        this.icon = make("span", "file-icon", icon("clock"));
        this.state = make("span");
        this.amount = make("span");
        this.speed = make("span");
        this.left = make("span");
        this.what = make("span");
        this.next = make("span", "next");
        this.problem = make("p", "file-problem", this.what, " ", this.next);
        this.progress = make("progress");
        this.progress.max = 1;
        write(this.progress, () => t("file.progress", { name: this.name }), "label");
        this.main = button({ icon: "pause", label: () => this.say("pause"), onClick: () => this.act() });
        this.end = button({ icon: "close", label: () => this.say("cancel"), onClick: () => this.cancel() });
        this.element = make(
            "li", "file", this.icon,
            make(
                "div", "file-body",
                make("p", "file-name", make("bdi", "", this.name)),
                this.progress,
                make("p", "file-facts", this.state, this.amount, this.speed, this.left),
                this.problem,
            ),
            make("div", "file-actions", this.main, this.end),
        );
        this.drawn = "";
    }

    /** The label of a button: several rows have the same, so each tells its file. @param {string} action */
    say(action) {
        return t("file.of", { action: t(`file.${action}`), name: this.name });
    }

    get action() {
        const { state } = this.upload;
        return state === "failed" ? "retry" : state === "paused" ? "go_on" : "pause";
    }

    act() {
        const { queue, upload } = this;
        const { action } = this;
        if (action === "retry") {
            queue.retry(upload);
        } else if (action === "go_on") {
            queue.goOn(upload);
        } else {
            queue.pause(upload);
        }
    }

    cancel() {
        const { name } = this;
        if (this.upload.state !== "failed") {
            say(() => t("file.cancelled", { name }));
        }
        this.queue.cancel(this.upload);
    }

    draw() {
        const { upload } = this;
        const { state, sent, hashed, size: whole, speed } = upload;
        if (state !== this.drawn) {
            this.drawState(state);
        }
        const sending = state === "sending";
        const partly = sending || state === "paused" || state === "retrying";
        this.progress.value = whole > 0 ? (state === "hashing" ? hashed : sent) / whole : 0;
        write(this.amount, () => partly && sent > 0
            ? t("queue.sent_of", { sent: size(sent), size: size(whole) }) : size(whole));
        this.speed.hidden = !(sending && speed > 0);
        this.left.hidden = this.speed.hidden;
        if (!this.speed.hidden) {
            write(this.speed, () => rate(speed));
            write(this.left, () => t("queue.left", { time: duration((whole - sent) / speed) }));
        }
        this.drawProblem();
    }

    /** @param {string} state */
    drawState(state) {
        this.drawn = state;
        this.element.className = `file ${state}`;
        this.icon.firstElementChild?.setAttribute("class", `icon icon-${ICONS[state]}`);
        write(this.state, () => t(`file.${state}`));
        const { action } = this;
        relabel(this.main, { retry: "retry", go_on: "play", pause: "pause" }[action], () => this.say(action));
        this.main.hidden = action === "pause" && (state === "storing" || (state === "sending" && !this.pausable));
        relabel(this.end, "close", () => this.say(state === "failed" ? "remove" : "cancel"));
        this.progress.hidden = state === "waiting" || state === "failed";
    }

    drawProblem() {
        const { problem } = this.upload;
        this.problem.hidden = problem === null || problem === undefined;
        if (problem) {
            write(this.what, () => sentenceFor(problem).what);
            write(this.next, () => sentenceFor(problem).next);
        }
    }
}

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

    const pause = button({ icon: "pause", words: true, label: () => t("queue.pause"), onClick: () => toggle() });
    const retry = button({
        icon: "retry", words: true, label: () => t("queue.retry"), onClick: () => queue.retryAll(),
    });
    const clear = button({ icon: "check", words: true, label: () => t("queue.clear"), onClick: () => queue.clear() });
    part("actions").append(pause, retry, clear);

    function toggle() {
        if (pause.dataset.does === "go_on") {
            queue.goOnAll();
        } else {
            queue.pauseAll();
        }
    }

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
        const states = [
            () => (active ? t("queue.done_of", { done, count }) : done > 0 ? t("queue.all_done", { count: done }) : ""),
            () => (failed > 0 ? t("queue.failed", { count: failed }) : ""),
            () => (active ? t("queue.sent_of", { sent: size(sent), size: size(bytes) }) : size(bytes)),
            () => (running && speed > 0 ? rate(speed) : ""),
            () => (running && left > 0 && Number.isFinite(left) ? t("queue.left", { time: duration(left) }) : ""),
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
        const does = running || !paused ? "pause" : "go_on";
        if (pause.dataset.does !== does) {
            pause.dataset.does = does;
            relabel(pause, does === "pause" ? "pause" : "play", () => t(`queue.${does}`));
        }
        offer(pause, active && count > 1);
        offer(retry, failed > 1);
        offer(clear, done > 0);
    }

    queue.addEventListener("added", () => {
        chooseAgain = true;
        plan();
    });
    queue.addEventListener("changed", (event) => {
        const { detail: upload } = /** @type {CustomEvent<Upload>} */ (event);
        changed.add(upload);
        chooseAgain ||= shown.get(upload)?.row?.drawn !== upload.state;
        plan();
    });
    queue.addEventListener("totals", drawTotals);
    tell(queue);
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

/** Speak of what one would look up for: failures, a lost connection, the end. @param {Queue} queue */
function tell(queue) {
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
