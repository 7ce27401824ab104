import assert from "node:assert/strict";
import test from "node:test";
import { Device } from "../../../wsgi_store/web/page/device.js";

// Node has no IndexedDB, like a window whose browser refuses it.
function device() {
    const made = new Device(new URL("https://store.example/"));
    // An open channel would keep the test running.
    made.others?.close();
    made.others = null;
    return made;
}

test("without a database uploads are remembered while the page is open", async () => {
    const one = device();
    let changes = 0;
    one.addEventListener("changed", () => changes++);
    await one.remember({ hash: "aa", name: "x", size: 1 });
    await one.remember({ hash: "aa", name: "y", size: 1 });
    await one.remember({ hash: "bb", name: "\ud800<script>", size: 2 });
    assert.equal((await one.list({ limit: 10 })).length, 3);
    assert.equal(changes, 3);
    assert.equal(await one.nameOf("bb"), "\ud800<script>");
    assert.equal(await one.nameOf("cc"), undefined);
    await one.forget("aa", "x");
    assert.deepEqual((await one.list({ limit: 10 })).map(({ name }) => name).sort(), ["y", "\ud800<script>"]);
    await one.gone("aa");
    assert.deepEqual((await one.list({ limit: 10 })).map(({ hash }) => hash), ["bb"]);
    await one.forgetAll();
    assert.deepEqual(await one.list({ limit: 10 }), []);
});

test("pages of what is remembered do not overlap, even for one moment", async () => {
    const one = device();
    for (let i = 0; i < 25; i++) {
        await one.remember({ hash: String(i % 5), name: String(i), size: i });
    }
    const seen = [];
    let before;
    for (let page = 0; page < 10; page++) {
        const found = await one.list({ before, limit: 10 });
        if (found.length === 0) {
            break;
        }
        seen.push(...found.map(({ name }) => name));
        before = found.at(-1);
    }
    assert.equal(seen.length, 25);
    assert.equal(new Set(seen).size, 25);
});
