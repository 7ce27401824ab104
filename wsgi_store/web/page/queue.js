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
        this.counts = { done: 0, failed: 0, waiting: 0 };
        this.bytes = { all: 0, sent: 0 };
        /** @type {WeakMap<Upload, {state: string, sent: number}>} what of an upload is in the sums */
        this.counted = new WeakMap();
        this.speed = 0;
        this.measured = { time: 0, sent: 0 };
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        this.telling = undefined;
    }

    get totals() {
        const { all, sent } = this.bytes;
        const left = this.speed > 0 ? (all - sent) / this.speed : Infinity;
        return { count: this.uploads.length, ...this.counts, bytes: all, sent, speed: this.speed, left };
    }

    /** @param {{file: File | null, name: string}[]} found */
    add(found) {
        for (const { file, name } of found) {
            if (file !== null) {
                const upload = new Upload(file, name, this.service, this.unfinished);
                upload.addEventListener("changed", () => this.changed(upload));
                this.uploads.push(upload);
                this.count(upload);
            }
        }
        this.dispatchEvent(new Event("added"));
        this.start();
    }

    /** @param {Upload} upload */
    pause(upload) {
        if (upload.state === "waiting" || UNDER_WAY.has(upload.state)) {
            upload.pause();
        }
    }

    /** @param {Upload} upload */
    goOn(upload) {
        if (upload.state === "paused") {
            this.wait(upload);
            this.start();
        }
    }

    /** @param {Upload} upload */
    retry(upload) {
        if (upload.state === "failed") {
            if (WRONG.has(upload.problem?.code ?? "")) {
                upload.restart();
            }
            this.wait(upload);
            this.start();
        }
    }

    /** Stop an upload and take it off the list. @param {Upload} upload */
    cancel(upload) {
        const place = this.uploads.indexOf(upload);
        if (place >= 0) {
            this.uploads.splice(place, 1);
            this.next -= Number(place < this.next);
            upload.cancel();
            this.uncount(upload);
            this.dispatchEvent(new Event("added"));
            this.tell();
            this.start();
        }
    }

    pauseAll() {
        this.uploads.forEach((upload) => this.pause(upload));
    }

    goOnAll() {
        this.uploads.forEach((upload) => this.goOn(upload));
    }

    retryAll() {
        this.uploads.forEach((upload) => this.retry(upload));
    }

    /** Try again what needed a token. */
    retryRefused() {
        this.uploads.filter(({ problem }) => REFUSED.has(problem?.code ?? "")).forEach((upload) => this.retry(upload));
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

    /** @param {Upload} upload */
    wait(upload) {
        this.next = Math.min(this.next, this.uploads.indexOf(upload));
        upload.become("waiting");
    }

    start() {
        while (this.running.size < AT_ONCE) {
            const upload = this.following();
            if (upload === undefined) {
                return;
            }
            this.running.add(upload);
            void upload.run().finally(() => {
                this.running.delete(upload);
                this.ended(upload);
                this.start();
            });
        }
        this.hashAhead();
    }

    following() {
        for (; this.next < this.uploads.length; this.next++) {
            const upload = this.uploads[this.next];
            if (upload.state === "waiting" && !this.running.has(upload)) {
                return this.uploads[this.next++];
            }
        }
        return undefined;
    }

    /** Hash the file that is next while others are sent. */
    hashAhead() {
        const upload = this.uploads[this.next];
        if (this.ahead === null && upload?.state === "waiting" && upload.hashing === undefined) {
            this.ahead = upload;
            void upload.computed().catch(() => {}).finally(() => {
                this.ahead = null;
            });
        }
    }

    /** @param {Upload} upload */
    ended(upload) {
        if (upload.state === "done" && upload.result !== null) {
            void this.device.remember(upload.result);
        } else if (REFUSED.has(upload.problem?.code ?? "") && this.service.credentials.ticket === undefined) {
            this.dispatchEvent(new Event("needs-token"));
        }
        // It went on while its last request ended.
        if (upload.state === "waiting") {
            this.next = Math.min(this.next, this.uploads.indexOf(upload));
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
        const { state, sent, size } = upload;
        this.sum(state, size, sent, 1);
        this.counted.set(upload, { state, sent });
        this.tell();
    }

    /** @param {Upload} upload */
    uncount(upload) {
        const was = this.counted.get(upload);
        if (was !== undefined) {
            this.sum(was.state, upload.size, was.sent, -1);
            this.counted.delete(upload);
        }
    }

    /** @param {string} state @param {number} size @param {number} sent @param {1 | -1} sign */
    sum(state, size, sent, sign) {
        if (state === "done" || state === "failed" || state === "waiting") {
            this.counts[state] += sign;
        }
        this.bytes.all += sign * size;
        this.bytes.sent += sign * sent;
    }

    tell() {
        this.telling ??= setTimeout(() => {
            this.telling = undefined;
            this.measure();
            this.dispatchEvent(new Event("totals"));
        }, TELL_EVERY);
    }

    measure() {
        const now = { time: performance.now(), sent: this.bytes.sent };
        const seconds = (now.time - this.measured.time) / 1000;
        if (this.running.size === 0) {
            this.speed = 0;
        } else if (seconds > 5 || now.sent < this.measured.sent) {
            this.measured = now;
        } else if (seconds >= 0.5) {
            const speed = (now.sent - this.measured.sent) / seconds;
            this.speed = this.speed === 0 ? speed : 0.8 * this.speed + 0.2 * speed;
            this.measured = now;
        }
    }
}
