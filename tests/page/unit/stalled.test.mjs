import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { Worker } from "node:worker_threads";
import { fileOf, sha256 } from "./service.mjs";

const PAGE = new URL("../../../wsgi_store/web/page/hash-worker.js", import.meta.url).href;

for (const before of [0, 1, 100_000]) {
    test(`reads on when streams stop after ${before} bytes`, { timeout: 20_000 }, async (t) => {
        const env = { ...process.env, BEFORE: String(before) };
        const worker = new Worker(new URL("stalling.mjs", import.meta.url), { workerData: PAGE, env });
        t.after(() => worker.terminate());
        const file = fileOf(3_000_000);
        worker.postMessage({ job: 1, algorithm: "sha256" });
        worker.postMessage({ job: 1, chunk: file });
        worker.postMessage({ job: 1, finish: true });
        const told = [];
        while (!told.at(-1)?.hash) {
            told.push(...(await once(worker, "message")));
        }
        assert.deepEqual(told, [{ job: 1, ready: true }, { job: 1, hashed: file.size }, { job: 1, hash: sha256(file.bytes) }]);
    });
}
