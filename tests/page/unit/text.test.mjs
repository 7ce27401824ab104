import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const page = (/** @type {string} */ name) => new URL(`../../../wsgi_store/web/page/${name}`, import.meta.url);

// Node tells the locale of the machine.
Object.defineProperty(globalThis, "navigator", { value: { languages: ["en-US", "ru-RU"] } });

/** Load the module anew, as a page in this language has it. @param {string} language */
async function speaking(language) {
    const textContent = readFileSync(page(`${language}.json`), "utf8");
    /** @type {any} */ (globalThis).document = {
        documentElement: { lang: language },
        getElementById: () => ({ textContent }),
    };
    return import(`${page("text.js")}?${language}`);
}

const plain = (/** @type {string} */ text) => text.replace(/[\u00a0\u202f]/g, " ");

test("numbers choose the form of a sentence", async () => {
    const { t } = await speaking("ru");
    const said = [1, 2, 5, 11, 21, 1000].map((count) => plain(t("add.added", { count })));
    assert.deepEqual(said, [
        "Добавлен 1 файл.", "Добавлены 2 файла.", "Добавлено 5 файлов.", "Добавлено 11 файлов.",
        "Добавлен 21 файл.", "Добавлено 1 000 файлов.",
    ]);
    const english = await speaking("en");
    assert.equal(english.t("add.added", { count: 1 }), "1 file added.");
    assert.equal(english.t("add.added", { count: 10000 }), "10,000 files added.");
});

test("a value is never read as part of the sentence", async () => {
    const { t } = await speaking("en");
    assert.equal(t("file.progress", { name: "{count} $& <b>" }), "Progress of {count} $& <b>");
});

test("sizes, rates and times are rounded as people say them", async () => {
    const { duration, percent, rate, size } = await speaking("en");
    assert.deepEqual(
        [0, 1, 999, 1000, 999_499, 999_500, 1_234_567, 5e9, 2 ** 63].map(size),
        ["0 bytes", "1 byte", "999 bytes", "1 kB", "999 kB", "1 MB", "1.23 MB", "5 GB", "9,220 PB"],
    );
    assert.deepEqual([7, 1500, 12_345_678].map(rate), ["7 byte/s", "1.5 kB/s", "12 MB/s"]);
    assert.deepEqual(
        [0, 0.2, 9.1, 42, 89, 91, 3599, 5400, 5460, 200_000].map(duration),
        ["1 sec", "1 sec", "10 sec", "45 sec", "90 sec", "2 min", "60 min", "1 hr 30 min", "1 hr 31 min", "2 days"],
    );
    // Only the whole is all of it.
    assert.deepEqual([0, 0.999, 1].map(percent), ["0%", "99%", "100%"]);
});

test("every problem has a sentence, also one that nobody foresaw", async () => {
    const { sentenceFor } = await speaking("en");
    assert.match(sentenceFor({ code: "too_large", evidence: { limit: 5e9 } }).what, /5 GB/);
    assert.match(sentenceFor({ code: "too_large", evidence: {} }).what, /too large/);
    const other = sentenceFor({ code: "internal_error", evidence: {} });
    for (const unknown of [undefined, null, {}, new TypeError("x"), { code: "new_code" }, { code: "constructor" }]) {
        assert.deepEqual(sentenceFor(unknown), other);
    }
});
