// @ts-check

/** @type {Record<string, string>} */
const CREATE = {
    md5: "createMD5", sha1: "createSHA1", sha256: "createSHA256", sha512: "createSHA512", blake2b: "createBLAKE2b",
    blake3: "createBLAKE3",
};

const UNREADABLE = "file_unreadable";
// Bytes that are read at once, at most.
const READ = 1 << 20;

/** @typedef {{job: number, algorithm?: string, chunk?: Blob, finish?: boolean, forget?: boolean}} Order */

/** @type {Map<number, {tail: Promise<void>, hasher: any}>} */
const jobs = new Map();

/** @param {string} algorithm */
async function hasher(algorithm) {
    await import(`./vendor/${algorithm}.umd.min.js`);
    return (await /** @type {any} */ (globalThis).hashwasm[CREATE[algorithm]]()).init();
}

/**
 * Read a chunk into one buffer, piece by piece: one read of it all would have to be copied and collected.
 *
 * @param {Blob} chunk
 * @param {(piece: Uint8Array) => void} update
 */
async function read(chunk, update) {
    const reader = chunk.stream().getReader({ mode: "byob" });
    let buffer = new ArrayBuffer(READ);
    for (;;) {
        const { done, value } = await reader.read(new Uint8Array(buffer)).catch(() => {
            throw new Error(UNREADABLE);
        });
        if (done || value === undefined) {
            return;
        }
        update(value);
        buffer = value.buffer;
    }
}

/** @param {Order} order */
async function follow({ job, algorithm, chunk, finish }) {
    const own = jobs.get(job);
    if (own === undefined) {
        return;
    }
    if (algorithm) {
        own.hasher = await hasher(algorithm);
        postMessage({ job, ready: true });
    } else if (chunk) {
        await read(chunk, (piece) => own.hasher.update(piece));
        postMessage({ job, hashed: chunk.size });
    } else if (finish) {
        postMessage({ job, hash: own.hasher.digest() });
    }
}

addEventListener("message", ({ data }) => {
    const order = /** @type {Order} */ (data);
    const { job } = order;
    if (order.forget) {
        jobs.delete(job);
        return;
    }
    if (order.algorithm) {
        jobs.set(job, { tail: Promise.resolve(), hasher: null });
    }
    const own = jobs.get(job);
    if (own) {
        own.tail = own.tail.then(() => follow(order)).catch((error) => {
            jobs.delete(job);
            postMessage({ job, failure: error.message === UNREADABLE ? UNREADABLE : "hash_unavailable" });
        });
    }
});
