// @ts-check

/** @typedef {string | Record<string, string>} Sentence */

/** @type {Record<string, Sentence>} */
let sentences = JSON.parse(document.getElementById("sentences")?.textContent ?? "{}");

/** The language of the page, as in its `lang`. */
export let language = document.documentElement.lang;

// What is known of the elements whose words change with the language: how to make them, by the place they go to.
/** @type {WeakMap<Element, Map<Place, () => string>>} */
const written = new WeakMap();

/** @typedef {"text" | "label" | "hint" | "title"} Place */

/** @type {Record<Exclude<Place, "text">, string>} */
const ATTRIBUTES = { label: "aria-label", hint: "placeholder", title: "title" };
const PLACES = /** @type {Place[]} */ (["text", ...Object.keys(ATTRIBUTES)]);

// Making a formatter takes longer than a hundred uses of it.
/** @type {Map<string, any>} */
const formatters = new Map();

/**
 * @template T
 * @param {new (locale: string, options: object) => T} Kind
 * @param {object} options
 * @returns {T}
 */
function formatter(Kind, options) {
    const key = Kind.name + JSON.stringify(options);
    let found = formatters.get(key);
    if (found === undefined) {
        // A Briton who reads English wants British dates.
        const locale = navigator.languages?.find((one) => one.split("-")[0] === language) ?? language;
        formatters.set(key, (found = new Kind(locale, options)));
    }
    return found;
}

/** @param {number} value @param {string} unit @param {object} [options] */
function measured(value, unit, options) {
    const all = { style: "unit", unit, unitDisplay: "short", maximumSignificantDigits: 3, ...options };
    return formatter(Intl.NumberFormat, all).format(value);
}

/**
 * A sentence in the language of the page. Numbers are formatted; `count` chooses the plural form.
 *
 * @param {string} key
 * @param {Record<string, unknown>} [values]
 */
export function t(key, values = {}) {
    const found = sentences[key] ?? key;
    const form = typeof found === "string"
        ? found : found[formatter(Intl.PluralRules, {}).select(Number(values.count))] ?? found.other;
    return form.replace(/\{(\w+)\}/g, (_, name) => {
        const value = values[name];
        return typeof value === "number" ? number(value) : String(value ?? "");
    });
}

/** @param {number} value */
export function number(value) {
    return formatter(Intl.NumberFormat, {}).format(value);
}

/** @param {number} share from 0 to 1; 100 % is only said of the whole */
export function percent(share) {
    return formatter(Intl.NumberFormat, { style: "percent" }).format(Math.floor(share * 100) / 100);
}

const SIZES = ["kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"];

/** @param {number} bytes @returns {[number, string]} */
function scaled(bytes) {
    let value = bytes / 1000;
    let unit = 0;
    for (; value >= 999.5 && unit < SIZES.length - 1; unit++) {
        value /= 1000;
    }
    return [value, SIZES[unit]];
}

/** @param {number} bytes */
export function size(bytes) {
    return bytes < 1000 ? measured(bytes, "byte", { unitDisplay: "long" }) : measured(...scaled(bytes));
}

/** @param {number} bytes each second */
export function rate(bytes) {
    const [value, unit] = bytes < 1000 ? [bytes, "byte"] : scaled(bytes);
    return measured(value, `${unit}-per-second`, { maximumSignificantDigits: 2 });
}

/** @param {number} seconds rounded as a person would say it */
export function duration(seconds) {
    const whole = { maximumSignificantDigits: undefined, maximumFractionDigits: 0 };
    if (seconds < 90) {
        const step = seconds > 10 ? 5 : 1;
        return measured(Math.max(1, Math.ceil(seconds / step) * step), "second", whole);
    }
    const minutes = Math.round(seconds / 60);
    if (minutes < 90) {
        return measured(minutes, "minute", whole);
    }
    const hours = Math.floor(minutes / 60);
    const long = { ...whole, unitDisplay: "long" };
    if (hours < 48 && hours !== 24) {
        const rest = minutes % 60;
        return rest ? `${measured(hours, "hour", whole)} ${measured(rest, "minute", whole)}`
            : measured(hours, "hour", long);
    }
    return measured(Math.round(hours / 24), "day", long);
}

/** @param {number} epoch in seconds */
export function date(epoch) {
    return formatter(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "short" }).format(epoch * 1000);
}

/**
 * What happened and what to do next, from the code of a problem and its evidence.
 *
 * @param {any} problem of whatever kind: what is not from the store is an error of the page
 * @returns {{what: string, next: string}}
 */
export function sentenceFor(problem) {
    const { code, status, evidence } = problem ?? {};
    // Links and tickets are refused for reasons of their own.
    const refused = `refused.${evidence?.reason}`;
    if (`${refused}.what` in sentences) {
        return { what: t(`${refused}.what`), next: t(`${refused}.next`) };
    }
    const known = `error.${code}.what` in sentences ? code : "internal_error";
    // Not every 413 tells its limit.
    const limit = typeof evidence?.limit === "number" ? size(evidence.limit) : undefined;
    const values = { ...evidence, limit, status };
    const exact = limit !== undefined && `error.${known}.limit` in sentences ? "limit" : "what";
    return { what: t(`error.${known}.${exact}`, values), next: t(`error.${known}.next`, values) };
}

/** @param {Element} element @param {Place} place @param {string} words */
function put(element, place, words) {
    if (place !== "text") {
        element.setAttribute(ATTRIBUTES[place], words);
    } else if (element.textContent !== words) {
        element.textContent = words;
    }
}

/**
 * Give an element its words, now and again whenever the language changes.
 *
 * @param {Element} element
 * @param {() => string} make
 * @param {Place} [place]
 */
export function write(element, make, place = "text") {
    let places = written.get(element);
    if (places === undefined) {
        written.set(element, (places = new Map()));
        element.setAttribute("data-written", "");
    }
    places.set(place, make);
    put(element, place, make());
}

/** Put the words of the present language into everything below `root`. @param {ParentNode} root */
export function apply(root) {
    for (const place of PLACES) {
        for (const element of root.querySelectorAll(`[data-${place}]`)) {
            put(element, place, t(element.getAttribute(`data-${place}`) ?? ""));
        }
    }
    for (const element of root.querySelectorAll("[data-written]")) {
        for (const [place, make] of written.get(element) ?? []) {
            put(element, place, make());
        }
    }
}

/** Change the language in place. Rejects if its sentences cannot be loaded. @param {string} wanted */
export async function setLanguage(wanted) {
    const answer = await fetch(new URL(`./${wanted}.json`, import.meta.url), { credentials: "omit" });
    if (!answer.ok) {
        throw new Error(`no sentences for ${wanted}`);
    }
    sentences = await answer.json();
    language = wanted;
    formatters.clear();
    document.documentElement.lang = wanted;
    apply(document);
}

const REMEMBERED = "wsgi_store language";

/**
 * Change the language in place by the links to the others, and remember it on this device.
 *
 * @param {() => void} changed
 * @param {() => void} failed
 */
export function offerLanguages(changed, failed) {
    const links = /** @type {HTMLAnchorElement[]} */ ([...document.querySelectorAll("a[hreflang]")]);
    /** @param {string} wanted */
    const change = async (wanted) => {
        await setLanguage(wanted);
        changed();
    };
    for (const link of links) {
        link.addEventListener("click", async (event) => {
            event.preventDefault();
            try {
                await change(link.hreflang);
            } catch {
                failed();
                return;
            }
            remember(link.hreflang);
            // The link that was used is gone.
            links.find((other) => other.hreflang !== language)?.focus();
        });
    }
    const asked = new URLSearchParams(location.search).has("lang");
    const wanted = asked ? null : remembered();
    if (wanted !== null && wanted !== language && links.some(({ hreflang }) => hreflang === wanted)) {
        // Without it the page stays in the language that the browser asked for.
        change(wanted).catch(() => {});
    }
}

function remembered() {
    try {
        return localStorage.getItem(REMEMBERED);
    } catch {
        return null;
    }
}

/** @param {string} wanted */
function remember(wanted) {
    try {
        localStorage.setItem(REMEMBERED, wanted);
    } catch {
        // The browser lets this page keep nothing.
    }
}
