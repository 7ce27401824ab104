// @ts-check

/** @type {Record<string, string>} */
const CREATE = {
    md5: "createMD5", sha1: "createSHA1", sha256: "createSHA256", sha512: "createSHA512", blake2b: "createBLAKE2b",
    blake3: "createBLAKE3",
};

const UNREADABLE = "file_unreadable";
// Bytes that are read at once, at most.
const READ = 1 << 20;
// Milliseconds. In Chromium some streams of files give no more bytes, although there are more.
const STALLED = 5_000;

/** @typedef {{job: number, algorithm?: string, chunk?: Blob, finish?: boolean, forget?: boolean}} Order */

/** @type {Map<number, {tail: Promise<void>, hasher: any}>} */
const jobs = new Map();

/** @param {string} algorithm */
async function hasher(algorithm) {
    await import(`./vendor/${algorithm}.umd.min.js`);
    return (await /** @type {any} */ (globalThis).hashwasm[CREATE[algorithm]]()).init();
}

/**
 * Read a chunk, as often as its stream stops in the middle.
 *
 * @param {Blob} chunk
 * @param {(piece: Uint8Array) => void} update
 */
async function read(chunk, update) {
    let rest = chunk;
    for (let time = STALLED; rest.size > 0; time *= 2) {
        rest = rest.slice(await readFor(time, rest, update));
    }
}

/**
 * Read into one buffer, piece by piece: one read of it all would have to be copied and collected.
 *
 * @param {number} time
 * @param {Blob} chunk
 * @param {(piece: Uint8Array) => void} update
 * @returns {Promise<number>} the bytes that were read
 */
async function readFor(time, chunk, update) {
    const reader = chunk.stream().getReader({ mode: "byob" });
    let buffer = new ArrayBuffer(READ);
    let count = 0;
    let timer;
    const end = new Promise((resolve) => (timer = setTimeout(resolve, time)));
    try {
        while (count < chunk.size) {
            const read = reader.read(new Uint8Array(buffer)).catch(() => ({ done: true, value: undefined }));
            const found = await Promise.race([read, end]);
            if (found === undefined) {
                break;
            }
            if (found.done || found.value === undefined) {
                throw new Error(UNREADABLE);
            }
            update(found.value);
            count += found.value.byteLength;
            buffer = found.value.buffer;
        }
    } finally {
        clearTimeout(timer);
        void reader.cancel().catch(() => {});
    }
    return count;
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
