// @ts-check

// More than a person looks through; the oldest are forgotten first.
const MOST = 5000;
// A count reads the whole index.
const COUNT_EVERY = 100;
const STORE = "uploads";
const BY_TIME = "time";

/**
 * An upload that this device remembers: `time` in milliseconds since the epoch.
 *
 * @typedef {{hash: string, name: string, size: number, time: number}} Remembered
 */

/**
 * What was uploaded from this device. Nobody else sees it.
 *
 * Where the browser refuses a database, as some private windows do, it is remembered until the page is left.
 * Dispatches "changed" when another tab or this one changed it, and "gone" with the hash of a blob that one of
 * them deleted.
 */
export class Device extends EventTarget {
    /** @param {URL} base the URL of the service: others may have the same origin */
    constructor(base) {
        super();
        this.place = `wsgi_store ${base.pathname}`;
        /** @type {Map<string, Remembered>} */
        this.memory = new Map();
        /** @type {Promise<IDBDatabase | null> | undefined} */
        this.opening = undefined;
        this.untilCount = 1;
        this.others = channel(this.place);
        this.others?.addEventListener("message", ({ data }) => this.dispatchEvent(
            typeof data === "string" ? new CustomEvent("gone", { detail: data }) : new Event("changed")));
    }

    /** @returns {Promise<IDBDatabase | null>} */
    database() {
        this.opening ??= opened(this.place).catch(() => null);
        return this.opening;
    }

    /**
     * Run one transaction; null if there is no database or it refuses.
     *
     * @template T
     * @param {IDBTransactionMode} mode
     * @param {(store: IDBObjectStore) => Promise<T>} work
     * @returns {Promise<T | null>}
     */
    async within(mode, work) {
        const database = await this.database();
        if (database === null) {
            return null;
        }
        try {
            const transaction = database.transaction(STORE, mode, { durability: "relaxed" });
            const ended = new Promise((resolve, reject) => {
                transaction.oncomplete = resolve;
                transaction.onabort = () => reject(transaction.error);
            });
            const [found] = await Promise.all([work(transaction.objectStore(STORE)), ended]);
            return found;
        } catch {
            // Full, wiped by the person meanwhile, or closed by the browser: the next one opens it anew.
            this.opening = undefined;
            return null;
        }
    }

    /**
     * Remember an upload; the time of one that is known becomes new.
     *
     * @param {{hash: string, name: string, size: number}} result
     * @returns {Promise<void>}
     */
    async remember({ hash, name, size }) {
        const upload = { hash, name, size, time: Date.now() };
        const kept = await this.within("readwrite", async (store) => {
            await done(store.put(upload));
            this.untilCount -= 1;
            if (this.untilCount === 0) {
                this.untilCount = COUNT_EVERY;
                await dropOldest(store, await done(store.count()) - MOST);
            }
            return true;
        });
        if (kept === null) {
            this.memory.set(`${hash} ${name}`, upload);
        }
        this.changed();
    }

    /**
     * The newest uploads, or those before the last of an earlier answer.
     *
     * @param {{before?: Remembered, limit: number}} page
     * @returns {Promise<Remembered[]>}
     */
    async list({ before, limit }) {
        const found = await this.within("readonly", async (store) => {
            const range = before && IDBKeyRange.upperBound([before.time, before.hash, before.name], true);
            /** @type {Remembered[]} */
            const page = [];
            await each(store.index(BY_TIME).openCursor(range, "prev"), (cursor) => {
                page.push(cursor.value);
                return page.length < limit;
            });
            return page;
        });
        const kept = [...this.memory.values()].filter((one) => !before || compare(one, before) > 0);
        return [...(found ?? []), ...kept].sort(compare).slice(0, limit);
    }

    /**
     * The name under which a blob was uploaded last; undefined if it is not known here.
     *
     * @param {string} hash
     * @returns {Promise<string | undefined>}
     */
    async nameOf(hash) {
        const found = await this.within("readonly", (store) => done(store.getAll(ofHash(hash))));
        const kept = [...this.memory.values()].filter((one) => one.hash === hash);
        return [...(found ?? []), ...kept].sort(compare)[0]?.name;
    }

    /**
     * Forget the uploads of a blob, or the one under a name.
     *
     * @param {string} hash
     * @param {string} [name]
     * @returns {Promise<void>}
     */
    async forget(hash, name) {
        await this.within("readwrite", (store) =>
            done(store.delete(name === undefined ? ofHash(hash) : [hash, name])));
        for (const [key, one] of this.memory) {
            if (one.hash === hash && (name === undefined || one.name === name)) {
                this.memory.delete(key);
            }
        }
        this.changed();
    }

    /** Forget everything. @returns {Promise<void>} */
    async forgetAll() {
        await this.within("readwrite", (store) => done(store.clear()));
        this.memory.clear();
        this.changed();
    }

    /** Forget a blob that is no longer in the store. @param {string} hash */
    async gone(hash) {
        this.others?.postMessage(hash);
        this.dispatchEvent(new CustomEvent("gone", { detail: hash }));
        await this.forget(hash);
    }

    changed() {
        this.others?.postMessage(null);
        this.dispatchEvent(new Event("changed"));
    }
}

/** @param {string} name @returns {BroadcastChannel | null} */
function channel(name) {
    try {
        return new BroadcastChannel(name);
    } catch {
        // Firefox refuses it to a site that may keep no data.
        return null;
    }
}

/** @param {string} hash */
function ofHash(hash) {
    // An array is greater than any string.
    return IDBKeyRange.bound([hash], [hash, []]);
}

/** Newest first. @param {Remembered} a @param {Remembered} b */
function compare(a, b) {
    /** @param {string} one @param {string} other */
    const order = (one, other) => Number(one < other) - Number(one > other);
    return b.time - a.time || order(a.hash, b.hash) || order(a.name, b.name);
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function done(request) {
    return new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
}

/**
 * @param {IDBRequest<IDBCursorWithValue | null>} request
 * @param {(cursor: IDBCursorWithValue) => boolean} take whether to go on
 * @returns {Promise<void>}
 */
function each(request, take) {
    return new Promise((resolve, reject) => {
        request.onsuccess = () => {
            if (request.result !== null && take(request.result)) {
                request.result.continue();
            } else {
                resolve();
            }
        };
        request.onerror = () => reject(request.error);
    });
}

/** @param {IDBObjectStore} store @param {number} number */
async function dropOldest(store, number) {
    let left = number;
    if (left > 0) {
        await each(store.index(BY_TIME).openCursor(), (cursor) => {
            cursor.delete();
            left -= 1;
            return left > 0;
        });
    }
}

/** @param {string} place @returns {Promise<IDBDatabase>} */
async function opened(place) {
    const request = indexedDB.open(place, 1);
    request.onupgradeneeded = () => {
        const store = request.result.createObjectStore(STORE, { keyPath: ["hash", "name"] });
        store.createIndex(BY_TIME, ["time", "hash", "name"]);
    };
    const database = await done(request);
    // A person may delete the data of the site while tabs are open.
    database.onversionchange = () => database.close();
    return database;
}
