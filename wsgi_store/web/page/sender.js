// @ts-check
import { Problem } from "./api.js";
import { linkName } from "./names.js";
import { patience } from "./patience.js";

/** @typedef {import("./upload.js").Upload} Upload */

// One request is cheaper than asking first.
const SMALL = 64 << 10;
/** What is larger is hashed while it is sent: hashing less takes no longer than a request. */
export const HASH_FIRST = 32 << 20;
// Proxies of the internet often take 100 MB.
const PIECE = 64 << 20;
// On a bad line Chromium sends all of a piece anew before the page can go on.
const FIRST_PIECE = 8 << 20;
const LEAST_PIECE = 512 << 10;
const TUS = { "Tus-Resumable": "1.0.0" };
// A request that was just aborted may still hold its upload.
const REMOVALS = 5;

/** @typedef {{at: string, offset: number, stored?: string}} Place an upload at the server, and the hash if it is stored */

/** Sends the file of an upload, in one request or in pieces. */
export class Sender {
    /** @param {Upload} upload */
    constructor(upload) {
        this.upload = upload;
        this.service = upload.service;
        /** The id of the upload at the server. @type {string | undefined} */
        this.at = undefined;
        // Whether an earlier visit began it, perhaps with a file that only looks the same.
        this.isOld = false;
        // Whether the server knows the hash of the upload.
        this.announced = false;
        /** @type {Promise<Place | null> | undefined} */
        this.elsewhere = undefined;
        this.piece = FIRST_PIECE;
        // What a proxy lets through.
        this.most = PIECE;
    }

    /**
     * Send until the file is stored; rejects with a Problem that only a person can solve.
     *
     * @param {AbortSignal} signal
     * @returns {Promise<string>} the hash that the server tells
     */
    send(signal) {
        const { upload, service } = this;
        this.elsewhere = undefined;
        if (!("uploads" in service.description.links) || upload.size <= SMALL) {
            return patience(this, signal, () => this.post(signal));
        }
        if (this.at === undefined && upload.size > HASH_FIRST) {
            this.at = upload.unfinished.find(upload.file, upload.name);
            this.isOld = this.at !== undefined;
        }
        return patience(this, signal, () => this.resume(signal));
    }

    /** Remove what the server has of the file. */
    discard() {
        const { at } = this;
        this.lose();
        if (at !== undefined) {
            void this.remove(at);
        }
    }

    /** Begin anew the next time. */
    lose() {
        this.at = undefined;
        this.isOld = false;
        this.announced = false;
        this.upload.unfinished.forget(this.upload.file, this.upload.name);
    }

    /** Take smaller pieces; false if they are as small as they can be. @param {boolean} isForGood */
    shrink(isForGood) {
        const smaller = Math.max(LEAST_PIECE, this.piece / 8);
        const can = smaller < this.piece;
        this.piece = smaller;
        if (isForGood) {
            this.most = smaller;
        }
        return can;
    }

    /** @param {string} at */
    async remove(at) {
        for (let i = 0; i < REMOVALS; i++) {
            try {
                await this.service.request(`uploads/${at}`, { method: "DELETE", headers: TUS });
                return;
            } catch (problem) {
                if (problem instanceof Problem && problem.status !== 423 && problem.code !== "network") {
                    return;
                }
                await new Promise((resolve) => setTimeout(resolve, 1000 * 2 ** i));
            }
        }
    }

    /** Send the file in one request; returns its hash. @param {AbortSignal} signal */
    async post(signal) {
        const { upload } = this;
        upload.enter("sending", signal);
        upload.reach(0);
        const { json } = await this.service.request(this.withHash(""), {
            method: "POST",
            headers: { "Content-Type": "application/octet-stream" },
            body: upload.file,
            signal,
            ...(upload.size > SMALL && { onProgress: (/** @type {number} */ sent) => upload.progress(sent) }),
        });
        if (typeof json?.hash !== "string") {
            throw new Problem("unreadable");
        }
        upload.progress(upload.size);
        upload.held = !json.created;
        return json.hash;
    }

    /** Create an upload or go on with one until its file is stored; returns the hash. @param {AbortSignal} signal */
    async resume(signal) {
        const { upload } = this;
        let reached = await (this.at === undefined ? this.create(signal) : this.look(signal));
        while (typeof reached === "number") {
            upload.enter("sending", signal);
            upload.reach(reached);
            reached = await this.append(reached, signal);
        }
        return reached;
    }

    /** @param {AbortSignal} signal @returns {Promise<number | string>} the offset, or the hash of what is stored */
    async create(signal) {
        const isAnnounced = this.upload.hash !== null;
        const found = await this.ask(signal);
        return this.take(found, isAnnounced);
    }

    /** Go on with an upload at the server. @param {Place} found @param {boolean} isAnnounced */
    take({ at, offset, stored }, isAnnounced) {
        const { upload } = this;
        if (stored !== undefined) {
            upload.held = true;
            return stored;
        }
        this.at = at;
        this.isOld = false;
        this.announced = isAnnounced;
        if (upload.size > HASH_FIRST) {
            upload.unfinished.remember(upload.file, upload.name, at);
        }
        return offset;
    }

    /** Create an upload, or find that of the same content. @param {AbortSignal} signal @returns {Promise<Place>} */
    async ask(signal) {
        const { size, name } = this.upload;
        const metadata = `filename ${base64(linkName(name))}`;
        const { headers } = await this.service.request(this.withHash("uploads"), {
            method: "POST",
            headers: { ...TUS, "Upload-Length": String(size), "Upload-Metadata": metadata },
            signal,
        });
        const at = lastOf(headers.get("Location"));
        if (at === undefined) {
            throw new Problem("unreadable");
        }
        return { at, offset: Number(headers.get("Upload-Offset")), stored: lastOf(headers.get("Content-Location")) };
    }

    /** @param {AbortSignal} signal @returns {Promise<number | string>} the offset, or the hash of what is stored */
    async look(signal) {
        // Only the hash can tell that the old bytes are those of this file.
        if (this.isOld && !(await this.upload.canHash(signal))) {
            this.lose();
            return this.create(signal);
        }
        try {
            const { json } = await this.service.request(`uploads/${this.at}`, { headers: TUS, signal });
            if (json?.length === null || json?.length === this.upload.size) {
                return json.hash ?? json.offset;
            }
        } catch (problem) {
            if (!(problem instanceof Problem && problem.code === "upload_not_found")) {
                throw problem;
            }
        }
        this.lose();
        return this.create(signal);
    }

    /**
     * Send a piece.
     *
     * @param {number} offset
     * @param {AbortSignal} signal
     * @returns {Promise<number | string>} the offset, or the hash of what is stored
     */
    async append(offset, signal) {
        const { upload } = this;
        // Asked while the piece is sent, and only once.
        const stop = new AbortController();
        this.elsewhere ??= this.lookElsewhere(signal);
        void this.elsewhere.then((found) => found !== null && stop.abort());
        const announces = !this.announced && upload.hash !== null;
        const path = `uploads/${this.at}`;
        try {
            const { headers } = await this.service.request(announces ? this.withHash(path) : path, {
                method: "PATCH",
                headers: {
                    ...TUS,
                    "Content-Type": "application/offset+octet-stream",
                    "Upload-Offset": String(offset),
                },
                body: upload.file.slice(offset, Math.min(offset + this.piece, upload.size)),
                signal: AbortSignal.any([signal, stop.signal]),
                onProgress: (sent) => upload.progress(offset + sent),
            });
            this.announced ||= announces;
            this.piece = Math.min(this.piece * 2, this.most);
            const stored = lastOf(headers.get("Content-Location"));
            const reached = Number(headers.get("Upload-Offset") ?? NaN);
            if (stored === undefined && !(reached > offset)) {
                // Firefox sends what is left of a file that was shortened.
                throw new Problem(headers.get("Tus-Resumable") ? "file_changed" : "unreadable");
            }
            return stored ?? reached;
        } catch (problem) {
            if (stop.signal.aborted && !signal.aborted) {
                return this.move(/** @type {Place} */ (await this.elsewhere));
            }
            if (announces && isContradiction(problem)) {
                this.lose();
                return this.create(signal);
            }
            throw problem;
        }
    }

    /** Leave this upload for a better one of the same content. @param {Place} found */
    move(found) {
        this.elsewhere = NOTHING;
        this.discard();
        return this.take(found, true);
    }

    /**
     * Once the hash is known, ask whether the store has the file, or more of it in another upload.
     *
     * @param {AbortSignal} signal
     * @returns {Promise<Place | null>}
     */
    async lookElsewhere(signal) {
        // The upload of a ticket would be replaced.
        if (this.announced || this.service.credentials.ticket !== undefined) {
            return null;
        }
        try {
            const hash = await this.upload.computed();
            if (hash === null || signal.aborted || this.upload.stored !== undefined) {
                return null;
            }
            const found = await this.ask(signal);
            if (found.stored !== undefined || found.offset > this.upload.sent) {
                return found;
            }
            if (found.offset === 0 && found.at !== this.at) {
                void this.remove(found.at);
            }
        } catch {
            // Another tab sends the same file, or there are too many uploads: this one goes on.
        }
        return null;
    }

    /** @param {string} path */
    withHash(path) {
        const { hash } = this.upload;
        return hash === null ? path : `${path}?hash=${hash}`;
    }
}

/** @type {Promise<null>} */
const NOTHING = Promise.resolve(null);

/** Whether the server knows another hash or length of the upload. @param {unknown} problem */
function isContradiction(problem) {
    return problem instanceof Problem && (problem.code === "bad_request" || problem.code === "inconsistent_length");
}

/** The last segment of a URL. @param {string | null} url */
function lastOf(url) {
    return url?.split("?")[0].split("/").pop() || undefined;
}

/** @param {string} text */
function base64(text) {
    return btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(""));
}
