// @ts-check
import { Problem } from "./api.js";

// WebCrypto needs the whole file in memory.
const IN_MEMORY = 16 << 20;
const CHUNK = 8 << 20;
// The worker has the next chunk by the time it has hashed one.
const AHEAD = 2;
// Milliseconds. The scripts of a worker may never arrive by a line that is dead without a word.
const LOADING = 60_000;
/** @type {Record<string, string>} */
const WEB_CRYPTO = { sha1: "SHA-1", sha256: "SHA-256", sha512: "SHA-512" };

/**
 * @typedef {object} Options
 * @property {AbortSignal} signal
 * @property {(hashed: number) => void} [onProgress]
 * @property {() => Promise<void>} [before] awaited before each chunk, so that hashing can pause
 */

/**
 * The hash of a file in hex.
 *
 * Rejects with Problem `file_unreadable`, with `hash_unavailable` if this browser cannot hash, or with the reason of
 * `signal`.
 *
 * @param {Blob} file
 * @param {string} algorithm
 * @param {Options} options
 * @returns {Promise<string>}
 */
export async function digestOf(file, algorithm, options) {
    // Only pages from https or this machine have it.
    if (file.size <= IN_MEMORY && algorithm in WEB_CRYPTO && globalThis.crypto?.subtle) {
        const data = await file.arrayBuffer().catch(unreadable);
        options.signal.throwIfAborted();
        const digest = new Uint8Array(await crypto.subtle.digest(WEB_CRYPTO[algorithm], data));
        options.signal.throwIfAborted();
        options.onProgress?.(file.size);
        return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    }
    return new Job(file, algorithm, options).run();
}

/** @returns {never} */
function unreadable() {
    throw new Problem("file_unreadable");
}

/** @type {Worker | undefined} */
let worker;
/** @type {Map<number, Job>} */
const jobs = new Map();
let last = 0;

// The URL is fixed, so that the one thing the policy lets through is harmless.
const policy = /** @type {any} */ (globalThis).trustedTypes?.createPolicy("page", {
    createScriptURL: () => new URL("./hash-worker.js", import.meta.url).href,
});

function start() {
    const url = policy ? policy.createScriptURL("") : new URL("./hash-worker.js", import.meta.url);
    let started;
    try {
        started = new Worker(url, { type: "module" });
    } catch {
        throw new Problem("hash_unavailable");
    }
    started.onmessage = ({ data }) => jobs.get(data.job)?.answered(data);
    started.onerror = stop;
    return started;
}

/** Give up the worker; the next file gets another. */
function stop() {
    worker?.terminate();
    worker = undefined;
    for (const job of jobs.values()) {
        job.end(new Problem("hash_unavailable"));
    }
}

/** One file in the worker, which gets its chunks one after another. */
class Job {
    /** @param {Blob} file @param {string} algorithm @param {Options} options */
    constructor(file, algorithm, { signal, onProgress, before }) {
        this.file = file;
        this.algorithm = algorithm;
        this.signal = signal;
        this.onProgress = onProgress;
        this.before = before;
        this.number = ++last;
        this.hashed = 0;
        this.asked = 0;
        /** @type {(() => void) | undefined} */
        this.wake = undefined;
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        this.loading = undefined;
        /** @type {{promise: Promise<string>, resolve: (hash: string) => void, reject: (reason: unknown) => void}} */
        this.result = Promise.withResolvers();
    }

    /** @returns {Promise<string>} */
    async run() {
        const abort = () => this.end(this.signal.reason);
        this.signal.addEventListener("abort", abort);
        jobs.set(this.number, this);
        this.loading = setTimeout(stop, LOADING);
        try {
            this.signal.throwIfAborted();
            worker ??= start();
            worker.postMessage({ job: this.number, algorithm: this.algorithm });
            void this.feed(worker).catch((reason) => this.end(reason));
            return await this.result.promise;
        } finally {
            clearTimeout(this.loading);
            this.signal.removeEventListener("abort", abort);
            jobs.delete(this.number);
            worker?.postMessage({ job: this.number, forget: true });
        }
    }

    /** @param {Worker} by */
    async feed(by) {
        while (this.asked < this.file.size && jobs.has(this.number)) {
            await this.before?.();
            const end = Math.min(this.asked + CHUNK, this.file.size);
            by.postMessage({ job: this.number, chunk: this.file.slice(this.asked, end) });
            this.asked = end;
            if (this.asked - this.hashed >= AHEAD * CHUNK) {
                await new Promise((resolve) => (this.wake = () => resolve(undefined)));
            }
        }
        by.postMessage({ job: this.number, finish: true });
    }

    /** @param {{ready?: boolean, hashed?: number, hash?: string, failure?: string}} data */
    answered({ ready, hashed, hash, failure }) {
        if (ready) {
            clearTimeout(this.loading);
        } else if (failure) {
            this.end(new Problem(failure));
        } else if (hash) {
            this.result.resolve(hash);
        } else if (hashed) {
            this.hashed += hashed;
            this.onProgress?.(this.hashed);
            this.wake?.();
        }
    }

    /** @param {unknown} reason */
    end(reason) {
        this.result.reject(reason);
        jobs.delete(this.number);
        this.wake?.();
    }
}
