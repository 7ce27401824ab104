// @ts-check
import { Problem } from "./api.js";
import { button, make, notify, openDialog, spoken, worded } from "./parts.js";
import { say } from "./say.js";
import { sentenceFor, t } from "./text.js";

/** @typedef {import("./api.js").Service} Service */

// What a token may add for somebody who uses the page.
const SCOPES = ["read", "write", "list", "delete", "link"];

/**
 * The token of this page: asked for in a dialog, and kept for the tab, or for the device if the person wants that.
 *
 * Dispatches "changed" when the caller may do other things than before.
 */
export class Access extends EventTarget {
    /** @param {Service} service */
    constructor(service) {
        super();
        this.service = service;
        this.place = `wsgi_store ${service.base.pathname} token`;
        /** @type {Promise<boolean> | undefined} */
        this.asking = undefined;
        addEventListener("storage", (event) => this.onStorage(event));
    }

    /** Whether a token could add anything. */
    get isUseful() {
        // Without signing keys no token allows links.
        const signs = this.service.description.limits.link_expires !== undefined;
        return !SCOPES.every((scope) => this.service.browserMay(scope) || (scope === "link" && !signs));
    }

    /** Use the token that was kept, if it is still valid. */
    async restore() {
        const token = kept("sessionStorage", this.place) ?? kept("localStorage", this.place);
        if (token && this.isUseful) {
            try {
                await this.use(token);
            } catch (problem) {
                if (isRefusal(problem)) {
                    notify(() => t("access.kept_refused"), "bad");
                    await this.forget();
                }
            }
        }
    }

    /**
     * Ask for a token; false if the person has none.
     *
     * @param {string} [scope] what it has to allow
     * @returns {Promise<boolean>}
     */
    ask(scope) {
        // Several uploads may be refused at once.
        this.asking ??= this.openDialog(scope).finally(() => {
            this.asking = undefined;
        });
        return this.asking;
    }

    /** Forget the token, on the device as well. */
    async forget() {
        const had = this.service.credentials.token;
        wipe("sessionStorage", this.place);
        wipe("localStorage", this.place);
        delete this.service.credentials.token;
        // Also when the service cannot be asked.
        this.service.description = { ...this.service.description, scopes: this.service.open };
        if (had) {
            await this.service.refresh().catch(() => {});
        }
        this.dispatchEvent(new Event("changed"));
    }

    /** @param {string} token @param {AbortSignal} [signal] */
    async use(token, signal) {
        const before = this.service.credentials.token;
        this.service.credentials.token = token;
        try {
            await this.service.refresh(signal);
        } catch (problem) {
            this.service.credentials.token = before;
            throw problem;
        }
        this.dispatchEvent(new Event("changed"));
    }

    /**
     * Use a token and keep it; returns what is wrong with it, or "".
     *
     * @param {string} token
     * @param {boolean} onDevice whether to keep it for longer than the tab
     * @param {AbortSignal} signal
     * @param {string} [scope]
     * @returns {Promise<string>}
     */
    async take(token, onDevice, signal, scope) {
        // A header field has no other characters.
        if (!/^[\x21-\x7e]+$/.test(token)) {
            return t("access.wrong");
        }
        try {
            await this.use(token, signal);
        } catch (problem) {
            const isOther = problem instanceof Problem && !isRefusal(problem);
            return isOther ? sentenceFor(problem).what : t("access.wrong");
        }
        keep(onDevice ? "localStorage" : "sessionStorage", this.place, token);
        wipe(onDevice ? "sessionStorage" : "localStorage", this.place);
        return scope && !this.service.may(scope) ? t("access.lacks") : "";
    }

    /** @param {string} [scope] @returns {Promise<boolean>} */
    openDialog(scope) {
        const field = make("input");
        field.type = "password";
        field.id = "token";
        field.autocomplete = "off";
        field.spellcheck = false;
        field.required = true;
        const problem = spoken("alert", "file-problem");
        problem.id = "token-problem";
        field.setAttribute("aria-describedby", problem.id);
        const onDevice = make("input");
        onDevice.type = "checkbox";
        onDevice.checked = kept("localStorage", this.place) !== null;
        const label = worded("label", "access.token");
        label.htmlFor = field.id;
        const send = worded("button", "access.use", "button primary");
        const inUse = make("p", "in-use", worded("span", "access.in_use"), button({
            icon: "trash",
            label: () => t("access.forget"),
            does: "forget-token",
            words: true,
            onClick: async () => {
                dialog.close();
                await this.forget();
                say(() => t("access.forgotten"));
            },
        }));
        inUse.hidden = !this.service.credentials.token;
        const form = make("form", "", worded("p", "access.why", "muted"), inUse,
            make("div", "field", label, field), problem,
            make("label", "choice", onDevice, worded("span", "access.keep")), make("p", "actions", send));
        const dialog = openDialog("access", () => t("access.title"), form);
        const closed = new AbortController();
        dialog.addEventListener("close", () => closed.abort());
        let accepted = false;
        // Sent by the script alone: a form would put the token in a URL.
        form.addEventListener("submit", async (event) => {
            event.preventDefault();
            send.disabled = true;
            problem.textContent = await this.take(field.value.trim(), onDevice.checked, closed.signal, scope);
            if (closed.signal.aborted) {
                return;
            }
            send.disabled = false;
            field.setAttribute("aria-invalid", String(problem.textContent !== ""));
            if (problem.textContent !== "") {
                field.select();
                return;
            }
            accepted = true;
            dialog.close();
            say(() => t("access.accepted"));
        });
        field.focus();
        return new Promise((resolve) => {
            dialog.addEventListener("close", () => resolve(accepted));
        });
    }

    /** @param {StorageEvent} event */
    async onStorage(event) {
        // Other tabs are told only of what is kept for the device.
        if (event.key !== this.place) {
            return;
        }
        const token = kept("localStorage", this.place);
        if (token && !this.service.credentials.token) {
            await this.use(token).catch(() => {});
        } else if (!token && event.oldValue && this.service.credentials.token === event.oldValue) {
            await this.forget();
        }
    }
}

/** @param {unknown} problem */
function isRefusal(problem) {
    return problem instanceof Problem && problem.code === "unauthenticated";
}

// Some browsers refuse storage to a page, even its name: the token then lasts until the page is left.

/** @typedef {"sessionStorage" | "localStorage"} Place */

/** @param {Place} storage @param {string} place */
function kept(storage, place) {
    try {
        return globalThis[storage].getItem(place);
    } catch {
        return null;
    }
}

/** @param {Place} storage @param {string} place @param {string} token */
function keep(storage, place, token) {
    try {
        globalThis[storage].setItem(place, token);
    } catch {
        // The page itself has it.
    }
}

/** @param {Place} storage @param {string} place */
function wipe(storage, place) {
    try {
        globalThis[storage].removeItem(place);
    } catch {
        // Nothing is there.
    }
}
