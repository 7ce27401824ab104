// @ts-check

// Milliseconds.
const SAMPLE = 500;
const SILENCE = 5000;
// What a small file takes beside its bytes is that of so many bytes: without it, a large file behind a thousand small
// ones would seem to take days.
const PER_FILE = 64 << 10;
const UNDER_WAY = new Set(["hashing", "sending", "storing", "retrying"]);

/** @typedef {import("./upload.js").Upload} Upload */
/** @typedef {{state: string, bytes: number, sent: number, moved: number, left: number}} Counted */

/** How much a second, smoothed. */
export class Speed {
    /** @param {number} weight of each new half second */
    constructor(weight) {
        this.weight = weight;
        this.value = 0;
        this.time = 0;
        this.moved = 0;
    }

    /** Measure from now on: what passed before was a pause. @param {number} moved how much there was so far */
    begin(moved) {
        this.value = 0;
        this.restart(moved);
    }

    /** As `begin`, with the speed that is known. @param {number} moved */
    restart(moved) {
        this.time = performance.now();
        this.moved = moved;
    }

    /** @param {number} moved how much there is so far */
    measure(moved) {
        const time = performance.now() - this.time;
        if (moved < this.moved) {
            // Some of it was taken off the list.
            this.restart(moved);
        } else if (moved > this.moved && time >= SAMPLE) {
            const speed = (moved - this.moved) * 1000 / time;
            this.value = this.value === 0 ? speed : this.value + this.weight * (speed - this.value);
            this.restart(moved);
        } else if (time > SILENCE) {
            this.value = 0;
        }
    }
}

/** How many uploads there are, how much of them is sent, how fast, and how long the rest will take. */
export class Totals {
    constructor() {
        this.sums = { done: 0, failed: 0, waiting: 0, paused: 0, running: 0, bytes: 0, sent: 0, moved: 0, left: 0 };
        /** @type {WeakMap<Upload, Counted>} what of an upload is in the sums */
        this.counted = new WeakMap();
        this.speed = new Speed(0.2);
        this.work = new Speed(0.2);
    }

    /** The speed in bytes per second, the time that is left in seconds. */
    get value() {
        const { done, failed, waiting, paused, running, bytes, sent, left } = this.sums;
        const time = this.work.value > 0 && left > 0 ? left / this.work.value : Infinity;
        return { done, failed, waiting, paused, running, bytes, sent, speed: this.speed.value, left: time };
    }

    /** Count an upload, or count it anew. @param {Upload} upload */
    count(upload) {
        this.uncount(upload);
        const { state, sent, moved, size } = upload;
        const isLeft = state === "waiting" || UNDER_WAY.has(state);
        // What failed is not on its way.
        const [bytes, known] = state === "failed" ? [0, 0] : [size, sent];
        const counted = { state, bytes, sent: known, moved, left: isLeft ? size - sent + PER_FILE : 0 };
        this.sum(counted, 1);
        this.counted.set(upload, counted);
    }

    /** @param {Upload} upload */
    uncount(upload) {
        const counted = this.counted.get(upload);
        if (counted !== undefined) {
            this.sum(counted, -1);
            this.counted.delete(upload);
        }
    }

    /** @param {Upload} upload */
    has(upload) {
        return this.counted.has(upload);
    }

    /** @param {Counted} counted @param {1 | -1} sign */
    sum({ state, bytes, sent, moved, left }, sign) {
        const { sums } = this;
        if (UNDER_WAY.has(state)) {
            sums.running += sign;
        } else if (state === "done" || state === "failed" || state === "waiting" || state === "paused") {
            sums[state] += sign;
        }
        sums.bytes += sign * bytes;
        sums.sent += sign * sent;
        sums.moved += sign * moved;
        sums.left += sign * left;
    }

    /** Look how fast it is. @param {Set<Upload>} running */
    measure(running) {
        const { moved, done } = this.sums;
        const work = moved + done * PER_FILE;
        // While all of them wait for the server, nothing can move.
        if ([...running].every(({ state }) => state === "retrying" || state === "paused")) {
            this.speed.begin(moved);
            this.work.begin(work);
        } else {
            this.speed.measure(moved);
            this.work.measure(work);
        }
        running.forEach((upload) => upload.look());
    }
}
