"""What the page takes to load: one request for each file, and few bytes."""

import re
from urllib.parse import urljoin

import pytest

from tests.support.calling import call
from wsgi_store.web.application import Application
from wsgi_store.web.page_text import FOLDER, LANGUAGES

PACKED = {"HTTP_ACCEPT_ENCODING": "gzip"}
LOADED = re.compile(r'<(?:link rel="(?:stylesheet|modulepreload)" href|script type="module" src)="([^"]+)"')


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_fits_into_60_kilobytes(application: Application, language: str) -> None:
    """HTML, styles, scripts and sentences, compressed; hash-wasm is loaded when it is needed."""
    query = f"lang={language}"
    document = call(application, query=query, HTTP_ACCEPT="text/html", **PACKED)
    plain = call(application, query=query, HTTP_ACCEPT="text/html").body.decode()
    files = [call(application, path=urljoin("/", url), **PACKED) for url in LOADED.findall(plain)]
    assert all((file.status, file.headers["Content-Encoding"]) == (200, "gzip") for file in files)
    assert sum(len(answer.body) for answer in [document, *files]) <= 60_000


def test_scripts_are_sent_without_comments_and_line_by_line(application: Application) -> None:
    """The lines of errors are those of the source; vendored files keep their licences."""
    source = (FOLDER / "main.js").read_bytes()
    plain = call(application, query="", HTTP_ACCEPT="text/html").body.decode()
    [url] = [one for one in LOADED.findall(plain) if one.endswith("/main.js")]
    sent = call(application, path=urljoin("/", url)).body
    assert sent.count(b"\n") == source.count(b"\n")
    assert re.search(rb"^\s*(//|/\*)", source, re.MULTILINE)
    assert not re.search(rb"^\s*(//|/\*)", sent, re.MULTILINE)
    for number, (before, after) in enumerate(zip(source.split(b"\n"), sent.split(b"\n"), strict=True)):
        assert after in (before, b"") or before.strip().startswith(b"/**"), number
    vendored = call(application, path=urljoin("/", url.replace("main.js", "vendor/sha256.umd.min.js"))).body
    assert vendored == (FOLDER / "vendor" / "sha256.umd.min.js").read_bytes()
