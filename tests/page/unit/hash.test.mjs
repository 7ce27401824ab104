import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { fileOf } from "./service.mjs";
import { digestOf } from "../../../wsgi_store/web/page/hash.js";

const { signal } = new AbortController();
const NODE = { md5: "md5", sha1: "sha1", sha256: "sha256", sha512: "sha512", blake2b: "blake2b512" };

for (const size of [0, 1, (16 << 20) + 1]) {
    test(`hashes ${size} bytes by every algorithm`, async () => {
        const file = fileOf(size);
        for (const [algorithm, name] of Object.entries(NODE)) {
            assert.equal(await digestOf(file, algorithm, { signal }), createHash(name).update(file.bytes).digest("hex"));
        }
    });
}

test("BLAKE3 gives what its authors publish", async () => {
    const bytes = Uint8Array.from({ length: 1025 }, (_, i) => i % 251);
    const hash = "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444";
    assert.equal(await digestOf(new Blob([bytes]), "blake3", { signal }), hash);
    const nothing = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert.equal(await digestOf(new Blob([]), "blake3", { signal }), nothing);
});

test("hashes in the worker where there is no WebCrypto", async (t) => {
    t.mock.getter(globalThis.crypto, "subtle", () => undefined);
    const file = fileOf(100_000);
    const expected = createHash("sha256").update(file.bytes).digest("hex");
    assert.equal(await digestOf(file, "sha256", { signal }), expected);
});

test("several files at once, one of them given up", async () => {
    const files = Array.from({ length: 2 }, () => fileOf(17 << 20));
    const control = new AbortController();
    const given = digestOf(fileOf(17 << 20), "sha256", { signal: control.signal, onProgress: () => control.abort() });
    const hashes = files.map((file) => digestOf(file, "sha256", { signal }));
    await assert.rejects(given, { name: "AbortError" });
    const expected = files.map(({ bytes }) => createHash("sha256").update(bytes).digest("hex"));
    assert.deepEqual(await Promise.all(hashes), expected);
});

test("a file that went cannot be read, in memory or in the worker", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "page-"));
    for (const size of [10, 20 << 20]) {
        const name = path.join(folder, "file");
        fs.writeFileSync(name, Buffer.alloc(size));
        const blob = await fs.openAsBlob(name);
        fs.rmSync(name);
        await assert.rejects(digestOf(blob, "sha256", { signal }), { code: "file_unreadable" });
    }
    fs.rmSync(folder, { recursive: true });
});

test("without its code the worker says that it cannot hash", async () => {
    await assert.rejects(digestOf(fileOf(17 << 20), "unknown", { signal }), { code: "hash_unavailable" });
});
