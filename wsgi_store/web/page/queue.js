// @ts-check
import { Unfinished } from "./unfinished.js";
import { Upload } from "./upload.js";

// More would take the connections that a browser allows to one server.
const AT_ONCE = 3;
// Milliseconds.
const TELL_EVERY = 250;
const UNDER_WAY = new Set(["hashing", "sending", "storing", "retrying"]);
const REFUSED = new Set(["unauthenticated", "denied"]);
const WRONG = new Set(["hash_mismatch", "digest_mismatch", "file_changed", "upload_not_found"]);

/** @typedef {{state: string, bytes: number, sent: number, moved: number, left: number}} Counted */

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
        this.unfinished = new Unfinished(service.base);
        /** @type {Upload[]} in the order in which they were added */
        this.uploads = [];
        // All before it have been started.
        this.next = 0;
        /** @type {Set<Upload>} */
        this.running = new Set();
        /** @type {Upload | null} */
        this.ahead = null;
        // Whether the service refuses the caller: what waits would be refused, too.
        this.refused = false;
        this.sums = { done: 0, failed: 0, waiting: 0, bytes: 0, sent: 0, moved: 0, left: 0 };
        /** @type {WeakMap<Upload, Counted>} what of an upload is in the sums */
        this.counted = new WeakMap();
        this.speed = 0;
        this.measured = { time: 0, moved: 0 };
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        this.telling = undefined;
    }

    get totals() {
        const { done, failed, waiting, bytes, sent, left } = this.sums;
        const { speed } = this;
        const time = speed > 0 ? left / speed : Infinity;
        return { count: this.uploads.length, done, failed, waiting, bytes, sent, speed, left: time };
    }

    /** @param {{file: File | null, name: string}[]} found */
    add(found) {
        for (const { file, name } of found) {
            if (file !== null) {
                const upload = new Upload(file, name, this.service, this.unfinished);
                upload.addEventListener("changed", () => this.changed(upload));
                this.uploads.push(upload);
                this.count(upload);
                upload.check();
            }
        }
        this.dispatchEvent(new Event("added"));
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
            this.next -= Number(place < this.next);
            this.uncount(upload);
            upload.cancel();
            this.dispatchEvent(new Event("added"));
            this.tell();
            this.start();
        }
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
        const [stored, left] = [[], []].map((list) => /** @type {Upload[]} */ (list));
        this.uploads.forEach((upload) => (upload.state === "done" ? stored : left).push(upload));
        this.uploads = left;
        this.next = 0;
        stored.forEach((upload) => this.uncount(upload));
        this.dispatchEvent(new Event("added"));
        this.tell();
    }

    /** Let uploads in a state wait for their turn. @param {Upload[]} uploads @param {"paused" | "failed"} state */
    wait(uploads, state) {
        for (const upload of uploads) {
            if (upload.state === state) {
                if (WRONG.has(upload.problem?.code ?? "")) {
                    upload.restart();
                }
                upload.become("waiting");
                this.next = Math.min(this.next, this.placeOf(upload));
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
            this.next++;
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

    /** The upload that is next. */
    following() {
        for (; this.next < this.uploads.length; this.next++) {
            const upload = this.uploads[this.next];
            if (upload.state === "waiting" && !this.running.has(upload)) {
                return upload;
            }
        }
        return undefined;
    }

    /** Hash the file that is next while others are sent. */
    hashAhead() {
        const upload = this.following();
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
            void this.device.remember(upload.result);
        } else if (upload.state === "waiting") {
            // It went on while its last request ended.
            this.next = Math.min(this.next, this.placeOf(upload));
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
        if (this.counted.has(upload)) {
            this.uncount(upload);
            this.count(upload);
        }
        this.dispatchEvent(new CustomEvent("changed", { detail: upload }));
    }

    /** @param {Upload} upload */
    count(upload) {
        const { state, sent, moved, size } = upload;
        const isLeft = state === "waiting" || UNDER_WAY.has(state);
        // What failed is not on its way.
        const [bytes, known] = state === "failed" ? [0, 0] : [size, sent];
        const counted = { state, bytes, sent: known, moved, left: isLeft ? size - sent : 0 };
        this.sum(counted, 1);
        this.counted.set(upload, counted);
        this.tell();
    }

    /** @param {Upload} upload */
    uncount(upload) {
        const counted = this.counted.get(upload);
        if (counted !== undefined) {
            this.sum(counted, -1);
            this.counted.delete(upload);
        }
    }

    /** @param {Counted} counted @param {1 | -1} sign */
    sum({ state, bytes, sent, moved, left }, sign) {
        const { sums } = this;
        if (state === "done" || state === "failed" || state === "waiting") {
            sums[state] += sign;
        }
        sums.bytes += sign * bytes;
        sums.sent += sign * sent;
        sums.moved += sign * moved;
        sums.left += sign * left;
    }

    tell() {
        this.telling ??= setTimeout(() => {
            this.telling = undefined;
            this.measure();
            this.dispatchEvent(new Event("totals"));
            // A line that is silent changes the speed and nothing else.
            if (this.running.size > 0) {
                this.tell();
            }
        }, TELL_EVERY);
    }

    measure() {
        const now = { time: performance.now(), moved: this.sums.moved };
        const seconds = (now.time - this.measured.time) / 1000;
        if (this.running.size === 0) {
            this.speed = 0;
        } else if (seconds > 5 || now.moved < this.measured.moved) {
            this.measured = now;
        } else if (seconds >= 0.5) {
            const speed = (now.moved - this.measured.moved) / seconds;
            this.speed = this.speed === 0 ? speed : 0.8 * this.speed + 0.2 * speed;
            this.measured = now;
        }
    }
}
