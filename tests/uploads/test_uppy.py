"""Uppy uploads from a page in Chromium, of another site and of the service itself."""

import hashlib
import http.server
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from selenium import webdriver

from tests.support import sites
from tests.support.access import ALL, line
from tests.support.chromium import chromium
from tests.support.relay import Break, Relay, Way
from tests.support.servers import Server, gunicorn, until
from tests.support.uppy import Tab, script

pytestmark = pytest.mark.clients
MIB = 1 << 20
# Bytes a second, so that an upload can be interrupted.
SLOW = 8e6
# Seconds without a network, more than Uppy would retry at once.
OFFLINE = 2


class Site(http.server.BaseHTTPRequestHandler):
    """Another site, with an empty page at every path."""

    def do_GET(self) -> None:  # pylint: disable=invalid-name
        """Send the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title><body>")

    def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
        """Log nothing."""


@pytest.fixture(name="site", scope="module")
def fixture_site() -> Iterator[str]:
    """The URL of another site."""
    with sites.site(Site) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory, site: str) -> Iterator[Server]:
    """The service, which the other site may use with a token."""
    directory = tmp_path_factory.mktemp("service")
    (directory / "tokens").write_text(line("secret", ALL), encoding="utf-8")
    settings = {"WSGI_STORE_CORS_ORIGINS": site, "WSGI_STORE_TOKENS": str(directory / "tokens")}
    with gunicorn(directory, **settings) as server:
        yield server


@pytest.fixture(name="relay")
def fixture_relay(server: Server) -> Iterator[Relay]:
    """A slow line to the service."""
    with Relay(server.port, SLOW) as relay:
        yield relay


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle() -> str:
    """The script of the page."""
    return script()


@pytest.fixture(name="browser", scope="module")
def fixture_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A fresh browser."""
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


class Visit(NamedTuple):
    """A page, and the service as the page reaches it."""

    browser: webdriver.Chrome
    page: str
    bundle: str
    endpoint: str

    def open(self) -> Tab:
        """Open the page in a new tab."""
        return Tab(self.browser, self.page, self.bundle)

    def upload(self, tab: Tab, path: Path) -> None:
        """Upload a file."""
        tab.upload(path, self.endpoint, headers={"Authorization": "Bearer secret"})


@pytest.fixture(name="visit", params=["another site", "the service"])
def fixture_visit(
    request: pytest.FixtureRequest, browser: webdriver.Chrome, bundle: str, relay: Relay, site: str
) -> Visit:
    """A page of another site, or of the service itself."""
    page = site if request.param == "another site" else f"{relay.url}/healthz"
    return Visit(browser, page, bundle, f"{relay.url}/uploads")


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A file that the service does not have."""
    path = tmp_path / "rosé.bin"
    path.write_bytes(os.urandom(16 * MIB))
    return path


def test_a_form_with_a_refused_file(browser: webdriver.Chrome, bundle: str, tmp_path: Path) -> None:
    """XHRUpload takes a form with a refused file for failed."""
    for name, size in {"small": 5, "large": 7}.items():
        (tmp_path / name).write_bytes(os.urandom(size))
    with gunicorn(tmp_path, WSGI_STORE_MAX_SIZE="6") as limited:
        url = f"http://127.0.0.1:{limited.port}/"
        tab = Tab(browser, f"{url}healthz", bundle)
        seen = tab.send_forms([tmp_path / "small", tmp_path / "large"], url, bundle=True)
        assert not seen["stored"]
        assert [told["name"] for told in seen["failed"]] == ["small", "large"]
        assert len(limited.blobs()) == 1
        tab.close()


def stored(server: Server, path: Path, seen: Any) -> None:
    """Check that the file is stored, and that the page can read its URL and digest."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen["error"] is None and digest in server.blobs(), seen
    assert seen["result"]["blob"] == f"/{digest}"
    assert seen["result"]["digest"].startswith("sha-256=:")


@pytest.mark.parametrize("bundled", [True, False], ids=["one form", "forms"])
def test_forms(visit: Visit, server: Server, tmp_path: Path, bundled: bool) -> None:
    """XHRUpload sends files in one form or each in its own, and reads what became of each."""
    hashes = {}
    for name, size in {"b.txt": 5, 'a "é".txt': 70_000, "empty": 0, "c.bin": 3 * MIB}.items():
        (tmp_path / name).write_bytes(content := os.urandom(size))
        hashes[name] = hashlib.sha256(content).hexdigest()
    tab = visit.open()
    url = visit.endpoint.removesuffix("uploads")
    headers = {"Authorization": "Bearer secret"}
    seen = tab.send_forms([tmp_path / name for name in hashes], url, headers=headers, bundle=bundled)
    assert not seen["failed"]
    assert sorted(told["name"] for told in seen["stored"]) == sorted(hashes)
    for told in seen["stored"]:
        if bundled:
            assert {entry["name"]: entry["hash"] for entry in told["body"]["files"]} == hashes
        else:
            assert (told["body"]["name"], told["body"]["hash"]) == (told["name"], hashes[told["name"]])
    assert set(hashes.values()) <= server.blobs()
    tab.close()


def arrived(tab: Tab, count: int) -> None:
    """Wait until this many bytes are on their way."""
    until(lambda: tab.seen()["progress"] >= count, "progress")


def test_upload(visit: Visit, server: Server, path: Path) -> None:
    """A file is stored."""
    tab = visit.open()
    visit.upload(tab, path)
    stored(server, path, seen := tab.result())
    assert seen["offsets"] == [0]
    tab.close()


def test_offline(visit: Visit, server: Server, relay: Relay, path: Path) -> None:
    """A tab that loses the network continues when it is back."""
    tab = visit.open()
    visit.upload(tab, path)
    arrived(tab, 6 * MIB)
    tab.connect(False)
    # Chromium refuses new connections only.
    relay.mend()
    time.sleep(OFFLINE)
    assert tab.seen()["result"] is None and not tab.online()
    tab.connect(True)
    stored(server, path, seen := tab.result())
    assert seen["offsets"][-1] > MIB
    tab.close()


def test_broken_line(visit: Visit, server: Server, relay: Relay, path: Path) -> None:
    """After a broken connection the page continues at the server's offset."""
    relay.break_after(Break.CUT, Way.UP, 5 * MIB, times=2)
    tab = visit.open()
    visit.upload(tab, path)
    stored(server, path, seen := tab.result())
    # Chromium itself repeats a request on a connection that was reset.
    assert relay.breaks == 2 and seen["offsets"][-1] > 4 * MIB
    tab.close()


def test_closed_tab(visit: Visit, server: Server, path: Path) -> None:
    """After the tab was closed, choosing the file again continues its upload."""
    tab = visit.open()
    visit.upload(tab, path)
    arrived(tab, 6 * MIB)
    tab.close()
    tab = visit.open()
    visit.upload(tab, path)
    stored(server, path, seen := tab.result())
    assert seen["offsets"][-1] > MIB
    tab.close()


@pytest.mark.parametrize("pause", [0, 4 * MIB])
def test_two_tabs(visit: Visit, server: Server, path: Path, pause: int) -> None:
    """Two tabs that upload the same file both end, with one blob."""
    before = server.blobs()
    first, second = visit.open(), visit.open()
    visit.upload(first, path)
    arrived(first, pause)
    visit.upload(second, path)
    for tab in (first, second):
        stored(server, path, tab.result())
        tab.close()
    assert len(server.blobs()) == len(before) + 1
