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

/**
 * What may be shown of a file: `type` is the media type, `name` a file name to which the server gives it.
 *
 * @typedef {{how: "picture" | "sound" | "film" | "text", type: string, name: string}} Kind
 */

/** @param {Kind["how"]} how @param {string} type @param {string} ending @returns {Kind} */
function kind(how, type, ending) {
    return { how, type, name: `preview.${ending}` };
}

// What the server lets browsers show in place. SVG, HTML and PDF can contain scripts.
const PNG = kind("picture", "image/png", "png");
const JPEG = kind("picture", "image/jpeg", "jpg");
const GIF = kind("picture", "image/gif", "gif");
const WEBP = kind("picture", "image/webp", "webp");
const AVIF = kind("picture", "image/avif", "avif");
const BMP = kind("picture", "image/bmp", "bmp");
const MP3 = kind("sound", "audio/mpeg", "mp3");
const WAV = kind("sound", "audio/x-wav", "wav");
const FLAC = kind("sound", "audio/flac", "flac");
const M4A = kind("sound", "audio/mp4", "m4a");
const OGG = kind("sound", "audio/ogg", "ogg");
const MP4 = kind("film", "video/mp4", "mp4");
const WEBM = kind("film", "video/webm", "webm");
const OGV = kind("film", "video/ogg", "ogv");
const TEXT = kind("text", "text/plain", "txt");

/** @type {Record<string, Kind>} */
const BY_ENDING = {
    png: PNG, jpg: JPEG, jpeg: JPEG, jpe: JPEG, gif: GIF, webp: WEBP, avif: AVIF, bmp: BMP,
    mp3: MP3, wav: WAV, flac: FLAC, m4a: M4A, ogg: OGG, oga: OGG, opus: OGG,
    mp4: MP4, m4v: MP4, mov: MP4, webm: WEBM, ogv: OGV,
};
for (const ending of (
    "txt text log md rst csv tsv json jsonl yaml yml toml ini cfg conf env properties diff patch sql srt vtt tex " +
    "c h cc cpp hpp cs go rs java kt swift py pyi js mjs cjs ts jsx tsx css scss rb php pl lua r sh bash zsh bat " +
    "ps1 md5 sha1 sha256 sha512 asc pem crt"
).split(" ")) {
    BY_ENDING[ending] = TEXT;
}

/**
 * What a file name promises; null for what is not shown, undefined if only the bytes can tell.
 *
 * @param {string | undefined} name
 * @returns {Kind | null | undefined}
 */
export function kindOfName(name) {
    const ending = endingOf(name ?? "");
    return ending === "" ? undefined : (Object.hasOwn(BY_ENDING, ending) ? BY_ENDING[ending] : null);
}

/** @type {[Kind, RegExp][]} */
const BEGINNINGS = [
    [PNG, /^\x89PNG\r\n\x1a\n/],
    [JPEG, /^\xff\xd8\xff/],
    [GIF, /^GIF8[79]a/],
    [WEBP, /^RIFF[^]{4}WEBP/],
    [AVIF, /^[^]{4}ftypavi[fs]/],
    [BMP, /^BM[^]{4}\0\0\0\0/],
    [WAV, /^RIFF[^]{4}WAVE/],
    [FLAC, /^fLaC/],
    [M4A, /^[^]{4}ftypM4A/],
    [MP4, /^[^]{4}ftyp/],
    [WEBM, /^\x1aE\xdf\xa3/],
    [OGV, /^OggS[^]{24,40}\x80theora/],
    [OGG, /^OggS/],
    [MP3, /^(ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb])/],
];

/**
 * What the first bytes of a file are; null for what is not shown.
 *
 * @param {Uint8Array} bytes
 * @returns {Kind | null}
 */
export function kindOfBytes(bytes) {
    const head = String.fromCharCode(...bytes.subarray(0, 64));
    const found = BEGINNINGS.find(([, beginning]) => beginning.test(head));
    if (found) {
        return found[0];
    }
    // A document with scripts is not shown even as text: nobody reads it that way.
    const text = textOf(bytes);
    return text === null || /^\s*(<|%PDF)/.test(text) ? null : TEXT;
}

/**
 * The text of the first bytes of a file, which may end within a letter; null if they are no text.
 *
 * @param {Uint8Array} bytes
 * @returns {string | null}
 */
export function textOf(bytes) {
    const utf16 = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le"
        : bytes[0] === 0xfe && bytes[1] === 0xff ? "utf-16be" : null;
    if (utf16 === null && bytes.includes(0)) {
        return null;
    }
    for (const encoding of utf16 ? [utf16] : ["utf-8", "windows-1252"]) {
        try {
            const text = new TextDecoder(encoding, { fatal: encoding === "utf-8" }).decode(bytes, { stream: true });
            // Text of old terminals has some of these; most other files have many.
            const odd = text.match(/[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd]/g) ?? [];
            return odd.length * 50 > text.length ? null : text;
        } catch {
            // Not UTF-8: text of old Windows has no other mark.
        }
    }
    return null;
}
