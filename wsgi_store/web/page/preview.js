// @ts-check
import { read } from "./download.js";
import { kindOfBytes, kindOfName, shownName, textOf } from "./names.js";
import { make, openDialog, spoken, wordsFor } from "./parts.js";
import { ownAddress } from "./share.js";
import { size as sizeOf, t, write } from "./text.js";

/** @typedef {import("./api.js").Service} Service */
/** @typedef {import("./names.js").Kind} Kind */
/** @typedef {{hash: string, name?: string, size: number}} Shown */

const BEGINNING = 64 << 10;
// What a page may hold in memory for a look at a file.
const FITS = 64 << 20;

/**
 * Whether there may be something to show.
 *
 * @param {Shown} blob
 */
export function isShowable(blob) {
    return blob.size > 0 && kindOfName(blob.name) !== null;
}

/**
 * Show a blob in a dialog: pictures, sound, films and the beginning of texts, all that cannot run scripts.
 *
 * @param {Service} service
 * @param {Shown} blob
 */
export async function preview(service, blob) {
    const place = make("div", "preview-body");
    place.tabIndex = 0;
    const note = spoken("status", "muted");
    const dialog = openDialog("preview", () => shownName(blob.name ?? blob.hash), place, note);
    const closed = new AbortController();
    dialog.addEventListener("close", () => closed.abort());
    write(note, () => t("preview.loading"));
    try {
        const [shown, words] = await drawn(service, blob, closed.signal, (key) => {
            place.replaceChildren();
            write(note, () => t(key));
        });
        if (!closed.signal.aborted) {
            place.replaceChildren(shown);
            write(note, words);
        }
    } catch (problem) {
        if (!closed.signal.aborted) {
            write(note, () => reason(problem, blob));
        }
    }
}

/** The message is the key of a sentence. */
class Unshown extends Error {}

/** @param {any} problem @param {Shown} blob */
function reason(problem, { hash, name }) {
    if (problem instanceof Unshown) {
        return `${t(problem.message)} ${t("preview.download")}`;
    }
    if (problem.code === "blob_not_found") {
        return t("line.was_gone", { name: shownName(name || hash) });
    }
    return wordsFor(problem);
}

/**
 * @param {Service} service
 * @param {Shown} blob
 * @param {AbortSignal} signal
 * @param {(key: string) => void} failed
 * @returns {Promise<[HTMLElement, () => string]>}
 */
async function drawn(service, blob, signal, failed) {
    let kind = kindOfName(blob.name);
    if (!kind || kind.how === "text") {
        const range = `0-${Math.min(blob.size, BEGINNING) - 1}`;
        const part = await read(service, blob.hash, { signal, range });
        const bytes = new Uint8Array(await part.slice(0, BEGINNING).arrayBuffer());
        kind ??= kindOfBytes(bytes);
        if (kind?.how === "text") {
            return text(bytes, blob.size);
        }
    }
    if (!kind) {
        throw new Unshown("preview.unknown");
    }
    if (kind.how === "picture" && blob.size > FITS) {
        throw new Unshown("preview.large");
    }
    const url = await source(service, blob, kind, signal);
    return [medium(kind, url, shownName(blob.name ?? blob.hash), signal, failed), () => sizeOf(blob.size)];
}

/** @param {Uint8Array} bytes @param {number} size @returns {[HTMLElement, () => string]} */
function text(bytes, size) {
    const found = textOf(bytes);
    if (found === null) {
        throw new Unshown("preview.binary");
    }
    const shown = make("pre");
    shown.dir = "auto";
    shown.textContent = found;
    return [shown, () => t(size > bytes.length ? "preview.beginning" : "preview.whole", { size: sizeOf(size) })];
}

/**
 * The address from which the browser may load a file, under a name that gives it the type which was found.
 *
 * @param {Service} service
 * @param {Shown} blob
 * @param {Kind} kind
 * @param {AbortSignal} signal
 */
async function source(service, blob, kind, signal) {
    const address = await ownAddress(service, blob.hash, kind.name, signal);
    if (address !== null) {
        return address;
    }
    if (blob.size > FITS) {
        throw new Unshown("preview.large");
    }
    // Whatever the bytes are, they get no other type.
    const whole = new Blob([await read(service, blob.hash, { signal })], { type: kind.type });
    signal.throwIfAborted();
    const url = URL.createObjectURL(whole);
    signal.addEventListener("abort", () => URL.revokeObjectURL(url));
    return url;
}

/** @type {Record<string, "img" | "audio" | "video">} */
const ELEMENTS = { picture: "img", sound: "audio", film: "video" };

/**
 * @param {Kind} kind
 * @param {string} url
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {(key: string) => void} failed
 */
function medium(kind, url, name, signal, failed) {
    const shown = make(ELEMENTS[kind.how]);
    shown.addEventListener("error", () => {
        if (!signal.aborted) {
            failed("preview.broken");
        }
    });
    if (shown instanceof HTMLImageElement) {
        shown.alt = name;
    } else {
        shown.controls = true;
        shown.preload = "metadata";
        // Without it the browser goes on loading.
        signal.addEventListener("abort", () => {
            shown.removeAttribute("src");
            shown.load();
        });
    }
    shown.src = url;
    return shown;
}
