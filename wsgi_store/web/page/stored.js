// @ts-check
import { resultLine } from "./line.js";
import { prefixOf } from "./names.js";
import { button, focusOn, hasFocus, icon, make, spoken, worded, wordsFor } from "./parts.js";
import { t, write } from "./text.js";

/** @typedef {import("./line.js").Around} Around */
/** @typedef {import("./line.js").Result} Result */

const PAGE = 25;
const PAUSE = 300;
/** @type {Record<string, number>} */
const DIGITS = { md5: 32, sha1: 40, sha256: 64, sha512: 128, blake2b: 128, blake3: 64 };

/** What is in the store, in pages, and searched by the beginning of a hash; only for who may list. */
export class StoredView {
    /** @param {Around} around */
    constructor(around) {
        this.around = around;
        // The hash after which each page that was turned begins.
        /** @type {string[]} */
        this.turned = [];
        /** @type {string | null} */
        this.following = null;
        this.asked = new AbortController();
        this.field = make("input");
        this.field.type = "search";
        this.field.autocomplete = "off";
        this.field.spellcheck = false;
        this.field.setAttribute("autocapitalize", "none");
        write(this.field, () => t("stored.search_hint"), "hint");
        this.told = spoken("status", "note");
        this.problem = make("div", "note");
        this.list = make("ul", "files");
        this.previous = button({ icon: "previous", label: () => t("stored.previous"), words: true,
            does: "previous", onClick: () => this.turnBack() });
        this.next = button({ icon: "next", label: () => t("stored.next"), words: true,
            does: "next", onClick: () => this.turn() });
        const pages = make("nav", "pages", this.previous, this.next);
        write(pages, () => t("stored.pages"), "label");
        const heading = worded("h2", "stored.title");
        heading.id = "stored-title";
        heading.tabIndex = -1;
        this.heading = heading;
        const label = make("label", "search", icon("search"), worded("span", "stored.search", "visually-hidden"),
            this.field);
        const again = button({ icon: "retry", label: () => t("stored.again"), does: "reload", onClick: () => this.load() });
        this.element = make("section", "panel stored", make("div", "panel-head",
            make("div", "panel-title", heading, again), label), this.told,
            this.problem, this.list, pages);
        this.element.setAttribute("aria-labelledby", heading.id);
        /** @type {ReturnType<typeof setTimeout>} */
        let timer;
        this.field.addEventListener("input", () => {
            clearTimeout(timer);
            timer = setTimeout(() => this.search(), PAUSE);
        });
        around.access.addEventListener("changed", () => this.search());
    }

    /** Whether the list has the whole store, and nobody is about to press something in it. */
    get isWhole() {
        return this.following === null && this.turned.length === 0 && this.field.value === ""
            && !this.element.matches(":hover, :focus-within, [aria-busy]");
    }

    /** Show the first page of what is looked for. */
    search() {
        this.turned = [];
        return this.load();
    }

    async turn() {
        if (this.following !== null) {
            this.turned.push(this.following);
            await this.load();
            this.heading.focus();
        }
    }

    async turnBack() {
        this.turned.pop();
        await this.load();
        this.heading.focus();
    }

    /** Ask for the page again. */
    async load() {
        // An answer to what was typed before must not come after this one.
        this.asked.abort();
        this.element.hidden = !this.around.service.may("list");
        if (this.element.hidden) {
            this.list.replaceChildren();
            return;
        }
        const prefix = prefixOf(this.field.value);
        this.field.setAttribute("aria-invalid", String(prefix === null));
        if (prefix === null) {
            this.show([], null, "stored.no_hash");
            return;
        }
        const { signal } = this.asked = new AbortController();
        this.element.setAttribute("aria-busy", "true");
        try {
            const [found, following] = await this.find(prefix, signal);
            const none = prefix ? "stored.nothing_found" : "stored.nothing";
            const names = await Promise.all(found.map(({ hash }) => this.around.device.nameOf(hash)));
            if (!signal.aborted) {
                this.show(found.map((one, index) => ({ ...one, name: names[index] })), following, none);
            }
        } catch (problem) {
            if (!signal.aborted) {
                this.fail(problem);
            }
        } finally {
            if (!signal.aborted) {
                this.element.removeAttribute("aria-busy");
            }
        }
    }

    /**
     * @param {string} prefix
     * @param {AbortSignal} signal
     * @returns {Promise<[Result[], string | null]>} a page, and the hash after which the next begins
     */
    async find(prefix, signal) {
        const { service } = this.around;
        const asked = new URLSearchParams({ limit: String(PAGE) });
        const after = this.turned.at(-1);
        if (prefix) {
            asked.set("prefix", prefix);
        }
        if (after) {
            asked.set("after", after);
        }
        const { json } = await service.request(`files?${asked}`, { signal });
        /** @type {Result[]} */
        const found = json.files.map((/** @type {any} */ one) =>
            ({ hash: one.hash, size: one.size, time: one.modified }));
        if (found.length === 0 && service.may("read")) {
            found.push(...await this.byOtherName(prefix, signal));
        }
        // The service may not know under which address people reach it, but it knows what follows.
        const following = json.next && new URL(json.next, service.base).searchParams.get("after");
        return [found, following];
    }

    /**
     * The list has the hashes by one algorithm; a whole hash by another one finds its blob all the same.
     *
     * @param {string} hash
     * @param {AbortSignal} signal
     * @returns {Promise<Result[]>}
     */
    async byOtherName(hash, signal) {
        const { service } = this.around;
        if (!service.description.names.some((/** @type {string} */ one) => DIGITS[one] === hash.length)) {
            return [];
        }
        try {
            const { headers } = await service.request(hash, { method: "HEAD", signal });
            const modified = Date.parse(headers.get("Last-Modified") ?? "") / 1000;
            return [{ hash, size: Number(headers.get("Content-Length")), time: modified || undefined }];
        } catch {
            return [];
        }
    }

    /** @param {Result[]} found @param {string | null} following @param {string} none what to say without any */
    show(found, following, none) {
        this.following = following;
        const lines = found.map((one) => resultLine(one, this.around));
        const hadFocus = hasFocus(this.list) || hasFocus(this.problem);
        this.problem.replaceChildren();
        this.list.replaceChildren(...lines);
        if (hadFocus) {
            focusOn(this.heading);
        }
        write(this.told, () => found.length === 0 ? t(none)
            : t(following || this.turned.length ? "stored.page" : "stored.all",
                { count: found.length, page: this.turned.length + 1 }));
        this.previous.disabled = this.turned.length === 0;
        this.next.disabled = following === null;
        /** @type {HTMLElement} */ (this.next.parentElement).hidden = this.previous.disabled && this.next.disabled;
    }

    /** @param {any} problem */
    fail(problem) {
        const words = make("p");
        write(words, () => wordsFor(problem));
        words.setAttribute("role", "alert");
        const isRefused = problem.code === "unauthenticated" || problem.code === "denied";
        const act = isRefused ? () => this.around.access.ask("list") : () => this.load();
        this.problem.replaceChildren(words, button({ icon: isRefused ? "key" : "retry",
            label: () => t(isRefused ? "access.open" : "stored.again"), words: true, onClick: act }));
    }
}
