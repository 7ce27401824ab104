// @ts-check
import { HASH_FIRST } from "./sender.js";
import { Totals } from "./totals.js";
import { Unfinished } from "./unfinished.js";
import { Upload } from "./upload.js";

// More would take the connections that a browser allows to one server.
const AT_ONCE = 3;
// The last place is for small files, which would otherwise wait for hours behind large ones.
const LARGE_AT_ONCE = 2;
// Milliseconds.
const TELL_EVERY = 250;
const UNDER_WAY = new Set(["hashing", "sending", "storing", "retrying"]);
const REFUSED = new Set(["unauthenticated", "denied"]);
const WRONG = new Set(["hash_mismatch", "digest_mismatch", "file_changed", "upload_not_found"]);

/**
 * The uploads of this page.
 *
 * Dispatches "added" when uploads come or go, "changed" (detail: the upload), "totals" at most four times a second,
 * and "needs-token" when the service refuses an upload that a token may permit.
 */
export class Queue extends EventTarget {
    /**
     * @param {import("./api.js").Service} service
     * @param {import("./device.js").Device} device
     */
    constructor(service, device) {
        super();
        this.service = service;
        this.device = device;
        this.unfinished = new Unfinished(service);
        /** @type {Upload[]} in the order in which they were added */
        this.uploads = [];
        // Where the next small and the next large file are looked for: all before have been started.
        this.next = { small: 0, large: 0 };
        /** @type {Set<Upload>} */
        this.running = new Set();
        /** @type {Upload | null} */
        this.ahead = null;
        // Whether the service refuses the caller: what waits would be refused, too.
        this.refused = false;
        this.counts = new Totals();
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        this.telling = undefined;
    }

    get totals() {
        return { count: this.uploads.length, ...this.counts.value };
    }

    /** @param {{file: File | null, name: string}[]} found */
    add(found) {
        for (const { file, name } of found) {
            if (file !== null) {
                const upload = new Upload(file, name, this.service, this.unfinished);
                upload.addEventListener("changed", () => this.changed(upload));
                this.uploads.push(upload);
                this.counts.count(upload);
                upload.check();
            }
        }
        this.dispatchEvent(new Event("added"));
        this.tell();
        this.permit();
    }

    /** @param {Upload} upload */
    pause(upload) {
        if (upload.state === "waiting" || UNDER_WAY.has(upload.state)) {
            upload.pause();
        }
    }

    /** @param {Upload} upload */
    goOn(upload) {
        this.wait([upload], "paused");
    }

    /** @param {Upload} upload */
    retry(upload) {
        this.wait([upload], "failed");
    }

    /** Stop an upload and take it off the list. @param {Upload} upload */
    cancel(upload) {
        const place = this.placeOf(upload);
        if (this.uploads[place] === upload) {
            this.uploads.splice(place, 1);
            this.next.small -= Number(place < this.next.small);
            this.next.large -= Number(place < this.next.large);
            this.remove([upload]);
        }
    }

    /** Stop everything that is not stored, and take it off the list. */
    cancelAll() {
        const ended = this.uploads.filter(({ state }) => state !== "done");
        this.uploads = this.uploads.filter(({ state }) => state === "done");
        this.next = { small: 0, large: 0 };
        this.remove(ended);
    }

    pauseAll() {
        this.uploads.forEach((upload) => this.pause(upload));
    }

    goOnAll() {
        this.wait(this.uploads, "paused");
    }

    retryAll() {
        this.wait(this.uploads, "failed");
    }

    /** Go on after the caller got other rights. */
    retryRefused() {
        this.wait(this.uploads.filter(({ problem }) => REFUSED.has(problem?.code ?? "")), "failed");
    }

    /** Take what is stored off the list. */
    clear() {
        const stored = this.uploads.filter(({ state }) => state === "done");
        this.uploads = this.uploads.filter(({ state }) => state !== "done");
        this.next = { small: 0, large: 0 };
        this.remove(stored);
    }

    /** Forget uploads that have left the list. @param {Upload[]} uploads */
    remove(uploads) {
        for (const upload of uploads) {
            this.counts.uncount(upload);
            if (upload.state !== "done") {
                upload.cancel();
            }
        }
        this.dispatchEvent(new Event("added"));
        this.tell();
        this.start();
    }

    /** Let uploads in a state wait for their turn. @param {Upload[]} uploads @param {"paused" | "failed"} state */
    wait(uploads, state) {
        for (const upload of uploads) {
            if (upload.state === state) {
                if (WRONG.has(upload.problem?.code ?? "")) {
                    upload.restart();
                }
                upload.become("waiting");
                this.lookFrom(upload);
            }
        }
        this.permit();
    }

    /** The place of an upload in the list, or the one where it would be. @param {Upload} upload */
    placeOf({ id }) {
        let [from, to] = [0, this.uploads.length];
        while (from < to) {
            const middle = (from + to) >> 1;
            if (this.uploads[middle].id < id) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        return from;
    }

    /** Find an upload again that waits for its turn. @param {Upload} upload */
    lookFrom(upload) {
        const kind = kindOf(upload);
        this.next[kind] = Math.min(this.next[kind], this.placeOf(upload));
    }

    /** Start again what was held back when the service refused the caller. */
    permit() {
        this.refused = false;
        this.start();
    }

    start() {
        while (this.running.size < AT_ONCE && !this.refused) {
            const upload = this.following();
            if (upload === undefined) {
                break;
            }
            this.running.add(upload);
            const { token } = this.service.credentials;
            void upload.run().finally(() => {
                this.running.delete(upload);
                this.ended(upload, token);
                this.start();
            });
        }
        this.hashAhead();
    }

    /** The upload that is next: in the order in which they were added, as far as large files may. */
    following() {
        const [small, large] = [this.nextOf("small"), this.nextOf("large")];
        const running = [...this.running].filter((upload) => kindOf(upload) === "large").length;
        const isTurn = large !== undefined && running < LARGE_AT_ONCE;
        return isTurn && (small === undefined || large.id < small.id) ? large : small;
    }

    /** @param {"small" | "large"} kind */
    nextOf(kind) {
        for (; this.next[kind] < this.uploads.length; this.next[kind]++) {
            const upload = this.uploads[this.next[kind]];
            if (upload.state === "waiting" && kindOf(upload) === kind && !this.running.has(upload)) {
                return upload;
            }
        }
        return undefined;
    }

    /** Hash the file that is next while others are sent. */
    hashAhead() {
        const upload = this.following() ?? this.nextOf("large");
        if (this.ahead === null && upload !== undefined && upload.hashing === undefined && !this.refused) {
            this.ahead = upload;
            void upload.computed().catch(() => {}).finally(() => {
                this.ahead = null;
            });
        }
    }

    /** @param {Upload} upload @param {string | undefined} token with which it was begun */
    ended(upload, token) {
        const { credentials } = this.service;
        if (upload.state === "done" && upload.result !== null) {
            // What a guest sends by a ticket is for nobody who uses this device later.
            if (credentials.ticket === undefined) {
                void this.device.remember(upload.result);
            }
        } else if (upload.state === "waiting") {
            // It went on while its last request ended.
            this.lookFrom(upload);
        } else if (REFUSED.has(upload.problem?.code ?? "") && credentials.ticket === undefined) {
            this.refuse(upload, credentials.token !== token);
        }
    }

    /** @param {Upload} upload @param {boolean} isOld whether the caller has another token by now */
    refuse(upload, isOld) {
        if (isOld) {
            this.retry(upload);
        } else if (!this.refused) {
            this.refused = true;
            this.dispatchEvent(new Event("needs-token"));
        }
    }

    /** @param {Upload} upload */
    changed(upload) {
        if (this.counts.has(upload)) {
            this.counts.count(upload);
            this.tell();
        }
        this.dispatchEvent(new CustomEvent("changed", { detail: upload }));
    }

    tell() {
        this.telling ??= setTimeout(() => {
            this.telling = undefined;
            this.counts.measure(this.running);
            this.dispatchEvent(new Event("totals"));
            // A line that is silent changes the speed and nothing else.
            if (this.running.size > 0) {
                this.tell();
            }
        }, TELL_EVERY);
    }
}

/** @param {Upload} upload @returns {"small" | "large"} */
function kindOf({ size }) {
    return size > HASH_FIRST ? "large" : "small";
}
