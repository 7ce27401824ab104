"""The file name sets a blob's type, and whether a browser may display it (RFC 6266, RFC 8187)."""

import mimetypes
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from tests.support.calling import Answer, call
from wsgi_store.web.application import Application
from wsgi_store.web.media_types import CODE, TYPES, describe, ending_of

HELLO = b"hello\n"
HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
INLINE = re.compile(
    r"image/(png|jpeg|gif|webp|avif|bmp)|(audio|video)/[a-z0-9.+-]+|text/plain; charset=utf-8"
)
# RFC 8187 section 3.2.1.
EXTENDED = re.compile(r"; filename\*=UTF-8''((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*)$")
NAME = st.text(min_size=1, max_size=60)


def get(application: Application, name: str, method: str = "GET") -> Answer:
    """Request the blob under `name`, with the path decoded as by a server."""
    return call(application, method, f"/{HASH}/" + name.encode().decode("latin-1"))


@pytest.fixture(autouse=True)
def blob(application: Application) -> None:
    """The blob to be requested under different names."""
    call(application, "POST", body=HELLO)


@pytest.mark.parametrize(
    "name, kind, disposition",
    [
        ("a", "application/octet-stream", "attachment"),
        ("a.txt", "text/plain; charset=utf-8", "inline"),
        ("a.TXT", "text/plain; charset=utf-8", "inline"),
        ("a.png", "image/png", "inline"),
        ("a.jpg", "image/jpeg", "inline"),
        ("a.gif", "image/gif", "inline"),
        ("a.bmp", "image/bmp", "inline"),
        ("a.avif", "image/avif", "inline"),
        ("a.webp", "image/webp", "inline"),
        ("a.flac", "audio/flac", "inline"),
        ("a.m4a", "audio/mp4", "inline"),
        ("a.ogg", "audio/ogg", "inline"),
        ("a.opus", "audio/ogg", "inline"),
        ("a.mkv", "video/x-matroska", "inline"),
        ("a.mp4", "video/mp4", "inline"),
        ("a.mp3", "audio/mpeg", "inline"),
        ("a.html", "text/html; charset=utf-8", "attachment"),
        ("a.svg", "image/svg+xml", "attachment"),
        ("a.pdf", "application/pdf", "attachment"),
        ("a.xml", "text/xml; charset=utf-8", "attachment"),
        ("a.css", "text/plain; charset=utf-8", "inline"),
        ("a.js", "text/plain; charset=utf-8", "inline"),
        ("a.mjs", "text/plain; charset=utf-8", "inline"),
        ("a.json", "application/json", "attachment"),
        ("a.tar.gz", "application/gzip", "attachment"),
        ("a.tgz", "application/gzip", "attachment"),
        ("a.svgz", "application/gzip", "attachment"),
        ("a.txt.bz2", "application/x-bzip2", "attachment"),
        ("a.png.xz", "application/x-xz", "attachment"),
        ("a.html.br", "application/x-brotli", "attachment"),
        ("a.txt.Z", "application/x-compress", "attachment"),
        ("a.txt/b", "application/octet-stream", "attachment"),
        ("b/a.txt", "text/plain; charset=utf-8", "inline"),
        ("data:image/png,a", "application/octet-stream", "attachment"),
        ("a.txt?x=.html", "text/html; charset=utf-8", "attachment"),
        (".txt", "application/octet-stream", "attachment"),
    ],
)
def test_types(application: Application, name: str, kind: str, disposition: str) -> None:
    """The extension sets the type, and only types that cannot run scripts are sent inline."""
    for method in ("GET", "HEAD"):
        answer = get(application, name, method)
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Content-Disposition"].partition(";")[0] == disposition
        assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    "name, disposition",
    [
        ("a.bin", "attachment; filename=a.bin"),
        ("a b.bin", 'attachment; filename="a b.bin"'),
        ('a"b.bin', "attachment; filename=a_b.bin; filename*=UTF-8''a%22b.bin"),
        ("a\\b.bin", "attachment; filename=a_b.bin; filename*=UTF-8''a%5Cb.bin"),
        ("100%.bin", "attachment; filename=100_.bin; filename*=UTF-8''100%25.bin"),
        ("a\nb.bin", "attachment; filename=a_b.bin; filename*=UTF-8''a%0Ab.bin"),
        ("a\0b.bin", "attachment; filename=a_b.bin; filename*=UTF-8''a%00b.bin"),
        ("größe.bin", "attachment; filename=\"gr??e.bin\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.bin"),
        ("€.bin", "attachment; filename=\"?.bin\"; filename*=UTF-8''%E2%82%AC.bin"),
        ("a;b.bin", 'attachment; filename="a;b.bin"'),
        ("../../a.bin", 'attachment; filename="../../a.bin"'),
    ],
)
def test_dispositions(application: Application, name: str, disposition: str) -> None:
    """Old clients get a readable ASCII name, others the exact one."""
    assert get(application, name).headers["Content-Disposition"] == disposition


@given(name=NAME)
def test_any_name_comes_back(application: Application, name: str) -> None:
    """Any file name can be recovered exactly from Content-Disposition."""
    value = get(application, name).headers["Content-Disposition"]
    plain = parse_options_header(value.partition("; filename*=")[0])[1]["filename"]
    extended = EXTENDED.search(value)
    assert value.isascii() and "\\" not in value and value.count('"') in (0, 2)
    assert (unquote(extended[1], errors="strict") if extended else plain) == name


@given(name=NAME)
def test_both_spellings_agree(application: Application, name: str) -> None:
    """A name in the query, quoted or not, has the same effect as in the path."""
    path = get(application, name)
    for query in (quote(name, safe=""), name.encode().decode("latin-1")):
        if query != quote(name, safe="") and re.search("[%&+;#]", name):
            continue
        other = call(application, query=f"hash={HASH}&filename={query}")
        for field in ("Content-Type", "Content-Disposition"):
            assert other.headers[field] == path.headers[field]


def test_only_harmless_types_are_shown(application: Application) -> None:
    """No extension lets a browser display a type that can run scripts."""
    known = mimetypes.MimeTypes()
    endings = {ending for table in known.types_map for ending in table} | set(known.suffix_map)
    assert len(endings) > 100
    shown = set()
    for ending in endings:
        for name in (f"a{ending}", f"a{ending.upper()}", f"a{ending}.gz", f"a.txt{ending}"):
            headers = get(application, name).headers
            if headers["Content-Disposition"].startswith("inline"):
                shown.add(headers["Content-Type"])
                assert INLINE.fullmatch(headers["Content-Type"])
            assert headers["X-Content-Type-Options"] == "nosniff"
    assert "text/plain; charset=utf-8" in shown


@pytest.mark.parametrize(
    "path, query",
    [
        (f"/{HASH}/\xff\xfe.txt", ""),
        (f"/{HASH}/\xed\xa0\x80.txt", ""),
        ("/", f"hash={HASH}&filename=%FF%FE.txt"),
        ("/", f"hash={HASH}&filename=\xff\xfe.txt"),
        ("/", f"hash={HASH}&filename=%ED%A0%80.txt"),
    ],
)
def test_names_that_are_not_utf8(application: Application, path: str, query: str) -> None:
    """A file name need not be UTF-8."""
    answer = call(application, path=path, query=query)
    assert (answer.status, answer.body) == (200, HELLO)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_endings() -> None:
    """The ending for a type leads back to it, unless browsers could run such a file as code."""
    kinds = set(TYPES.types_map[True].values())
    assert len(kinds) > 50
    for kind in kinds:
        told = describe(f"name{ending_of(kind)}")[0].partition(";")[0]
        assert told == ("text/plain" if kind in CODE else kind)
    assert ending_of("x/unknown") == ending_of("") == ".bin"
