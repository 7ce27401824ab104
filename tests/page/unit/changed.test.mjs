import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test from "node:test";
import { begun, fileOf, isStored, queueAt, sent, sha256, until } from "./service.mjs";

const MiB = 1 << 20;
// Node cannot read files of a disk in threads. Without the hash, the page has to notice the change by reading.
globalThis.Worker = undefined;

test("an upload of an earlier visit is begun anew where nothing can tell that it is the same", async () => {
    const [file, other] = [fileOf(34 * MiB), fileOf(34 * MiB)];
    const id = await begun(other, other.bytes.subarray(0, MiB));
    const queue = await queueAt();
    queue.unfinished.remember(file, "file", id);
    const upload = await sent(file);
    assert.deepEqual([upload.hash, upload.result?.hash], [null, sha256(file.bytes)]);
});

for (const change of ["bytes", "shorter", "gone", "folder"]) {
    test(`a file that changed while it was sent: ${change}`, async () => {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), "page-"));
        const name = path.join(folder, "file");
        const { bytes } = fileOf(34 * MiB);
        fs.writeFileSync(name, bytes);
        const blob = await fs.openAsBlob(name);
        const file = Object.assign(blob, { name: "file", lastModified: 1 });
        const queue = await queueAt();
        queue.add([{ file, name: "file" }]);
        const [upload] = queue.uploads;
        upload.sender.piece = upload.sender.most = MiB;
        while (upload.sent < 5 * MiB) {
            await sleep(1);
        }
        if (change === "bytes") {
            fs.writeFileSync(name, bytes.fill(0));
        } else if (change === "shorter") {
            fs.truncateSync(name, 10);
        } else {
            fs.rmSync(name);
            if (change === "folder") {
                fs.mkdirSync(name);
            }
        }
        await until(upload, "failed", "done");
        assert.ok(["file_changed", "file_unreadable"].includes(upload.problem?.code), upload.problem?.code);
        assert.equal(await isStored(bytes), false);
        fs.rmSync(folder, { recursive: true });
    });
}
