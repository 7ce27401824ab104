// @ts-check

/** @type {Record<string, string>} */
const CREATE = {
    md5: "createMD5", sha1: "createSHA1", sha256: "createSHA256", sha512: "createSHA512", blake2b: "createBLAKE2b",
    blake3: "createBLAKE3",
};

const UNREADABLE = "file_unreadable";

/** @typedef {{job: number, algorithm?: string, chunk?: Blob, finish?: boolean, forget?: boolean}} Order */

/** @type {Map<number, {tail: Promise<void>, hasher: any}>} */
const jobs = new Map();

/** @param {string} algorithm */
async function hasher(algorithm) {
    await import(`./vendor/${algorithm}.umd.min.js`);
    return (await /** @type {any} */ (globalThis).hashwasm[CREATE[algorithm]]()).init();
}

/** @param {Order} order @param {Promise<ArrayBuffer> | undefined} read */
async function follow({ job, algorithm, chunk, finish }, read) {
    const own = jobs.get(job);
    if (own === undefined) {
        return;
    }
    if (algorithm) {
        own.hasher = await hasher(algorithm);
    } else if (chunk && read) {
        const data = await read.catch(() => {
            throw new Error(UNREADABLE);
        });
        own.hasher.update(new Uint8Array(data));
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
        // Read at once, hashed in order.
        const read = order.chunk?.arrayBuffer();
        read?.catch(() => {});
        own.tail = own.tail.then(() => follow(order, read)).catch((error) => {
            jobs.delete(job);
            postMessage({ job, failure: error.message === UNREADABLE ? UNREADABLE : "hash_unavailable" });
        });
    }
});
