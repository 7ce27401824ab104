import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import test from "node:test";
import { begun, fileOf, isStored, queueAt, sent, serviceAt, sha256, until, CLOSED, OPEN } from "./service.mjs";
import { Unfinished } from "../../../wsgi_store/web/page/unfinished.js";

const KiB = 1 << 10;
const MiB = 1 << 20;
const TUS = { "Tus-Resumable": "1.0.0" };

/** What the device would remember of an upload. */
const unfinished = async () => new Unfinished(await serviceAt());

/** Whether the service knows an upload. */
async function isKnown(id) {
    return (await fetch(new URL(`uploads/${id}`, OPEN), { method: "HEAD", headers: TUS })).ok;
}

for (const size of [0, 1, 64 * KiB, 64 * KiB + 1, 65 * MiB]) {
    test(`${size} bytes are stored and compared`, async () => {
        const file = fileOf(size);
        const upload = await sent(file);
        assert.equal(upload.problem, null);
        assert.deepEqual(upload.result, { hash: sha256(file.bytes), size, name: "file" });
        assert.equal(upload.hash, upload.result.hash);
        assert.equal(upload.sent, size);
        assert.ok(await isStored(file.bytes));
    });
}

test("what the store holds is not sent", async () => {
    const file = fileOf(MiB);
    assert.equal((await sent(file)).held, false);
    const again = await sent(file, { name: "other" });
    assert.deepEqual([again.held, again.moved, again.result.hash], [true, 0, sha256(file.bytes)]);
});

test("what the store holds is found while it is sent", async () => {
    const file = fileOf(34 * MiB);
    await fetch(OPEN, { method: "POST", body: file });
    const queue = await queueAt();
    queue.add([{ file, name: "file" }]);
    const [upload] = queue.uploads;
    upload.sender.piece = upload.sender.most = MiB;
    await until(upload, "done", "failed");
    assert.deepEqual([upload.held, upload.result?.hash], [true, sha256(file.bytes)]);
    assert.ok(upload.moved < file.size, String(upload.moved));
});

for (const name of ["\ud800 alone", "имя.txt", "a/b/c", "\u202egpj.exe", "x".repeat(10_000), "\r\n\0", ""]) {
    test(`a file may be called ${JSON.stringify(name.slice(0, 12))}`, async () => {
        const upload = await sent(fileOf(65 * KiB), { name });
        assert.deepEqual([upload.problem, upload.result?.name], [null, name]);
    });
}

test("an upload of an earlier visit goes on", async () => {
    const file = fileOf(34 * MiB);
    const id = await begun(file, file.bytes.subarray(0, 30 * MiB));
    (await unfinished()).remember(file, "file", id);
    const upload = await sent(file);
    assert.equal(upload.result?.hash, sha256(file.bytes));
    assert.ok(upload.moved <= 5 * MiB, String(upload.moved));
    assert.equal((await unfinished()).find(file, "file"), undefined);
});

test("the bytes of another file with the same name, size and time are never taken for this one", async () => {
    const [file, other] = [fileOf(34 * MiB), fileOf(34 * MiB)];
    const id = await begun(other, other.bytes.subarray(0, 30 * MiB));
    (await unfinished()).remember(file, "file", id);
    const queue = await queueAt();
    queue.add([{ file, name: "file" }]);
    const [upload] = queue.uploads;
    await until(upload, "done", "failed");
    assert.ok(["digest_mismatch", "hash_mismatch"].includes(upload.problem?.code), upload.problem?.code);
    queue.retry(upload);
    await until(upload, "done", "failed");
    assert.equal(upload.result?.hash, sha256(file.bytes));
});

test("an upload that expired is begun anew", async () => {
    const file = fileOf(34 * MiB);
    (await unfinished()).remember(file, "file", "0".repeat(32));
    assert.equal((await sent(file)).result?.hash, sha256(file.bytes));
});

test("pausing and going on at any moment", async () => {
    const file = fileOf(34 * MiB);
    const queue = await queueAt();
    queue.add([{ file, name: "file" }]);
    const [upload] = queue.uploads;
    for (let i = 0; i < 12 && upload.state !== "done"; i++) {
        await sleep(i * 7);
        queue.pause(upload);
        if (upload.state !== "done") {
            assert.equal(upload.state, "paused");
            await sleep(i % 3);
            assert.equal(upload.state, "paused");
            queue.goOn(upload);
        }
    }
    await until(upload, "done", "failed");
    assert.equal(upload.result?.hash, sha256(file.bytes));
});

test("cancelling at any moment leaves nothing", async () => {
    const queue = await queueAt();
    const asked = [];
    const { request } = queue.service;
    queue.service.request = async function (where, options) {
        const answer = await request.call(this, where, options);
        asked.push(answer.headers.get("Location")?.split("/").pop());
        return answer;
    };
    for (let i = 0; i < 4; i++) {
        const file = fileOf(36 * MiB);
        queue.add([{ file, name: `file ${i}` }]);
        await sleep(i * 30);
        const [upload] = queue.uploads;
        queue.cancel(upload);
        assert.equal(upload.state, "cancelled");
        assert.equal(queue.uploads.length, 0);
        assert.equal((await unfinished()).find(file, `file ${i}`), undefined);
    }
    await sleep(1500);
    for (const id of asked.filter(Boolean)) {
        assert.equal(await isKnown(id), false, id);
    }
    const { count, bytes, sent: all } = queue.totals;
    assert.deepEqual([count, bytes, all], [0, 0, 0]);
});

test("two tabs send the same file", async () => {
    for (const size of [MiB, 40 * MiB]) {
        const file = fileOf(size);
        const uploads = await Promise.all([sent(file), sent(file)]);
        assert.deepEqual(uploads.map(({ result }) => result?.hash), Array(2).fill(sha256(file.bytes)));
    }
});

test("a file that is too large is told before it is sent", async () => {
    const upload = await sent(fileOf(2 * MiB), { url: CLOSED });
    assert.deepEqual([upload.problem?.code, upload.problem?.evidence, upload.moved], ["too_large", { limit: MiB }, 0]);
});

test("a page whose store changed its algorithm hashes the file again", async () => {
    const queue = await queueAt();
    queue.service.description.algorithm = "sha512";
    const file = fileOf(10);
    queue.service.request = async function (where, options) {
        // As before the migration, when the page was opened.
        return Object.getPrototypeOf(this).request.call(this, where.replace(/\?hash=.*/, ""), options);
    };
    queue.add([{ file, name: "file" }]);
    const upload = await until(queue.uploads[0], "done", "failed");
    assert.deepEqual([upload.hash, upload.result?.hash], [sha256(file.bytes), sha256(file.bytes)]);
});
