// @ts-check
import { Problem } from "./api.js";
import { digestOf } from "./hash.js";
import { linkName } from "./names.js";
import { patience } from "./patience.js";

// One request is cheaper than asking first.
const SMALL = 64 << 10;
// Hashing this much takes less than a request; more is hashed while it is sent.
const HASH_FIRST = 32 << 20;
// Proxies of the internet often take 100 MB.
const PIECE = 64 << 20;
const LEAST_PIECE = 512 << 10;
const TUS = { "Tus-Resumable": "1.0.0" };
/** @type {Record<string, string>} */
const DIGESTS = { md5: "md5", sha1: "sha", sha256: "sha-256", sha512: "sha-512" };

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
        this.hashed = 0;
        /** Bytes per second. */
        this.speed = 0;
        /** The hash that this browser computed; null if it has not, or cannot. @type {string | null} */
        this.hash = null;
        /** @type {Result | null} */
        this.result = null;
        /** Whether the store had the file already. */
        this.held = false;
        /** @type {Problem | null} */
        this.problem = null;
        this.control = new AbortController();
        /** @type {Promise<string | null> | undefined} */
        this.hashing = undefined;
        this.hashControl = new AbortController();
        /** @type {PromiseWithResolvers<void> | undefined} */
        this.pausing = undefined;
        /** The id of the upload at the server. @type {string | undefined} */
        this.at = undefined;
        // Whether the server knows the hash of the upload.
        this.announced = false;
        /** @type {Promise<{at: string, offset: number, stored?: string} | null> | undefined} */
        this.elsewhere = undefined;
        this.piece = PIECE;
        this.measured = { time: 0, sent: 0 };
    }

    /** @param {State} state @param {Problem | null} [problem] */
    become(state, problem = null) {
        this.state = state;
        this.problem = problem;
        this.dispatchEvent(new Event("changed"));
    }

    /** Send the file; ends when it is stored, failed, paused or cancelled. */
    async run() {
        const control = (this.control = new AbortController());
        const { signal } = control;
        this.pausing?.resolve();
        this.pausing = undefined;
        this.measured = { time: performance.now(), sent: this.sent };
        try {
            await this.send(signal);
            signal.throwIfAborted();
            this.sent = this.size;
            this.unfinished.forget(this.file, this.name);
            this.become("done");
        } catch (reason) {
            if (!signal.aborted) {
                const unforeseen = () => new Problem("internal_error", 0, { reason: String(reason) });
                this.become("failed", reason instanceof Problem ? reason : unforeseen());
            }
        } finally {
            this.speed = 0;
        }
    }

    pause() {
        this.pausing ??= Promise.withResolvers();
        this.control.abort();
        this.become("paused");
    }

    cancel() {
        this.control.abort();
        this.hashControl.abort();
        this.become("cancelled");
        this.discard();
        this.unfinished.forget(this.file, this.name);
    }

    /** Begin anew, at the next run, what failed because its bytes were not as announced. */
    restart() {
        this.hashControl.abort();
        this.hashControl = new AbortController();
        Object.assign(this, { hashing: undefined, hash: null, hashed: 0, sent: 0 });
        this.discard();
    }

    /** Remove what the server has of an unfinished upload. */
    discard() {
        const { at } = this;
        this.at = undefined;
        this.announced = false;
        this.elsewhere = undefined;
        if (at !== undefined) {
            this.service.request(`uploads/${at}`, { method: "DELETE", headers: TUS }).catch(() => {});
        }
    }

    /** Hash the file, unless that was begun; null if this browser cannot. */
    computed() {
        this.hashing ??= digestOf(this.file, this.service.description.algorithm, {
            signal: this.hashControl.signal,
            before: async () => this.pausing?.promise,
            onProgress: (hashed) => {
                this.hashed = hashed;
                this.dispatchEvent(new Event("changed"));
            },
        }).then((hash) => (this.hash = hash), (problem) => {
            if (problem.code === "hash_unavailable") {
                return null;
            }
            this.hashing = undefined;
            throw problem;
        });
        this.hashing.catch(() => {});
        return this.hashing;
    }

    /** @param {AbortSignal} signal */
    async send(signal) {
        const { description } = this.service;
        const limit = description.limits.max_size;
        if (limit !== null && this.size > limit) {
            throw new Problem("too_large", 413, { limit });
        }
        if (this.size <= HASH_FIRST) {
            this.become("hashing");
            await until(this.computed(), signal);
        } else {
            void this.computed();
            this.at ??= this.unfinished.find(this.file, this.name);
        }
        const resumable = "uploads" in description.links && this.size > SMALL;
        const hash = await patience(this, signal, () => (resumable ? this.resume(signal) : this.post(signal)));
        this.become("storing");
        await this.compare(hash, signal);
    }

    /** @param {string} hash that of the stored file @param {AbortSignal} signal */
    async compare(hash, signal) {
        const own = await until(this.computed(), signal);
        if (own !== null && own !== hash) {
            throw new Problem("hash_mismatch", 0, { expected: own, actual: hash });
        }
        this.result = { hash, size: this.size, name: this.name };
    }

    /** Send the file in one request; returns its hash. @param {AbortSignal} signal */
    async post(signal) {
        this.become("sending");
        const { json } = await this.service.request(this.withHash(""), {
            method: "POST",
            headers: { "Content-Type": "application/octet-stream" },
            body: this.file,
            signal,
            onProgress: (sent) => this.progress(sent),
        });
        this.held = !json.created;
        return json.hash;
    }

    /** Create an upload or go on with one until its file is stored; returns the hash. @param {AbortSignal} signal */
    async resume(signal) {
        let reached = await (this.at === undefined ? this.create(signal) : this.look(signal));
        while (typeof reached === "number") {
            this.become("sending");
            this.progress(reached);
            reached = await this.append(reached, signal);
        }
        return reached;
    }

    /** @param {AbortSignal} signal @returns {Promise<number | string>} the offset, or the hash of what is stored */
    async create(signal) {
        const hash = this.hash;
        const { at, offset, stored } = await this.ask(signal);
        if (stored !== undefined) {
            this.held = true;
            return stored;
        }
        this.take(at, hash !== null);
        return offset;
    }

    /** @param {string} at @param {boolean} announced whether the server knows the hash of this upload */
    take(at, announced) {
        this.at = at;
        this.announced = announced;
        if (this.size > HASH_FIRST) {
            this.unfinished.remember(this.file, this.name, at);
        }
    }

    /**
     * Create an upload, or find that of the same content.
     *
     * @param {AbortSignal} signal
     * @returns {Promise<{at: string, offset: number, stored?: string}>}
     */
    async ask(signal) {
        const { headers } = await this.service.request(this.withHash("uploads"), {
            method: "POST",
            headers: { ...TUS, "Upload-Length": String(this.size), "Upload-Metadata": `filename ${base64(linkName(this.name))}` },
            signal,
        });
        return {
            at: lastOf(headers.get("Location")) ?? "",
            offset: Number(headers.get("Upload-Offset")),
            stored: lastOf(headers.get("Content-Location")),
        };
    }

    /** @param {AbortSignal} signal @returns {Promise<number | string>} the offset, or the hash of what is stored */
    async look(signal) {
        try {
            const { json } = await this.service.request(`uploads/${this.at}`, { headers: TUS, signal });
            // The device may remember the upload of another file that had the same name, size and time.
            return json.length !== null && json.length !== this.size ? this.anew(signal) : json.hash ?? json.offset;
        } catch (problem) {
            if (problem instanceof Problem && problem.status === 404) {
                return this.anew(signal);
            }
            throw problem;
        }
    }

    /** @param {AbortSignal} signal */
    anew(signal) {
        this.at = undefined;
        this.announced = false;
        this.unfinished.forget(this.file, this.name);
        return this.create(signal);
    }

    /**
     * Send a piece.
     *
     * @param {number} offset
     * @param {AbortSignal} signal
     * @returns {Promise<number | string>} the offset, or the hash of what is stored
     */
    async append(offset, signal) {
        // Asked while the piece is sent, and only once for an upload.
        const stop = new AbortController();
        this.elsewhere ??= this.announced ? NOTHING : this.lookElsewhere(signal);
        void this.elsewhere.then((found) => found !== null && stop.abort());
        const digest = this.announced ? undefined : this.digestField();
        try {
            const { headers } = await this.service.request(`uploads/${this.at}`, {
                method: "PATCH",
                headers: {
                    ...TUS,
                    "Content-Type": "application/offset+octet-stream",
                    "Upload-Offset": String(offset),
                    ...(digest && { "Repr-Digest": digest }),
                },
                body: this.file.slice(offset, Math.min(offset + this.piece, this.size)),
                signal: AbortSignal.any([signal, stop.signal]),
                onProgress: (sent) => this.progress(offset + sent),
            });
            this.announced ||= digest !== undefined;
            return lastOf(headers.get("Content-Location")) ?? Number(headers.get("Upload-Offset"));
        } catch (problem) {
            const found = stop.signal.aborted && !signal.aborted ? await this.elsewhere : null;
            if (found === null) {
                throw problem;
            }
            this.elsewhere = NOTHING;
            this.discard();
            if (found.stored !== undefined) {
                this.held = true;
                return found.stored;
            }
            this.take(found.at, true);
            return found.offset;
        }
    }

    /**
     * Once the hash is known, ask whether the store has the file, or more of it in another upload.
     *
     * @param {AbortSignal} signal
     */
    async lookElsewhere(signal) {
        try {
            if ((await this.computed()) === null) {
                return null;
            }
            const found = await this.ask(signal);
            if (found.stored !== undefined || found.offset > this.sent) {
                return found;
            }
            if (found.offset === 0) {
                await this.service.request(`uploads/${found.at}`, { method: "DELETE", headers: TUS });
            }
        } catch {
            // Another tab sends the same file, or there are too many uploads: this one goes on.
        }
        return null;
    }

    /** @param {number} sent */
    progress(sent) {
        this.sent = sent;
        const { time, sent: before } = this.measured;
        const seconds = (performance.now() - time) / 1000;
        if (sent < before || seconds > 10) {
            this.measured = { time: performance.now(), sent };
        } else if (seconds > 0.5) {
            const now = (sent - before) / seconds;
            this.speed = this.speed === 0 ? now : 0.7 * this.speed + 0.3 * now;
            this.measured = { time: performance.now(), sent };
        }
        this.dispatchEvent(new Event("changed"));
    }

    /** Take smaller pieces; false if they are as small as they can be. */
    shrink() {
        const smaller = Math.max(LEAST_PIECE, this.piece / 8);
        const can = smaller < this.piece;
        this.piece = smaller;
        return can;
    }

    digestField() {
        const key = DIGESTS[this.service.description.algorithm];
        if (this.hash === null || key === undefined) {
            return undefined;
        }
        const bytes = /** @type {string[]} */ (this.hash.match(/../g)).map((pair) => parseInt(pair, 16));
        return `${key}=:${btoa(String.fromCharCode(...bytes))}:`;
    }

    /** @param {string} path */
    withHash(path) {
        return this.hash === null ? path : `${path}?hash=${this.hash}`;
    }
}

/** @type {Promise<null>} */
const NOTHING = Promise.resolve(null);

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

/** The last segment of a URL. @param {string | null} url */
function lastOf(url) {
    return url?.split("?")[0].split("/").pop() || undefined;
}

/** @param {string} text */
function base64(text) {
    const bytes = new TextEncoder().encode(text);
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
