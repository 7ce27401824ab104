// @ts-check

// What text can do to its neighbours: control characters, and those that turn its direction round.
const UNSHOWN = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;
const BROKEN = /\p{Cs}/gu;
// File systems take 255 bytes, and servers about 8 KiB of URL.
const LONGEST_SEGMENT = 240;
const LONGEST_PATH = 1500;
const SHOWN = 200;

/** @param {string} name */
function sound(name) {
    return name.replace(BROKEN, "\ufffd");
}

/**
 * A file name as people may see it: hidden and turning characters show as �, the middle of a long name as ….
 *
 * @param {string} name
 * @returns {string}
 */
export function shownName(name) {
    const text = sound(name).replace(UNSHOWN, "\ufffd");
    const letters = text.length > SHOWN ? Array.from(text) : [];
    if (letters.length <= SHOWN) {
        return text;
    }
    return `${letters.slice(0, SHOWN - 50).join("")}…${letters.slice(-49).join("")}`;
}

/**
 * The last part of a file name behind its last dot, in lower case; "" if there is none.
 *
 * @param {string} name
 * @returns {string}
 */
export function endingOf(name) {
    const found = /[^/]\.([a-z0-9]{1,8})$/i.exec(name);
    return found ? found[1].toLowerCase() : "";
}

/**
 * A file name as a link can carry it; "" if nothing of it can be in a URL.
 *
 * Browsers would resolve `.` and `..`, and no server takes control characters.
 *
 * @param {string} name
 * @returns {string}
 */
export function linkName(name) {
    const kept = [];
    let room = LONGEST_PATH;
    // The end is what people know a file by.
    for (const segment of sound(name).replace(/\p{Cc}/gu, "_").split("/").filter(Boolean).reverse()) {
        const one = /^\.{1,2}$/.test(segment) ? "_".repeat(segment.length) : shortened(segment);
        room -= encodeURIComponent(one).length + 1;
        if (room < 0 && kept.length > 0) {
            break;
        }
        kept.unshift(one);
    }
    return kept.join("/");
}

/** @param {string} segment */
function shortened(segment) {
    const size = (/** @type {string} */ text) => new TextEncoder().encode(text).length;
    if (size(segment) <= LONGEST_SEGMENT) {
        return segment;
    }
    const ending = endingOf(segment);
    const tail = ending ? `.${ending}` : "";
    let kept = "";
    let room = LONGEST_SEGMENT - size(tail);
    for (const letter of segment) {
        room -= size(letter);
        if (room < 0) {
            break;
        }
        kept += letter;
    }
    return kept + tail;
}

/** @param {string} path */
function encodePath(path) {
    return path.split("/").map(encodeURIComponent).join("/");
}

/**
 * The URL of a blob, with a file name for whoever saves it.
 *
 * @param {URL} base the URL of the service
 * @param {string} hash
 * @param {string} [name]
 * @param {string} [link] the signature of a link
 * @returns {string}
 */
export function addressOf(base, hash, name, link) {
    const path = name ? encodePath(linkName(name)) : "";
    const url = new URL(encodeURIComponent(hash) + (path && `/${path}`), base);
    if (link) {
        url.searchParams.set("link", link);
    }
    return url.href;
}

/**
 * What somebody looks for who typed or pasted this: the beginning of a hash in lower case; null if it is none.
 *
 * Links and lines of `sha256sum` are taken as well.
 *
 * @param {string} text
 * @returns {string | null}
 */
export function prefixOf(text) {
    const whole = /(?:^|[^0-9a-z])([0-9a-f]{32,128})(?![0-9a-z])/i.exec(text);
    const found = (whole ? whole[1] : text.replace(/[\s\p{Cf}]/gu, "")).toLowerCase();
    return /^[0-9a-f]{0,128}$/.test(found) ? found : null;
}
