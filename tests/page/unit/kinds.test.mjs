import assert from "node:assert/strict";
import test from "node:test";
import { kindOfBytes, kindOfName, textOf } from "../../../wsgi_store/web/page/names.js";

const bytes = (/** @type {string} */ text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const utf8 = (/** @type {string} */ text) => new TextEncoder().encode(text);

test("the name decides where it has an ending", () => {
    assert.equal(kindOfName("a.PNG")?.type, "image/png");
    assert.equal(kindOfName("a.mp3")?.how, "sound");
    assert.equal(kindOfName("a.webm")?.how, "film");
    assert.equal(kindOfName("a.md")?.how, "text");
    assert.equal(kindOfName("README"), undefined);
    assert.equal(kindOfName(undefined), undefined);
});

test("documents that can contain scripts, and inherited names, are never shown", () => {
    for (const ending of ["svg", "svgz", "html", "htm", "xhtml", "xml", "pdf", "mht", "swf", "zip", "exe"]) {
        assert.equal(kindOfName(`a.${ending}`), null, ending);
    }
    for (const ending of ["toString", "valueOf", "__proto__", "constructor"]) {
        assert.ok(!kindOfName(`a.${ending}`), ending);
    }
});

test("without an ending the bytes decide", () => {
    const cases = [
        ["\x89PNG\r\n\x1a\n\0\0", "image/png"],
        ["\xff\xd8\xff\xe0\0", "image/jpeg"],
        ["GIF89a\0", "image/gif"],
        ["RIFF\0\0\0\0WEBPVP8 ", "image/webp"],
        ["\0\0\0\x1cftypavif\0\0\0\0", "image/avif"],
        ["\0\0\0\x1cftypisom\0\0\0\0", "video/mp4"],
        ["RIFF\0\0\0\0WAVEfmt ", "audio/x-wav"],
        ["fLaC\0", "audio/flac"],
        ["OggS\0\x02\0\0\0\0\0\0", "audio/ogg"],
        ["\x1aE\xdf\xa3\0", "video/webm"],
        ["ID3\x04\0", "audio/mpeg"],
    ];
    for (const [head, type] of cases) {
        assert.equal(kindOfBytes(bytes(head))?.type, type);
    }
    assert.equal(kindOfBytes(utf8("hello, мир"))?.how, "text");
    assert.equal(kindOfBytes(bytes("PK\x03\x04\0\0")), null);
});

test("documents are recognised by their bytes", () => {
    for (const text of ["<svg onload=alert(1)>", " \n<!doctype html>", "\ufeff<?xml version='1.0'?>", "%PDF-1.7"]) {
        assert.equal(kindOfBytes(utf8(text)), null, text);
    }
    assert.equal(kindOfBytes(bytes("\xff\xfe<\0h\0t\0m\0l\0>\0")), null);
});

test("text is decoded, also where it is cut within a letter", () => {
    assert.equal(textOf(utf8("мир").subarray(0, 5)), "ми");
    assert.equal(textOf(bytes("caf\xe9 at the corner")), "café at the corner");
    assert.equal(textOf(bytes("\xff\xfeh\0i\0")), "hi");
    assert.equal(textOf(new Uint8Array()), "");
    assert.equal(textOf(bytes("a\0b")), null);
    assert.equal(textOf(Uint8Array.from({ length: 4_000 }, (_, i) => 1 + (i * 7919) % 255)), null);
    // A terminal's colours are text.
    assert.notEqual(textOf(utf8("\x1b[31mred\x1b[0m")), null);
});
