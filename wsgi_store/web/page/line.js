// @ts-check
import { Problem } from "./api.js";
import { download, FITS } from "./download.js";
import { addressOf, shownName } from "./names.js";
import { button, copyButton, focusOn, hasFocus, icon, make, spoken, worded, wordsFor } from "./parts.js";
import { isShowable, preview } from "./preview.js";
import { say } from "./say.js";
import { addressField, linkFor, shareBlob } from "./share.js";
import { date, percent, size, t, write } from "./text.js";

/** @typedef {import("./api.js").Service} Service */

/**
 * A blob as a line shows it: `time` in seconds since the epoch; `compared` if the browser has computed the hash
 * itself; `created` is false if the store had it already.
 *
 * @typedef {{hash: string, size: number, name?: string, time?: number, compared?: boolean, created?: boolean}} Result
 */

/**
 * What the lines of a page share: `device` is told what was deleted, and `ask` for a token.
 *
 * @typedef {{service: Service, device: import("./device.js").Device, access: import("./access.js").Access}} Around
 */

/**
 * Draw a blob with all that can be done to it.
 *
 * @param {Result} result
 * @param {Around} around
 * @returns {HTMLLIElement}
 */
export function resultLine(result, around) {
    return new Line(result, around).element;
}

/** Take a blob that is gone off the page, and out of the memory of this device. @param {Around} around */
export function removeLinesOfDeleted({ device }) {
    device.addEventListener("gone", (event) => {
        const hash = /** @type {CustomEvent<string>} */ (event).detail;
        for (const line of document.querySelectorAll(`li[data-hash="${CSS.escape(hash)}"]`)) {
            const hadFocus = hasFocus(line);
            const heading = line.closest("section")?.querySelector("h2");
            line.remove();
            if (hadFocus) {
                focusOn(heading);
            }
        }
    });
}

class Line {
    /** @param {Result} result @param {Around} around */
    constructor(result, around) {
        this.result = result;
        this.around = around;
        this.problem = spoken("alert", "file-problem");
        this.below = make("div", "file-below");
        this.transfer = make("div", "file-transfer");
        this.actions = make("div", "file-actions");
        const { name, compared } = result;
        const body = make("div", "file-body", ...(name ? [this.name(name)] : []), this.facts(), this.identity(),
            this.problem, this.transfer, this.below);
        const picture = make("span", "file-icon", icon(compared ? "check" : "file"));
        this.element = make("li", `file blob ${compared ? "done" : ""}`.trim(), picture, body, this.actions);
        this.element.dataset.hash = result.hash;
        this.drawActions();
    }

    /** How people call it. */
    get shown() {
        return shownName(this.result.name || `${this.result.hash.slice(0, 12)}…`);
    }

    get service() {
        return this.around.service;
    }

    /** @param {string} name */
    name(name) {
        const words = make("bdi", "", shownName(name));
        return make("p", "file-name", this.linked(words, name));
    }

    /** @param {HTMLElement} words @param {string} [name] */
    linked(words, name) {
        if (!this.service.browserMay("read")) {
            // The browser's own request would go without the token.
            return words;
        }
        const link = make("a", "", words);
        link.href = addressOf(this.service.base, this.result.hash, name);
        return link;
    }

    facts() {
        const { time, compared, created } = this.result;
        const facts = [
            () => size(this.result.size),
            ...(time === undefined ? [] : [() => date(time)]),
            ...(created === false ? [() => t("line.held")] : []),
            ...(compared ? [() => t("line.compared")] : []),
        ];
        return make("p", "file-facts", ...facts.map((words) => {
            const fact = make("span");
            write(fact, words);
            return fact;
        }));
    }

    identity() {
        const { hash, name } = this.result;
        const code = make("code", "hash", hash);
        const copied = copyButton({
            label: () => t("line.copy_hash", { name: this.shown }),
            does: "copy-hash",
            text: () => hash,
            failed: () => this.copyByHand(hash),
        });
        return make("div", "identity", name ? code : this.linked(code), copied);
    }

    drawActions() {
        const { service, result } = this;
        const mayRead = service.may("read");
        this.actions.replaceChildren(
            copyButton({
                icon: "link",
                does: "copy-link",
                words: () => t("line.link"),
                kind: "link",
                label: () => t("line.copy_link", { name: this.shown }),
                text: () => this.linkToCopy(),
                failed: (problem, text) => (text === undefined ? this.tell(problem) : this.copyByHand(text)),
            }),
            ...(mayRead && service.may("link") && !service.everybodyMay("read")
                ? [this.button("clock", "share", () => shareBlob(service, result.hash, result.name))] : []),
            ...(mayRead && isShowable(result)
                ? [this.button("eye", "preview", () => preview(service, result))] : []),
            ...(mayRead ? [this.button("download", "download", () => this.download())] : []),
            ...(service.may("delete") ? [this.button("trash", "delete", () => this.ask())] : []),
        );
    }

    /** @param {string} picture @param {string} does @param {() => unknown} onClick */
    button(picture, does, onClick) {
        return button({ icon: picture, label: () => t(`line.${does}`, { name: this.shown }), does, onClick });
    }

    async linkToCopy() {
        const { url, expires, isClosed } = await linkFor(this.service, this.result.hash, this.result.name);
        if (isClosed) {
            this.note("line.closed");
        } else if (expires) {
            this.note("line.until", { date: date(expires) });
        }
        return url;
    }

    /** @param {string} key @param {Record<string, unknown>} [values] */
    note(key, values) {
        const note = make("p", "muted");
        write(note, () => t(key, values));
        this.below.replaceChildren(note);
        say(() => t(key, values));
    }

    /** @param {string} text */
    copyByHand(text) {
        const field = addressField(text);
        this.below.replaceChildren(worded("p", "copy.by_hand", "muted"), field);
        field.focus();
    }

    /** @param {unknown} problem */
    async tell(problem) {
        if (problem instanceof DOMException && problem.name === "AbortError") {
            return;
        }
        if (isGone(problem)) {
            this.leave("line.was_gone");
            return;
        }
        write(this.problem, () => wordsFor(problem));
        if (problem instanceof Problem && (problem.code === "unauthenticated" || problem.code === "denied")) {
            await this.around.access.ask();
        }
    }

    async download() {
        if (this.transfer.hasChildNodes()) {
            return;
        }
        const stopped = new AbortController();
        const bar = make("progress");
        bar.max = this.result.size;
        const told = make("span", "muted");
        const row = make("div", "loading", bar, told,
            button({ icon: "close", label: () => t("line.stop"), does: "stop", onClick: () => stopped.abort() }));
        write(bar, () => t("line.loading", { name: this.shown }), "label");
        const onProgress = (/** @type {number} */ received) => {
            if (!row.isConnected) {
                this.transfer.replaceChildren(row);
            }
            bar.value = received;
            told.textContent = percent(received / this.result.size);
        };
        this.problem.textContent = "";
        try {
            if (!await download(this.service, this.result, { signal: stopped.signal, onProgress })) {
                this.note("line.does_not_fit", { limit: size(FITS) });
            }
        } catch (problem) {
            this.tell(problem);
        } finally {
            const hadFocus = hasFocus(this.transfer);
            this.transfer.replaceChildren();
            if (hadFocus) {
                focusOn(this.actions.querySelector("[data-do=download]"), this.below.querySelector("button"));
            }
        }
    }

    /** Ask once, in place, before the blob is deleted for everybody. */
    ask() {
        const question = make("p");
        write(question, () => t("line.sure", { name: this.shown }));
        const yes = button({ icon: "trash", label: () => t("line.delete_now"), words: true, kind: "danger",
            does: "delete-now", onClick: () => this.delete() });
        const no = button({ icon: "close", label: () => t("line.keep"), words: true,
            does: "keep", onClick: () => this.stay() });
        const group = make("div", "ask", question, yes, no);
        group.setAttribute("role", "group");
        write(group, () => t("line.sure", { name: this.shown }), "label");
        group.addEventListener("keydown", (event) => {
            if (event.key === "Escape") {
                this.stay();
            }
        });
        this.actions.hidden = true;
        this.below.replaceChildren(group);
        no.focus();
    }

    stay() {
        this.below.replaceChildren();
        this.actions.hidden = false;
        /** @type {HTMLElement | null} */ (this.actions.lastElementChild)?.focus();
    }

    async delete() {
        for (const one of this.below.querySelectorAll("button")) {
            one.disabled = true;
        }
        try {
            await this.service.request(this.result.hash, { method: "DELETE" });
        } catch (problem) {
            this.stay();
            this.tell(problem);
            return;
        }
        this.leave("line.deleted");
    }

    /** Leave a word in the place of the line, from which keyboard and screen reader go on. @param {string} key */
    leave(key) {
        const word = make("li", "file gone");
        write(word, () => t(key, { name: this.shown }));
        word.tabIndex = -1;
        const hadFocus = hasFocus(this.element) || document.activeElement === document.body;
        this.element.replaceWith(word);
        this.around.device.gone(this.result.hash);
        say(() => t(key, { name: this.shown }));
        if (hadFocus) {
            word.focus();
        }
    }
}

/** @param {unknown} problem */
function isGone(problem) {
    return problem instanceof Problem && (problem.code === "blob_not_found" || problem.status === 404);
}
