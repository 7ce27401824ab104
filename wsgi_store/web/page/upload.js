// @ts-check
import { Problem } from "./api.js";
import { digestOf } from "./hash.js";
import { HASH_FIRST, Sender } from "./sender.js";
import { Speed } from "./totals.js";

/**
 * @typedef {"waiting" | "hashing" | "sending" | "storing" | "retrying" | "paused" | "done" | "failed" | "cancelled"} State
 * @typedef {{hash: string, size: number, name: string}} Result
 */

let last = 0;

/** One file on its way to the store. Dispatches "changed". */
export class Upload extends EventTarget {
    /**
     * @param {File} file
     * @param {string} name
     * @param {import("./api.js").Service} service
     * @param {import("./unfinished.js").Unfinished} unfinished
     */
    constructor(file, name, service, unfinished) {
        super();
        this.id = ++last;
        this.file = file;
        this.name = name;
        this.size = file.size;
        this.service = service;
        this.unfinished = unfinished;
        /** @type {State} */
        this.state = "waiting";
        /** Bytes that the server has or that are on their way. */
        this.sent = 0;
        /** Bytes that this page has sent, some perhaps twice. */
        this.moved = 0;
        this.hashed = 0;
        this.rate = new Speed(0.3);
        /** The hash that this browser computed; null if it has not, or cannot. @type {string | null} */
        this.hash = null;
        /** The algorithm of that hash. @type {string} */
        this.algorithm = "";
        /** @type {Result | null} */
        this.result = null;
        /** Whether the store had the file already. */
        this.held = false;
        /** @type {Problem | null} */
        this.problem = null;
        this.sender = new Sender(this);
        /** The hash of the stored file, as the server tells it. @type {string | undefined} */
        this.stored = undefined;
        /** @type {AbortController | undefined} */
        this.control = undefined;
        /** @type {{control: AbortController, hash: Promise<string | null>, begun: Promise<boolean>} | undefined} */
        this.hashing = undefined;
        /** @type {PromiseWithResolvers<void> | undefined} */
        this.pausing = undefined;
    }

    /** Bytes per second; 0 if it is not known or nothing moves. */
    get speed() {
        return this.state === "sending" ? this.rate.value : 0;
    }

    /** @param {State} state @param {Problem | null} [problem] */
    become(state, problem = null) {
        this.state = state;
        this.problem = problem;
        this.dispatchEvent(new Event("changed"));
    }

    /**
     * Become what a run has come to, unless that was paused or cancelled: then throws.
     *
     * @param {State} state
     * @param {AbortSignal} signal
     * @param {Problem | null} [problem]
     */
    enter(state, signal, problem = null) {
        signal.throwIfAborted();
        this.become(state, problem);
    }

    /** Send the file; ends when it is stored, failed, paused or cancelled. */
    async run() {
        const { signal } = (this.control = new AbortController());
        this.pausing?.resolve();
        this.pausing = undefined;
        this.rate.begin(this.moved);
        try {
            await this.store(signal);
            this.sent = this.size;
            this.enter("done", signal);
        } catch (reason) {
            if (!signal.aborted) {
                const unforeseen = () => new Problem("internal_error", 0, { reason: String(reason) });
                this.become("failed", reason instanceof Problem ? reason : unforeseen());
            }
        }
    }

    pause() {
        this.pausing ??= Promise.withResolvers();
        this.control?.abort();
        this.become("paused");
    }

    cancel() {
        this.control?.abort();
        this.become("cancelled");
        this.restart();
    }

    /** Begin anew at the next run. */
    restart() {
        this.hashing?.control.abort();
        this.pausing?.resolve();
        if (this.stored === undefined) {
            this.sender.discard();
        } else {
            this.sender.lose();
        }
        Object.assign(this, { hashing: undefined, hash: null, hashed: 0, sent: 0, stored: undefined });
    }

    /** @param {AbortSignal} signal */
    async store(signal) {
        this.requireAllowed();
        if (this.stored === undefined) {
            if (this.size <= HASH_FIRST) {
                this.enter("hashing", signal);
                await until(this.computed(), signal);
            } else {
                void this.computed();
            }
            this.stored = await this.sender.send(signal);
            this.unfinished.forget(this.file, this.name);
        }
        this.enter("storing", signal);
        await this.compare(this.stored, signal);
        this.result = { hash: this.stored, size: this.size, name: this.name };
    }

    /** Refuse what the server would refuse after bytes were sent. */
    requireAllowed() {
        const { description: { scopes }, credentials } = this.service;
        this.requireFits();
        if (scopes?.includes("write") === false && !credentials.token && !credentials.ticket) {
            throw new Problem("unauthenticated", 401);
        }
    }

    /** Fail at once, not at its turn, if the file is too large. */
    check() {
        try {
            this.requireFits();
        } catch (problem) {
            this.become("failed", /** @type {Problem} */ (problem));
        }
    }

    requireFits() {
        const limit = this.service.description.limits.max_size;
        if (limit !== null && this.size > limit) {
            throw new Problem("too_large", 413, { limit });
        }
    }

    /** Compare the hash of the stored file with that of this browser. @param {string} stored @param {AbortSignal} signal */
    async compare(stored, signal) {
        const own = await until(this.computed(), signal);
        if (own === null || own === stored) {
            return;
        }
        await this.service.refresh();
        if (this.algorithm === this.service.description.algorithm) {
            throw new Problem("hash_mismatch", 0, { expected: own, actual: stored });
        }
        // The store has another algorithm since the page was opened.
        this.hashing = undefined;
        await this.compare(stored, signal);
    }

    /** Hash the file, unless that was begun; null if this browser cannot. */
    computed() {
        return (this.hashing ??= this.startHashing()).hash;
    }

    /** Whether this browser can hash, which is known once it has begun. @param {AbortSignal} signal */
    async canHash(signal) {
        void this.computed();
        return until(/** @type {any} */ (this.hashing).begun, signal);
    }

    startHashing() {
        const control = new AbortController();
        /** @type {PromiseWithResolvers<boolean>} */
        const begun = Promise.withResolvers();
        this.algorithm = this.service.description.algorithm;
        const hash = digestOf(this.file, this.algorithm, {
            signal: control.signal,
            before: async () => this.pausing?.promise,
            onProgress: (hashed) => {
                begun.resolve(true);
                this.hashed = hashed;
                this.dispatchEvent(new Event("changed"));
            },
        }).then((hex) => (this.hash = hex), (problem) => {
            begun.resolve(false);
            if (problem.code === "hash_unavailable") {
                return null;
            }
            if (this.hashing?.control === control) {
                this.hashing = undefined;
            }
            throw problem;
        });
        // Whoever needs the hash asks for it.
        hash.catch(() => {});
        return { control, hash, begun: begun.promise };
    }

    /** The server has this much. @param {number} offset */
    reach(offset) {
        this.sent = offset;
        this.rate.restart(this.moved);
        this.dispatchEvent(new Event("changed"));
    }

    /** This much is sent. @param {number} sent */
    progress(sent) {
        this.moved += Math.max(sent - this.sent, 0);
        this.sent = sent;
        this.rate.measure(this.moved);
        this.dispatchEvent(new Event("changed"));
    }

    /** Notice that nothing moves any more. */
    look() {
        const { speed } = this;
        this.rate.measure(this.moved);
        if (speed > 0 && this.speed === 0) {
            this.dispatchEvent(new Event("changed"));
        }
    }
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
function until(promise, signal) {
    return new Promise((resolve, reject) => {
        signal.throwIfAborted();
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        promise.then(resolve, reject);
    });
}
