"""Uploaded files in Chromium: they are displayed or saved, and never act as the site."""

import contextlib
import http.server
import json
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.chromium import chromium
from tests.support.servers import Server, gunicorn
from tests.support.sites import site
from tests.support.wire import Connection, message

# Seconds, more than any script needs to start; the control tests wait as long.
PATIENCE = 0.5
SCRIPT = 'document.title = "ran"; parent.postMessage("ran", "*")'
HTML = f"<!doctype html><title>quiet</title><p>harmless</p><script>{SCRIPT}</script>".encode()
SVG = f'<svg xmlns="http://www.w3.org/2000/svg"><script>{SCRIPT}</script></svg>'.encode()
XHTML = (
    '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>quiet</title></head>'
    f"<body><p>harmless</p><script>{SCRIPT}</script></body></html>"
).encode()
pytestmark = pytest.mark.clients
KINDS = {"html": HTML, "svg": SVG, "xhtml": XHTML}
# A page of another site that frames files and listens for their messages.
FRAMES = b"""<!doctype html><title>other</title><script>
onmessage = event => { document.title = event.data };
onload = () => {
    for (const src of new URLSearchParams(location.search).getAll("src")) {
        const frame = document.createElement("iframe");
        frame.src = src;
        document.body.append(frame);
    }
};
</script><body>"""


def png(width: int, height: int) -> bytes:
    """A black PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes((width + 1) * height)))
    return b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """`python -m http.server` without its log."""

    def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
        """Log nothing."""


@pytest.fixture(scope="module", name="browser")
def fixture_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A fresh browser."""
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service."""
    with gunicorn(tmp_path_factory.mktemp("service")) as server:
        yield server


@pytest.fixture(scope="module", name="other")
def fixture_other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another site, which serves the same files without protection."""
    directory = tmp_path_factory.mktemp("other")
    (directory / "frames.html").write_bytes(FRAMES)
    for kind, data in KINDS.items():
        (directory / f"x.{kind}").write_bytes(data)
    handler = partial(Quiet, directory=str(directory))
    with site(handler) as port:
        yield f"http://127.0.0.1:{port}"


def upload(server: Server, data: bytes) -> str:
    """Store a file; return its URL."""
    with Connection(server.port) as connection:
        answer = json.loads(connection.ask(message("POST", "/", data)).body)
    return f"http://127.0.0.1:{server.port}{answer['url']}"


def ran(browser: webdriver.Chrome, url: str) -> bool:
    """Open a page; return whether its script ran."""
    browser.get("about:blank")
    browser.get(url)
    with contextlib.suppress(TimeoutException):
        WebDriverWait(browser, PATIENCE, 0.02).until(lambda browser: browser.title == "ran")
        return True
    return False


def framed(other: str, *urls: str) -> str:
    """The URL of a page of the other site that frames these pages."""
    return f"{other}/frames.html?{urlencode([('src', url) for url in urls])}"


def asked_for(server: Server, url: str) -> int:
    """The number of downloads of a URL."""
    path = url.partition(str(server.port))[2]
    return len(server.logged(f"GET {path} 200 "))


@pytest.mark.parametrize("kind", KINDS)
def test_the_scripts_run_elsewhere(browser: webdriver.Chrome, other: str, kind: str) -> None:
    """Control: the same scripts run from an ordinary server."""
    assert ran(browser, f"{other}/x.{kind}")
    assert ran(browser, framed(other, f"{other}/x.{kind}"))


@pytest.mark.parametrize(
    "kind, name",
    [("html", name) for name in ("", "x.html", "x.png", "x.txt", "x.mp4")]
    + [("svg", name) for name in ("x.svg", "x.png")]
    + [("xhtml", name) for name in ("x.xhtml", "x.xml")],
)
def test_no_script_runs(browser: webdriver.Chrome, server: Server, kind: str, name: str) -> None:
    """A script in an uploaded file does not run, whatever the file is called."""
    url = f"{upload(server, KINDS[kind])}/{name}"
    seen = asked_for(server, url)
    assert not ran(browser, url)
    assert asked_for(server, url) > seen, "the browser never asked for it"
    # A file that is saved leaves the browser on the page before.
    assert browser.current_url in (url, "about:blank")
    if browser.current_url == url:
        assert not reads_the_site(browser)


@pytest.mark.parametrize("kind", KINDS)
def test_no_script_runs_in_a_frame(browser: webdriver.Chrome, server: Server, other: str, kind: str) -> None:
    """A script in an uploaded file does not run in a frame of another site."""
    url = upload(server, KINDS[kind])
    endings = ("", f"/x.{kind}", "/x.html", "/x.png", "/x.txt", "/x.mp4", "/x.xml", "/x.pdf", "/x.js")
    urls = [url + ending for ending in endings]
    seen = [asked_for(server, url) for url in urls]
    assert not ran(browser, framed(other, *urls))
    assert all(asked_for(server, url) > before for url, before in zip(urls, seen, strict=True))


def reads_the_site(browser: webdriver.Chrome) -> bool:
    """Whether the open page has the site's origin or can fetch from it."""
    ask = "const done = arguments[0]; fetch('/healthz').then(() => done(true), () => done(false))"
    return browser.execute_script("return origin") != "null" or browser.execute_async_script(ask)


def test_reading_the_site_is_seen(browser: webdriver.Chrome, server: Server) -> None:
    """Control: an ordinary page of the service can fetch from it."""
    browser.get(f"http://127.0.0.1:{server.port}/healthz")
    assert reads_the_site(browser)


def test_a_picture_is_shown(browser: webdriver.Chrome, server: Server) -> None:
    """A picture is displayed, and its page has no origin."""
    browser.get(f"{upload(server, png(3, 2))}/x.png")
    size = "return [document.images[0].naturalWidth, document.images[0].naturalHeight]"
    assert browser.execute_script(size) == [3, 2]
    assert not reads_the_site(browser)


def test_a_text_is_shown(browser: webdriver.Chrome, server: Server) -> None:
    """A text is displayed as UTF-8, and its page has no origin."""
    browser.get(f"{upload(server, 'naïve <b>text</b>'.encode())}/x.txt")
    assert browser.execute_script("return document.body.innerText") == "naïve <b>text</b>"
    assert not reads_the_site(browser)
