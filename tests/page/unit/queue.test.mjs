import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import test from "node:test";
import { fileOf, queueAt, until, CLOSED } from "./service.mjs";

const MANY = 10_000;

/** @param {number} count */
const some = (count) => Array.from({ length: count }, (_, i) => ({ file: fileOf(100 + i % 7), name: `file ${i}` }));

/** Ten thousand files of nobody. */
async function many() {
    const queue = await queueAt(CLOSED);
    // No request at all.
    queue.service.description.scopes = [];
    const file = fileOf(1);
    queue.add(Array.from({ length: MANY }, (_, i) => ({ file, name: String(i) })));
    return queue;
}

/** What the totals are, computed from scratch. */
function summed({ uploads }) {
    const of = (state) => uploads.filter((upload) => upload.state === state).length;
    return [uploads.length, of("done"), of("failed"), of("waiting"), uploads.reduce((sum, { size }) => sum + size, 0),
        uploads.reduce((sum, upload) => sum + upload.sent, 0)];
}

function told({ totals: { count, done, failed, waiting, bytes, sent } }) {
    return [count, done, failed, waiting, bytes, sent];
}

test("many files are sent, remembered and cleared", async () => {
    const queue = await queueAt();
    queue.add(some(100));
    while (queue.totals.done + queue.totals.failed < 100) {
        assert.ok(queue.running.size <= 3);
        await sleep(5);
    }
    assert.deepEqual(told(queue), summed(queue));
    assert.equal(queue.totals.done, 100);
    assert.equal(queue.remembered.length, 100);
    queue.clear();
    assert.deepEqual(told(queue), [0, 0, 0, 0, 0, 0]);
});

test("the totals are the sums at any moment, and told at most four times a second", async () => {
    const queue = await queueAt();
    const times = [];
    queue.addEventListener("totals", () => times.push(performance.now()));
    queue.addEventListener("changed", () => assert.deepEqual(told(queue), summed(queue)));
    queue.add(some(60));
    for (let i = 0; i < 60; i++) {
        const upload = queue.uploads[(i * 37) % queue.uploads.length];
        [() => queue.pause(upload), () => queue.goOn(upload), () => queue.cancel(upload), () => queue.retry(upload),
            () => queue.pauseAll(), () => queue.goOnAll()][i % 6]();
        assert.deepEqual(told(queue), summed(queue));
        await sleep(2);
    }
    queue.goOnAll();
    await Promise.all(queue.uploads.map((upload) => until(upload, "done")));
    await sleep(300);
    assert.equal(queue.totals.left, Infinity);
    times.slice(1).forEach((time, i) => assert.ok(time - times[i] > 200));
});

test("without rights one file fails, a token is asked for once, and the rest goes on with it", async () => {
    const queue = await queueAt(CLOSED);
    let asked = 0;
    queue.addEventListener("needs-token", () => asked++);
    queue.add(some(50));
    while (asked === 0 || queue.running.size > 0) {
        await sleep(5);
    }
    assert.ok(queue.totals.failed <= 3);
    assert.equal(queue.totals.waiting, 50 - queue.totals.failed);
    queue.service.credentials.token = "wrong";
    queue.retryRefused();
    while (asked === 1 || queue.running.size > 0) {
        await sleep(5);
    }
    assert.ok(queue.totals.failed <= 6);
    queue.service.credentials.token = "secret-of-these-tests";
    queue.retryRefused();
    await Promise.all(queue.uploads.map((upload) => until(upload, "done")));
    assert.equal(asked, 2);
});

test("ten thousand files are paused, continued, tried again and taken off within a moment", async () => {
    const queue = await many();
    await sleep(50);
    const start = performance.now();
    queue.pauseAll();
    assert.ok(queue.uploads.every(({ state }) => state === "paused" || state === "failed"));
    queue.goOnAll();
    queue.retryAll();
    await sleep(20);
    for (const upload of [...queue.uploads].reverse()) {
        queue.cancel(upload);
    }
    const took = performance.now() - start;
    assert.deepEqual(told(queue), [0, 0, 0, 0, 0, 0]);
    // A quadratic step would take minutes.
    assert.ok(took < 5000, String(took));
});
