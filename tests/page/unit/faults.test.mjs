import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import test from "node:test";
import { fileOf, lineTo, proxyTo, queueAt, sent, sha256, until, OPEN } from "./service.mjs";

const MiB = 1 << 20;

test("a line that breaks again and again", async () => {
    const line = await lineTo();
    const file = fileOf(34 * MiB);
    const queue = await queueAt(line.url);
    line.cut = 5 * MiB;
    queue.add([{ file, name: "file" }]);
    const [upload] = queue.uploads;
    upload.addEventListener("changed", () => {
        if (upload.state === "retrying") {
            assert.equal(upload.problem.code, "network");
            dispatchEvent(new Event("online"));
        } else if (line.cuts < 3 && line.cut === Infinity) {
            line.cut = 5 * MiB;
        }
    });
    await until(upload, "done", "failed");
    assert.equal(upload.result?.hash, sha256(file.bytes));
    assert.ok(line.cuts >= 2, String(line.cuts));
    assert.ok(line.bytes < 50 * MiB, "what has arrived is not sent again");
    line.close();
});

test("a server that is away is waited for", async () => {
    const line = await lineTo();
    const queue = await queueAt(line.url);
    line.fail();
    const files = [fileOf(10), fileOf(MiB)];
    queue.add(files.map((file) => ({ file, name: "file" })));
    await Promise.all(queue.uploads.map((upload) => until(upload, "retrying")));
    line.down = false;
    dispatchEvent(new Event("online"));
    for (const [i, upload] of queue.uploads.entries()) {
        await until(upload, "done", "failed");
        assert.equal(upload.result?.hash, sha256(files[i].bytes));
    }
    line.close();
});

test("pausing and cancelling while it waits for the server", async () => {
    const line = await lineTo();
    const queue = await queueAt(line.url);
    line.fail();
    queue.add([1, 2].map((i) => ({ file: fileOf(100_000), name: `file ${i}` })));
    const [one, two] = queue.uploads;
    await Promise.all([until(one, "retrying"), until(two, "retrying")]);
    queue.pause(one);
    queue.cancel(two);
    line.down = false;
    dispatchEvent(new Event("online"));
    await sleep(100);
    assert.deepEqual([one.state, two.state], ["paused", "cancelled"]);
    queue.goOn(one);
    await until(one, "done", "failed");
    assert.equal(one.problem, null);
    line.close();
});

test("smaller pieces through a proxy with a limit", async () => {
    const proxy = await proxyTo(({ headers }) => (Number(headers["content-length"]) > 9 * MiB ? 413 : 0));
    const file = fileOf(34 * MiB);
    const upload = await sent(file, { url: proxy.url });
    assert.equal(upload.result?.hash, sha256(file.bytes));
    proxy.close();
});

test("a proxy that lets nothing through is told by its own status", async () => {
    const proxy = await proxyTo(({ method }) => (method === "GET" ? 0 : 413));
    const upload = await sent(fileOf(100_000), { url: proxy.url });
    assert.deepEqual([upload.problem?.code, upload.problem?.status], ["unreadable", 413]);
    proxy.close();
});

test("a proxy whose server restarts is waited for", async () => {
    let failing = 2;
    const proxy = await proxyTo(({ method }) => (method !== "GET" && failing-- > 0 ? 502 : 0));
    const file = fileOf(100_000);
    const queue = await queueAt(proxy.url);
    queue.add([{ file, name: "file" }]);
    const [upload] = queue.uploads;
    upload.addEventListener("changed", () => upload.state === "retrying" && setTimeout(
        () => dispatchEvent(new Event("online"))));
    await until(upload, "done", "failed");
    assert.equal(upload.result?.hash, sha256(file.bytes));
    proxy.close();
});

test("the page of somebody between is not taken for an answer", async () => {
    const proxy = await proxyTo(({ method }) => (method === "GET" ? 0 : 200));
    for (const size of [10, 100_000]) {
        assert.equal((await sent(fileOf(size), { url: proxy.url })).problem?.code, "unreadable");
    }
    proxy.close();
});

test("an upload that is lost while it is sent begins anew, but not for ever", async () => {
    let lost = 1;
    const proxy = await proxyTo(({ method, url }) => {
        if (method === "PATCH" && lost-- > 0) {
            void fetch(new URL(url, OPEN), { method: "DELETE", headers: { "Tus-Resumable": "1.0.0" } });
            return 503;
        }
        return 0;
    });
    const file = fileOf(MiB);
    const upload = await sent(file, { url: proxy.url });
    assert.equal(upload.result?.hash, sha256(file.bytes));
    proxy.close();
});

test("a server that asks for no pause is not asked again at once", async () => {
    let asked = 0;
    const proxy = await proxyTo(({ method }) => (method === "GET" ? 0 : (asked++, 429)), OPEN, { "Retry-After": "0" });
    const queue = await queueAt(proxy.url);
    queue.add([{ file: fileOf(10), name: "file" }]);
    await until(queue.uploads[0], "retrying");
    await sleep(1500);
    assert.ok(asked <= 2, String(asked));
    queue.cancelAll();
    proxy.close();
});

test("a server that asks for days is asked again earlier", async (context) => {
    const proxy = await proxyTo(({ method }) => (method === "GET" ? 0 : 503), OPEN, { "Retry-After": "9000000" });
    const queue = await queueAt(proxy.url);
    const real = setTimeout;
    const waits = [];
    context.mock.method(globalThis, "setTimeout", (/** @type {() => void} */ done, /** @type {number} */ time) => {
        waits.push(time);
        return real(done, time);
    });
    queue.add([{ file: fileOf(10), name: "file" }]);
    await until(queue.uploads[0], "retrying");
    await sleep(50);
    // Longer times than a timer knows would end at once.
    assert.ok(waits.includes(600_000), String(waits));
    queue.cancelAll();
    proxy.close();
});
