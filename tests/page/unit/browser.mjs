// What Node lacks of a browser and the page needs: each does what it is for, over real connections.

import http from "node:http";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Worker as Thread } from "node:worker_threads";

/** XMLHttpRequest as the page uses it. */
class Request {
    upload = {};
    status = 0;
    #headers = {};

    open(method, url) {
        this.method = method;
        this.url = url;
    }

    setRequestHeader(name, value) {
        this.#headers[name] = value;
    }

    getResponseHeader(name) {
        return this.answer.headers[name.toLowerCase()] ?? null;
    }

    abort() {
        this.aborted = true;
        this.request.destroy();
    }

    send(body) {
        const total = body.size;
        const headers = { ...this.#headers, "Content-Length": total };
        this.request = http.request(this.url, { method: this.method, headers });
        this.request.on("response", (answer) => this.#receive(answer));
        let loaded = 0;
        const counted = new Transform({
            transform: (chunk, _, done) => {
                loaded += chunk.length;
                this.upload.onprogress?.({ loaded, total });
                done(null, chunk);
            },
        });
        const failed = () => this.answer === undefined && !this.aborted && this.onerror?.();
        this.request.on("error", failed);
        pipeline(Readable.fromWeb(body.stream()), counted, this.request).catch(() => {
            this.request.destroy();
            failed();
        });
    }

    async #receive(answer) {
        try {
            const chunks = await answer.toArray();
            this.answer = answer;
            this.status = answer.statusCode;
            this.responseText = Buffer.concat(chunks).toString();
            this.onload?.();
        } catch {
            this.onerror?.();
        }
    }
}

/** A module worker, whose global object is that of a thread. */
class PageWorker {
    constructor(url) {
        this.thread = new Thread(new URL("./worker.mjs", import.meta.url), { workerData: String(url) });
        this.thread.on("message", (data) => this.onmessage({ data }));
        this.thread.on("error", (error) => this.onerror(error));
    }

    postMessage(data) {
        this.thread.postMessage(data);
    }

    terminate() {
        void this.thread.terminate();
    }
}

const events = new EventTarget();
const stored = new Map();
Object.assign(globalThis, {
    XMLHttpRequest: Request,
    Worker: PageWorker,
    addEventListener: events.addEventListener.bind(events),
    dispatchEvent: events.dispatchEvent.bind(events),
    removeEventListener: events.removeEventListener.bind(events),
});
Object.defineProperty(globalThis, "localStorage", {
    configurable: true,
    value: { getItem: (key) => stored.get(key) ?? null, setItem: (key, text) => stored.set(key, text) },
});
