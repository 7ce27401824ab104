// @ts-check

/** A failure as the service tells it (RFC 9457), or of the line, or of the page itself. */
export class Problem extends Error {
    /**
     * @param {string} code `network` if there was no answer, `unreadable` if the answer is not the service's
     * @param {number} [status]
     * @param {Record<string, any>} [evidence]
     * @param {number | null} [retryAfter] in seconds
     */
    constructor(code, status = 0, evidence = {}, retryAfter = null) {
        super(code);
        this.code = code;
        this.status = status;
        this.evidence = evidence;
        this.retryAfter = retryAfter;
    }
}

// The answer to HEAD has no body that tells the code.
/** @type {Record<number, string>} */
const BY_STATUS = {
    401: "unauthenticated", 403: "denied", 404: "blob_not_found", 413: "too_large", 423: "upload_locked",
    503: "store_unavailable",
};

/**
 * @typedef {object} Options
 * @property {string} [method]
 * @property {Record<string, string>} [headers]
 * @property {BodyInit | null} [body]
 * @property {AbortSignal} [signal]
 * @property {(sent: number) => void} [onProgress] told how many bytes of the body were sent
 * @property {boolean} [asBlob]
 * @property {(received: number) => void} [onReceived]
 */

/** @typedef {{status: number, headers: {get: (name: string) => string | null}, json?: any, text?: string, blob?: Blob}} Answer */

// Milliseconds. A line that is gone without a word, as after sleep, is noticed by its silence.
const SILENCE = 60_000;
const ANSWERING = 120_000;
// Storing a large file takes a while after its last byte; whether an upload in pieces is stored can be asked.
const STORING = 900_000;

/** The service whose page this is. */
export class Service {
    /**
     * @param {URL} base where it is mounted, with a slash at the end
     * @param {Record<string, any>} description what it tells everybody of itself
     */
    constructor(base, description) {
        this.base = base;
        this.description = description;
        /** @type {string[]} */
        this.open = description.scopes ?? [];
        /** @type {string[]} */
        this.everybody = description.everybody ?? this.open;
        /** @type {{token?: string, ticket?: string}} */
        this.credentials = {};
    }

    /** Whether callers without credentials may do this. @param {string} scope */
    everybodyMay(scope) {
        return this.everybody.includes(scope);
    }

    /** Whether the browser may do this without a token, perhaps by a cookie. @param {string} scope */
    browserMay(scope) {
        return this.open.includes(scope);
    }

    /** Whether the caller may do this. @param {string} scope */
    may(scope) {
        return (this.description.scopes ?? this.open).includes(scope);
    }

    /** Ask again what the caller may do. @param {AbortSignal} [signal] */
    async refresh(signal) {
        const { json } = await this.request("", { signal });
        if (json?.service !== "wsgi_store") {
            throw new Problem("unreadable");
        }
        this.description = json;
    }

    /**
     * Send a request and wait for its answer; rejects with a Problem, or with the reason of `signal`.
     *
     * @param {string} path below the mount, without a slash in front
     * @param {Options} [options]
     * @returns {Promise<Answer>}
     */
    async request(path, options = {}) {
        const url = new URL(path, this.base);
        /** @type {Record<string, string>} */
        const headers = { Accept: "application/json", "X-Requested-With": "XMLHttpRequest", ...options.headers };
        const { token, ticket } = this.credentials;
        if (token) {
            headers.Authorization = `Bearer ${token}`;
        } else if (ticket) {
            url.searchParams.set("ticket", ticket);
        }
        const answer = await (options.onProgress ? sent(url, headers, options) : fetched(url, headers, options));
        const kind = answer.headers.get("Content-Type") ?? "";
        if (answer.text && kind.startsWith("application/") && kind.includes("json")) {
            answer.json = parsed(answer.text);
        }
        if (answer.status >= 400) {
            const body = answer.json ?? parsed(answer.text ?? (await answer.blob?.text()) ?? "") ?? {};
            throw problemOf(answer, kind, body);
        }
        return answer;
    }
}

/** @param {Answer} answer @param {string} kind @param {Record<string, any>} body */
function problemOf({ status, headers }, kind, body) {
    const { code, ...evidence } = body;
    const isOurs = kind === "application/problem+json";
    const told = isOurs ? code ?? BY_STATUS[status] ?? "internal_error" : "unreadable";
    const after = Number(headers.get("Retry-After") ?? NaN);
    return new Problem(told, status, { ...evidence, status }, Number.isFinite(after) ? after : null);
}

/** @param {string} text */
function parsed(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}

/** @param {URL} url @param {Record<string, string>} headers @param {Options} options @returns {Promise<Answer>} */
async function fetched(url, headers, { method = "GET", body, signal, asBlob, onReceived }) {
    const silent = new AbortController();
    const timer = setTimeout(() => silent.abort(), ANSWERING);
    try {
        const answer = await fetch(url, {
            method,
            headers,
            body,
            signal: signal ? AbortSignal.any([signal, silent.signal]) : silent.signal,
            cache: "no-store",
            // Host applications may know people by cookies, which XMLHttpRequest sends as well.
            credentials: "same-origin",
        });
        if (onReceived) {
            // A download takes as long as it takes.
            clearTimeout(timer);
        }
        const { status, headers: fields } = answer;
        // Making a blob of each short answer would slow down a queue of small files.
        return asBlob
            ? { status, headers: fields, blob: onReceived ? await received(answer, onReceived) : await answer.blob() }
            : { status, headers: fields, text: await answer.text() };
    } catch (error) {
        signal?.throwIfAborted();
        throw new Problem("network", 0, { reason: String(error) });
    } finally {
        clearTimeout(timer);
    }
}

/** @param {Response} answer @param {(received: number) => void} onReceived */
async function received(answer, onReceived) {
    let count = 0;
    const counting = new TransformStream({
        transform(chunk, controller) {
            onReceived((count += chunk.byteLength));
            controller.enqueue(chunk);
        },
    });
    const { headers } = answer;
    return new Response(answer.body?.pipeThrough(counting), { headers }).blob();
}

/**
 * Send a body and tell how much of it was sent, as `fetch` cannot.
 *
 * @param {URL} url
 * @param {Record<string, string>} headers
 * @param {Options} options
 * @returns {Promise<Answer>}
 */
function sent(url, headers, { method = "POST", body, signal, onProgress }) {
    return new Promise((resolve, reject) => {
        const request = new XMLHttpRequest();
        const storing = method === "PATCH" ? ANSWERING : STORING;
        /** @type {ReturnType<typeof setTimeout>} */
        let silent;
        const fail = () => {
            end();
            reject(new Problem("network"));
        };
        const watch = (/** @type {number} */ time) => {
            clearTimeout(silent);
            silent = setTimeout(() => {
                fail();
                request.abort();
            }, time);
        };
        const stop = () => {
            end();
            reject(signal?.reason);
            request.abort();
        };
        const end = () => {
            clearTimeout(silent);
            signal?.removeEventListener("abort", stop);
        };
        request.open(method, url);
        request.responseType = "text";
        for (const [name, value] of Object.entries(headers)) {
            request.setRequestHeader(name, value);
        }
        let last = 0;
        request.upload.onprogress = ({ loaded, total }) => {
            if (loaded < last) {
                // After a broken connection browsers begin the body anew, though the service has a part of it.
                // Only Firefox lets it be seen.
                fail();
                request.abort();
                return;
            }
            last = loaded;
            watch(loaded < total ? SILENCE : storing);
            onProgress?.(loaded);
        };
        request.upload.onload = () => watch(storing);
        request.onerror = fail;
        request.onload = () => {
            end();
            const get = (/** @type {string} */ name) => request.getResponseHeader(name);
            resolve({ status: request.status, headers: { get }, text: request.responseText });
        };
        if (signal?.aborted) {
            reject(signal.reason);
            return;
        }
        signal?.addEventListener("abort", stop);
        watch(SILENCE);
        request.send(/** @type {XMLHttpRequestBodyInit} */ (body));
    });
}
