// @ts-check
import { focusOn, hasFocus, make, notify, spoken, worded } from "./parts.js";
import { apply, sentenceFor, t, write } from "./text.js";

/** @typedef {import("./api.js").Service} Service */
/** @typedef {import("./queue.js").Queue} Queue */
/** @typedef {import("./upload.js").Upload} Upload */

// What the page says of several files, and of one.
const ONE = [["add.drop", "ticket.drop"], ["add.choose", "form.choose"], ["add.files", "ticket.choose"]];

/** @param {string} id */
const part = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** A page that takes one file for somebody else, and shows nothing more. */
export class TicketPage {
    /** @param {Service} service @param {Queue} queue */
    constructor(service, queue) {
        this.service = service;
        this.queue = queue;
        /** Whether nothing more can be sent. */
        this.isClosed = false;
        this.why = worded("p", "ticket.why", "muted");
        this.told = spoken("status", "ticket-told");
        this.told.tabIndex = -1;
        this.title = worded("h2", "ticket.title");
        part("add").before(make("section", "panel ticket", this.title, this.why, this.told));
        document.body.classList.add("one-file");
        for (const [several, one] of ONE) {
            part("add").querySelector(`[data-text="${several}"]`)?.setAttribute("data-text", one);
        }
        apply(part("add"));
        for (const input of document.querySelectorAll("input[type=file]")) {
            /** @type {HTMLInputElement} */ (input).multiple = false;
        }
        queue.addEventListener("changed", (event) => this.follow(/** @type {CustomEvent<Upload>} */ (event).detail));
    }

    /** Ask whether the link is still good; says so if it is not. */
    async check() {
        try {
            await this.service.refresh();
        } catch (problem) {
            this.tell(/** @type {any} */ (problem));
            return;
        }
        if (!this.service.may("write")) {
            this.close(() => `${t("refused.signature.what")} ${t("refused.signature.next")}`);
        }
    }

    /**
     * Whether these files can be taken: one, while no other is under way. What failed makes room.
     *
     * @param {number} count
     */
    takes(count) {
        const { uploads } = this.queue;
        if (count > 1 || uploads.some(({ state }) => state !== "failed")) {
            notify(() => t("ticket.one"), "bad");
            return false;
        }
        for (const upload of [...uploads]) {
            this.queue.cancel(upload);
        }
        return true;
    }

    /** @param {Upload} upload */
    follow({ state, problem }) {
        if (state === "done") {
            write(this.title, () => t("ticket.thanks"));
            this.close(() => t("ticket.arrived"));
        } else if (state === "failed" && problem) {
            // The page announces what the browser read: it is the ticket that wants another hash.
            const isOther = problem.code === "digest_mismatch";
            this.tell(isOther ? { code: "denied", evidence: { reason: "hash" } } : problem);
        } else {
            this.told.textContent = "";
        }
    }

    /** @param {{code: string, evidence?: Record<string, any>}} problem */
    tell(problem) {
        const words = () => {
            const { what, next } = sentenceFor(problem);
            return `${what} ${next}`;
        };
        if (["expired", "used", "signature"].includes(problem.evidence?.reason)) {
            this.close(words);
        } else if (problem.code === "denied") {
            write(this.told, words);
        }
    }

    /** @param {() => string} words */
    close(words) {
        const hadFocus = hasFocus(part("add"));
        this.isClosed = true;
        part("add").hidden = true;
        this.why.hidden = true;
        write(this.told, words);
        if (hadFocus) {
            focusOn(this.told);
        }
    }
}
