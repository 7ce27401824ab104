// The real services that Python started for these tests, and what lies between them and the page.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import "./browser.mjs";
import { Service } from "../../../wsgi_store/web/page/api.js";
import { Queue } from "../../../wsgi_store/web/page/queue.js";

/** The service that lets everybody do everything. */
export const OPEN = process.env.PAGE_OPEN;
/** The one that wants a token, `secret-of-these-tests`, and limits files to 1 MiB. */
export const CLOSED = process.env.PAGE_CLOSED;

/** @param {string} [url] */
export async function serviceAt(url = OPEN) {
    const answer = await fetch(url, { headers: { Accept: "application/json" } });
    return new Service(new URL(url), await answer.json());
}

/** A queue of a fresh page. */
export async function queueAt(url = OPEN) {
    const remembered = [];
    const queue = new Queue(await serviceAt(url), { remember: async (result) => remembered.push(result) });
    return Object.assign(queue, { remembered });
}

/** @param {number} size @param {string} [name] */
export function fileOf(size, name = "file") {
    const bytes = randomBytes(size);
    return Object.assign(new File([bytes], name, { lastModified: 1 }), { bytes });
}

/** @param {Uint8Array} bytes */
export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** Wait until an upload is in one of the states. */
export async function until(upload, ...states) {
    while (!states.includes(upload.state)) {
        await Promise.race([once(upload, "changed"), new Promise((resolve) => setTimeout(resolve, 20_000).unref())
            .then(() => { throw new Error(`${upload.state} ${upload.problem?.code}, not ${states}`); })]);
    }
    return upload;
}

/** Send a file in a queue of its own until it ended. */
export async function sent(file, { url = OPEN, name = file.name } = {}) {
    const queue = await queueAt(url);
    queue.add([{ file, name }]);
    return until(queue.uploads[0], "done", "failed");
}

/** Whether the store has these bytes. */
export async function isStored(bytes, url = OPEN) {
    const answer = await fetch(new URL(sha256(bytes), url));
    return answer.ok && Buffer.from(await answer.arrayBuffer()).equals(bytes);
}

/** Begin an upload as an earlier visit did. */
export async function begun({ size }, bytes) {
    const TUS = { "Tus-Resumable": "1.0.0" };
    const length = String(size);
    const made = await fetch(new URL("uploads", OPEN), { method: "POST", headers: { ...TUS, "Upload-Length": length } });
    const id = made.headers.get("Location").split("/").pop();
    const headers = { ...TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream" };
    await fetch(new URL(`uploads/${id}`, OPEN), { method: "PATCH", headers, body: bytes });
    return id;
}

/**
 * A line to a service: `line.cut = n` breaks it after n more bytes, `line.fail()` breaks it until `line.down = false`.
 */
export async function lineTo(url = OPEN) {
    const { hostname, port } = new URL(url);
    const line = { cut: Infinity, down: false, cuts: 0, bytes: 0 };
    const sockets = new Set();
    const server = net.createServer((client) => {
        if (line.down) {
            client.resetAndDestroy();
            return;
        }
        const far = net.connect(Number(port), hostname);
        for (const [from, to] of [[client, far], [far, client]]) {
            sockets.add(from);
            from.on("error", () => to.destroy());
            from.on("close", () => to.destroy());
            from.on("data", (chunk) => {
                if (from === client) {
                    line.bytes += chunk.length;
                    if ((line.cut -= chunk.length) <= 0) {
                        line.cut = Infinity;
                        line.cuts++;
                        far.end(chunk.subarray(0, chunk.length >> 1));
                        client.resetAndDestroy();
                        return;
                    }
                }
                if (!to.write(chunk)) {
                    from.pause();
                    to.once("drain", () => from.resume());
                }
            });
            from.on("end", () => to.end());
        }
    });
    server.listen(0, "127.0.0.1");
    server.unref();
    await once(server, "listening");
    line.url = `http://127.0.0.1:${server.address().port}/`;
    line.fail = () => {
        line.down = true;
        sockets.forEach((socket) => socket.destroy());
    };
    line.close = () => {
        server.close();
        line.fail();
    };
    return line;
}

/** A proxy that answers some requests itself, and passes on the others. */
export async function proxyTo(answers, url = OPEN, fields = {}) {
    const server = http.createServer((request, response) => {
        const own = answers(request);
        if (own) {
            response.writeHead(own, { "Content-Type": "text/html", Connection: "close", ...fields });
            response.end("<h1>from the proxy</h1>");
            request.resume();
            return;
        }
        const { method, headers } = request;
        const far = http.request(new URL(request.url, url), { method, headers }, (answer) => {
            response.writeHead(answer.statusCode, answer.headers);
            answer.pipe(response);
        });
        far.on("error", () => response.destroy());
        request.on("close", () => request.complete || far.destroy());
        request.pipe(far);
    });
    server.listen(0, "127.0.0.1");
    server.unref();
    await once(server, "listening");
    return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.closeAllConnections() };
}
