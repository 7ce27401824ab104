// @ts-check
import { shownName } from "./names.js";
import { button, icon, make, relabel } from "./parts.js";
import { say } from "./say.js";
import { duration, rate, sentenceFor, size, t, write } from "./text.js";

/** @typedef {import("./upload.js").Upload} Upload */
/** @typedef {import("./queue.js").Queue} Queue */

/** @type {Record<string, string>} */
const ICONS = {
    waiting: "clock", hashing: "search", sending: "upload", storing: "sync", retrying: "sync", paused: "pause",
    failed: "alert",
};

/** @typedef {{icon: string, key: string, does: string, act: (queue: Queue, upload: Upload) => void}} Action */

/** @type {Action} */
const PAUSE = { icon: "pause", key: "file.pause", does: "pause", act: (queue, upload) => queue.pause(upload) };
/** @type {Action} */
const GO_ON = { icon: "play", key: "file.go_on", does: "go-on", act: (queue, upload) => queue.goOn(upload) };
/** @type {Action} */
const RETRY = { icon: "retry", key: "file.retry", does: "retry", act: (queue, upload) => queue.retry(upload) };

// Trying again would fail again: the file has to be another one.
const LASTING = new Set(["too_large", "digest_collision", "file_changed"]);

/** An upload in the list. Its element, its buttons and their focus stay while its state changes. */
export class Row {
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
        this.main = button({ icon: "pause", label: () => "", words: true,
            onClick: () => this.action.act(this.queue, this.upload) });
        this.end = button({ icon: "close", label: () => "", does: "cancel", onClick: () => this.cancel() });
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
        this.element.dataset.upload = String(upload.id);
    }

    /** The label of a button: several rows have the same, so each tells its file. @param {string} key */
    label(key) {
        return t("file.of", { action: t(key), name: this.name });
    }

    get action() {
        const { state } = this.upload;
        return state === "failed" ? RETRY : state === "paused" ? GO_ON : PAUSE;
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
        if (state !== this.element.dataset.state) {
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
        this.element.dataset.state = state;
        this.icon.firstElementChild?.setAttribute("class", `icon icon-${ICONS[state]}`);
        write(this.state, () => t(`state.${state}`));
        const { action } = this;
        relabel(this.main, action.icon, () => this.label(action.key), () => t(action.key));
        this.main.dataset.do = action.does;
        // What is wrong is mended by one button, which stands out.
        this.main.className = action === RETRY ? "button again" : "button only-icon";
        this.main.hidden = action === PAUSE
            ? state === "storing" || (state === "sending" && !this.pausable)
            : action === RETRY && LASTING.has(this.upload.problem?.code ?? "");
        if (this.main.hidden && document.activeElement === this.main) {
            this.end.focus();
        }
        relabel(this.end, "close", () => this.label(state === "failed" ? "file.remove" : "file.cancel"));
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
