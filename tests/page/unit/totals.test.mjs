import assert from "node:assert/strict";
import test from "node:test";
import { Speed, Totals } from "../../../wsgi_store/web/page/totals.js";

const MiB = 1 << 20;

/** Let time pass for what looks at the clock. */
function clock(context) {
    let now = performance.now();
    context.mock.method(performance, "now", () => now);
    return (/** @type {number} */ seconds) => (now += seconds * 1000);
}

const upload = (/** @type {object} */ of) => ({ state: "sending", sent: 0, moved: 0, size: 0, look() {}, ...of });

test("a speed is not that of a pause, and nothing that stands still has one", (context) => {
    const pass = clock(context);
    const speed = new Speed(0.3);
    speed.begin(0);
    pass(1);
    speed.measure(10 * MiB);
    assert.equal(Math.round(speed.value), 10 * MiB);
    pass(4);
    speed.measure(10 * MiB);
    assert.equal(Math.round(speed.value), 10 * MiB, "a short silence is none");
    pass(2);
    speed.measure(10 * MiB);
    assert.equal(speed.value, 0);
    pass(3600);
    speed.begin(10 * MiB);
    pass(0.5);
    speed.measure(15 * MiB);
    assert.equal(Math.round(speed.value), 10 * MiB);
});

test("the time that is left makes sense with small and large files, and after a lost line", (context) => {
    const pass = clock(context);
    const totals = new Totals();
    const small = Array.from({ length: 2000 }, () => upload({ state: "waiting", size: 10 }));
    const large = upload({ state: "waiting", size: 1024 * MiB });
    [...small, large].forEach((one) => totals.count(one));
    for (let i = 0; i < 1000; i++) {
        Object.assign(small[i], { state: "done", sent: 10, moved: 10 });
        totals.count(small[i]);
        pass(0.01);
        totals.measure(new Set([small[i + 1]]));
    }
    assert.ok(totals.value.speed < 2000, String(totals.value.speed));
    // By bytes alone it would be twelve days.
    assert.ok(totals.value.left > 60 && totals.value.left < 600, String(totals.value.left));
    large.state = "retrying";
    totals.count(large);
    totals.measure(new Set([large]));
    assert.deepEqual([totals.value.speed, totals.value.left], [0, Infinity]);
    pass(3600);
    totals.measure(new Set([large]));
    Object.assign(large, { state: "sending", moved: 100 * MiB, sent: 100 * MiB });
    totals.count(large);
    pass(1);
    totals.measure(new Set([large]));
    assert.equal(Math.round(totals.value.speed / MiB), 100);
});

test("each upload is counted once, whatever happens to it", () => {
    const totals = new Totals();
    const one = upload({ state: "waiting", size: 100 });
    for (const state of ["waiting", "hashing", "sending", "retrying", "paused", "waiting", "storing", "failed", "done"]) {
        Object.assign(one, { state, sent: 50 });
        totals.count(one);
        const { done, failed, waiting, paused, running, bytes } = totals.value;
        assert.deepEqual([done + failed + waiting + paused + running, bytes], [1, state === "failed" ? 0 : 100], state);
    }
    totals.uncount(one);
    totals.uncount(one);
    assert.deepEqual(Object.values(totals.sums), Object.values(totals.sums).map(() => 0));
});
