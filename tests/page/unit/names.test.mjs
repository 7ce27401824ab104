import assert from "node:assert/strict";
import test from "node:test";
import { addressOf, endingOf, linkName, prefixOf, shownName } from "../../../wsgi_store/web/page/names.js";

const BASE = new URL("https://store.example/mounted/");
const HASH = "ab".repeat(32);
const HOSTILE = [
    "<script>alert(1)</script>",
    '"onerror="alert(1)',
    "javascript:alert(1)",
    "javascript:alert(1)//x",
    "//evil.example/x",
    "\\\\evil.example\\x",
    "https://evil.example/x",
    "..",
    ".",
    "../../../secret",
    "a/../../b",
    "%2e%2e/%2e%2e",
    "?link=x",
    "#fragment",
    "x?y#z%",
    "\u0000\u0001\r\nSet-Cookie: x=y",
    "photo\u202egnp.exe",
    "\ud800 half \udfff",
    "/",
    "///",
    " ",
    "имя файла.txt",
    "👩‍👩‍👧.png",
    "a".repeat(10_000),
    "я".repeat(10_000) + ".txt",
    "folder/".repeat(2_000) + "file.txt",
    "&lt;b&gt;",
    "${x}{{y}}",
    "constructor",
    "__proto__.png",
];

test("an address stays below the hash, whatever the name is", () => {
    for (const name of HOSTILE) {
        const url = new URL(addressOf(BASE, HASH, name, "signed"));
        assert.equal(url.origin, BASE.origin, name);
        assert.ok(url.pathname.startsWith(`/mounted/${HASH}`), name);
        assert.equal(url.hash, "", name);
        assert.deepEqual([...url.searchParams], [["link", "signed"]], name);
        assert.ok(url.href.length < 2_000, name.slice(0, 20));
        const told = decodeURIComponent(url.pathname.slice(`/mounted/${HASH}/`.length));
        assert.equal(told, linkName(name));
    }
});

test("ordinary names are in the address as they are", () => {
    for (const name of ["a b.txt", "folder/sub folder/ü&?#%.txt", "имя.txt", "👩‍👩‍👧.png", "...", "a..b", ".hidden"]) {
        assert.equal(linkName(name), name);
    }
    assert.equal(addressOf(BASE, HASH, "a b/ü?.txt"), `https://store.example/mounted/${HASH}/a%20b/%C3%BC%3F.txt`);
    assert.equal(addressOf(BASE, HASH), `https://store.example/mounted/${HASH}`);
    assert.equal(addressOf(BASE, HASH, "///"), `https://store.example/mounted/${HASH}`);
});

test("what an address cannot carry is replaced", () => {
    assert.equal(linkName("../a/./b"), "__/a/_/b");
    assert.equal(linkName("a\u0000b\nc"), "a_b_c");
    assert.equal(linkName("\ud800x"), "\ufffdx");
    assert.equal(linkName("/a//b/"), "a/b");
});

test("a long name keeps its ending, and whole letters", () => {
    const long = linkName(`${"👩".repeat(1_000)}.jpeg`);
    assert.match(long, /^(👩)+\.jpeg$/u);
    assert.ok(new TextEncoder().encode(long).length <= 255);
    assert.ok(linkName(`${"folder/".repeat(1_000)}file.txt`).endsWith("/folder/file.txt"));
});

test("a shown name has no character that hides or turns text", () => {
    for (const name of HOSTILE) {
        assert.doesNotMatch(shownName(name), /[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/u);
        assert.ok(shownName(name).length <= 420);
    }
    assert.equal(shownName("photo\u202egnp.exe"), "photo\ufffdgnp.exe");
    const long = shownName(`beginning${"x".repeat(10_000)}end.txt`);
    assert.ok(long.startsWith("beginning") && long.includes("…") && long.endsWith("end.txt"));
    assert.equal(shownName("имя файла 👩‍👩‍👧.txt"), "имя файла 👩‍👩‍👧.txt");
});

test("the ending of a name", () => {
    assert.equal(endingOf("a.PNG"), "png");
    assert.equal(endingOf("a.tar.gz"), "gz");
    assert.equal(endingOf("folder.d/name"), "");
    assert.equal(endingOf(".bashrc"), "");
    assert.equal(endingOf("folder/.bashrc"), "");
    assert.equal(endingOf("a.png "), "");
});

test("what is looked for by the beginning of a hash", () => {
    assert.equal(prefixOf(""), "");
    assert.equal(prefixOf("  AbC "), "abc");
    assert.equal(prefixOf("ab cd\t01\u200b"), "abcd01");
    assert.equal(prefixOf(` ${HASH.toUpperCase()}\n`), HASH);
    assert.equal(prefixOf(`${HASH}  file.txt`), HASH);
    assert.equal(prefixOf(`SHA256 (file.txt) = ${HASH}`), HASH);
    assert.equal(prefixOf(`sha256:${HASH}`), HASH);
    assert.equal(prefixOf(addressOf(BASE, HASH, "deadbeef.txt", "x")), HASH);
    for (const text of ["xyz", "ab/cd", "a".repeat(129), "../", "ab%00"]) {
        assert.equal(prefixOf(text), null, text);
    }
});
