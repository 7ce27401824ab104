// Runs the worker that hashes where the first streams of files stop in the middle, as some do in Chromium.

const BEFORE = Number(process.env.BEFORE);
const { stream } = Blob.prototype;
const wait = setTimeout;
let left = 3;

Blob.prototype.stream = function () {
    if (left-- <= 0) {
        return stream.call(this);
    }
    const reader = stream.call(this.slice(0, BEFORE)).getReader();
    const pull = async (controller) => {
        const { done, value } = await reader.read();
        return done ? new Promise(() => {}) : controller.enqueue(value);
    };
    return new ReadableStream({ type: "bytes", pull });
};
globalThis.setTimeout = (act, time, ...more) => wait(act, time / 50, ...more);
await import("./worker.mjs");
