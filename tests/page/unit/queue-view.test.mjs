import assert from "node:assert/strict";
import test from "node:test";

/** @type {any} */ (globalThis).document = { documentElement: { lang: "en" }, getElementById: () => null };
const { chosen } = await import("../../../wsgi_store/web/page/queue-view.js");

const many = (/** @type {string} */ state, /** @type {number} */ count) =>
    Array.from({ length: count }, (_, i) => ({ state, name: `${state}-${i}` }));
const counts = (/** @type {{state: string}[]} */ uploads) =>
    Object.fromEntries([...new Set(uploads.map(({ state }) => state))].map((state) =>
        [state, uploads.filter((one) => one.state === state).length]));

test("a short list keeps the order in which files were added", () => {
    const uploads = [...many("done", 5), ...many("failed", 5), ...many("sending", 3), ...many("waiting", 7)];
    assert.deepEqual(chosen(uploads), uploads);
});

test("a long list begins with what is under way, and has what needs somebody", () => {
    const uploads = [...many("done", 5000), ...many("failed", 20), ...many("sending", 3), ...many("waiting", 5000)];
    const rows = chosen(uploads);
    assert.deepEqual(rows.slice(0, 3).map(({ state }) => state), ["sending", "sending", "sending"]);
    assert.deepEqual(counts(rows), { sending: 3, failed: 20, waiting: 50, done: 127 });
    assert.equal(rows.at(-127).name, "done-4999");
});

test("there are never more than two hundred rows, and what is under way has one", () => {
    for (const state of ["done", "failed", "paused", "waiting"]) {
        const uploads = [...many(state, 10_000), ...many("paused", 300), ...many("hashing", 4), ...many("failed", 300)];
        const rows = chosen(uploads);
        assert.ok(rows.length <= 200 && rows.length >= 180, `${state}: ${rows.length}`);
        assert.equal(counts(rows).hashing, 4);
        assert.equal(new Set(rows).size, rows.length);
    }
});
