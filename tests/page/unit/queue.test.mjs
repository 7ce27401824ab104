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

test("everything that is not stored is cancelled at once", async () => {
    const queue = await queueAt();
    queue.add(some(3));
    await Promise.all(queue.uploads.map((upload) => until(upload, "done")));
    queue.add([...some(2000), { file: fileOf(40 << 20), name: "large" }]);
    while (queue.totals.done < 10) {
        await sleep(1);
    }
    const others = queue.uploads.filter(({ state }) => state !== "done");
    queue.cancelAll();
    assert.ok(others.every(({ state }) => state === "cancelled"));
    assert.deepEqual(told(queue), summed(queue));
    assert.equal(queue.totals.done, queue.totals.count);
    queue.add(some(1));
    await until(queue.uploads.at(-1), "done");
});

test("small files do not wait for large ones, and each kind keeps its order", async () => {
    const queue = await queueAt();
    queue.start = () => {};
    const large = new File(Array(33).fill(new Uint8Array(1 << 20)), "large");
    queue.add([1, 2, 3, 4].map((i) => ({ file: large, name: `large ${i}` })));
    queue.add(some(3));
    const begun = [];
    const begin = () => {
        const upload = queue.following();
        if (upload !== undefined) {
            upload.become("sending");
            queue.running.add(upload);
            begun.push(upload.name);
        }
        return upload;
    };
    const end = (upload) => {
        queue.running.delete(upload);
        upload.become("done");
    };
    const [one] = [begin(), begin()];
    end(begin());
    end(begin());
    end(one);
    begin();
    end(begin());
    assert.equal(begin(), undefined);
    assert.deepEqual(begun, ["large 1", "large 2", "file 0", "file 1", "large 3", "file 2"]);
    assert.equal(queue.nextOf("large").name, "large 4");
});

test("what the device remembers may be anything", async () => {
    const queue = await queueAt();
    for (const text of ["null", "[]", "1", "\"text\"", "{", "{\"a\": {}}"]) {
        localStorage.setItem(queue.unfinished.place, text);
        const file = fileOf(1);
        assert.equal(queue.unfinished.find(file, "file"), undefined);
        queue.unfinished.remember(file, "file", "id");
        assert.equal(queue.unfinished.find(file, "file"), "id");
        queue.unfinished.forget(file, "file");
    }
    const file = fileOf(1);
    for (let i = 0; i < 300; i++) {
        queue.unfinished.remember(file, `file ${i}`, String(i));
    }
    assert.equal(Object.keys(queue.unfinished.read()).length, 200);
    assert.equal(queue.unfinished.find(file, "file 299"), "299");
});
