"""Requests by pages of allowed and other sites in Chromium."""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from werkzeug.serving import make_server

from examples import flask_app
from tests.support import sites
from tests.support.access import ALL, line
from tests.support.chromium import chromium
from tests.support.nostr import MINE, allowing, public
from tests.support.servers import BLOSSOM, Server, gunicorn, until

pytestmark = pytest.mark.clients
# These names resolve to this machine, as under DNS rebinding.
NAMES = ["evil.example", "store.example", "app.example", "tunnel.example"]
PAGE = b"<!doctype html><title>a page</title><body>"
# The page's fetch returns null if the browser blocks it.
FETCH = """
const [url, options, done] = arguments;
fetch(url, options).then(
    async answer => done([answer.status, await answer.text(), Object.fromEntries(answer.headers)]),
    () => done(null));
"""
FORM = """
const [url, kind] = arguments;
const form = document.createElement("form");
Object.assign(form, {method: "post", action: url, enctype: kind});
const field = document.createElement("input");
Object.assign(field, {name: "file", value: "forged"});
form.append(field);
document.body.append(form);
form.submit();
"""


class Site(http.server.BaseHTTPRequestHandler):
    """Any other site, with a page at every path."""

    def do_GET(self) -> None:  # pylint: disable=invalid-name
        """Send the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
        """Log nothing."""


@pytest.fixture(scope="module", name="browser")
def fixture_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser that resolves the names above to this machine."""
    rules = ", ".join(f"MAP {name} 127.0.0.1" for name in NAMES)
    with chromium(tmp_path_factory.mktemp("browser"), f"--host-resolver-rules={rules}") as browser:
        yield browser


@pytest.fixture(scope="module", name="site")
def fixture_site() -> Iterator[int]:
    """The port of the other sites' server."""
    with sites.site(Site) as port:
        yield port


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory, site: int) -> Iterator[Server]:
    """An open service on 127.0.0.1 with a tunnel's name and one allowed site."""
    settings = {
        "WSGI_STORE_HOSTS": "tunnel.example",
        "WSGI_STORE_CORS_ORIGINS": f"http://app.example:{site}",
    }
    with gunicorn(tmp_path_factory.mktemp("service"), **settings) as server:
        yield server


def fetch(browser: webdriver.Chrome, url: str, **options: Any) -> Any:
    """Let the open page fetch a URL; return status, text and fields, or None if it was blocked."""
    return browser.execute_async_script(FETCH, url, options)


def refused(server: Server, before: int) -> None:
    """Wait for one more refused upload; check that none was stored."""
    until(lambda: len(server.logged("POST / 403 ")) > before, "a refusal")
    assert not server.blobs()


@pytest.mark.parametrize("origin", ["evil.example", "localhost", "127.0.0.1"])
def test_another_site(browser: webdriver.Chrome, server: Server, site: int, origin: str) -> None:
    """A page of another site or port stores nothing, by fetch, beacon or form."""
    browser.get(f"http://{origin}:{site}/")
    url = f"http://127.0.0.1:{server.port}/"
    seen = len(server.logged("POST / 403 "))
    assert fetch(browser, url, method="POST", body="forged") is None
    refused(server, seen)
    assert fetch(browser, url, method="POST", body="forged", mode="no-cors")[0] == 0
    refused(server, seen + 1)
    assert browser.execute_script("return navigator.sendBeacon(arguments[0], 'forged')", url)
    refused(server, seen + 2)
    for number, kind in enumerate(["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]):
        browser.get(f"http://{origin}:{site}/")
        browser.execute_script(FORM, url, kind)
        refused(server, seen + 3 + number)
    browser.get(f"http://{origin}:{site}/")
    assert fetch(browser, f"{url}files") is None, "the page read what another site has"


def test_a_page_without_an_origin(browser: webdriver.Chrome, server: Server, site: int) -> None:
    """A sandboxed page, whose origin is null, stores nothing."""
    browser.get(f"http://evil.example:{site}/")
    seen = len(server.logged("POST / 403 "))
    script = f"fetch('http://127.0.0.1:{server.port}/', {{method: 'POST', body: 'forged'}})"
    browser.execute_script(
        "const frame = document.createElement('iframe'); frame.sandbox = 'allow-scripts';"
        "frame.srcdoc = arguments[0]; document.body.append(frame)",
        f"<script>{script}</script>",
    )
    refused(server, seen)


def test_a_rebound_name(browser: webdriver.Chrome, server: Server) -> None:
    """A page under a rebound name cannot list, read, store or delete."""
    base = f"http://evil.example:{server.port}"
    # Only the page before it was rebound has scripts: the policy of an answer of the service forbids them.
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    browser.get(f"{base}/healthz")
    for method, path in [("GET", "/files"), ("GET", "/"), ("POST", "/"), ("DELETE", f"/{'0' * 64}")]:
        status, text, _ = fetch(browser, base + path, method=method)
        assert (status, json.loads(text)["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "store.localhost", "tunnel.example"])
def test_ones_own_page(browser: webdriver.Chrome, server: Server, host: str) -> None:
    """The service's own page may do everything, under each of its names."""
    base = f"http://{host}:{server.port}"
    browser.get(f"{base}/healthz")
    status, text, _ = fetch(browser, base + "/", method="POST", body=host)
    url = base + json.loads(text)["url"]
    assert status == 200
    assert fetch(browser, url)[:2] == [200, host]
    assert fetch(browser, url, method="DELETE")[0] == 200


def test_a_site_that_is_allowed(browser: webdriver.Chrome, server: Server, site: int) -> None:
    """A page of an allowed site may do everything and read the answers."""
    browser.get(f"http://app.example:{site}/")
    base = f"http://127.0.0.1:{server.port}"
    digest = {
        "Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(b'from a page').digest()).decode()}:"
    }
    status, text, fields = fetch(browser, base + "/", method="POST", body="from a page", headers=digest)
    path = json.loads(text)["url"]
    assert (status, fields["location"]) == (200, path)
    status, text, fields = fetch(browser, base + path, headers={"Range": "bytes=5-", "X-Request-ID": "mine"})
    assert (status, text, fields["content-range"]) == (206, "a page", "bytes 5-10/11")
    assert fields["x-request-id"] == "mine" and fields["repr-digest"] == digest["Repr-Digest"]
    again = {"If-None-Match": fields["etag"]}
    assert fetch(browser, base + path, headers=again, cache="no-store")[0] == 304
    assert fetch(browser, base + path, method="DELETE")[0] == 200
    assert json.loads(fetch(browser, base + path, method="DELETE")[1])["code"] == "blob_not_found"
    assert fetch(browser, f"{base}/no/such/path", method="DELETE")[0] == 404
    # An answer cached for one site must not be shown to another.
    browser.get(f"http://evil.example:{site}/")
    assert fetch(browser, f"{base}/openapi.json", cache="force-cache") is None


@pytest.fixture(name="guarded")
def fixture_guarded(tmp_path: Path, site: int) -> Iterator[Server]:
    """A service that requires tokens."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("secret", ALL), encoding="utf-8")
    settings = {"WSGI_STORE_TOKENS": str(tokens), "WSGI_STORE_CORS_ORIGINS": f"http://app.example:{site}"}
    with gunicorn(tmp_path, **settings) as server:
        yield server


def test_a_cached_password(browser: webdriver.Chrome, guarded: Server, site: int) -> None:
    """A cached password does not let in another site's form, only the service's own page."""
    browser.get(f"http://me:secret@store.example:{guarded.port}/files")
    assert "files" in browser.page_source
    browser.get(f"http://evil.example:{site}/")
    browser.execute_script(FORM, f"http://store.example:{guarded.port}/", "multipart/form-data")
    refused(guarded, 0)
    browser.get(f"http://store.example:{guarded.port}/healthz")
    assert fetch(browser, "/", method="POST", body="mine")[0] == 200, "the password was not cached"


def test_a_token(browser: webdriver.Chrome, guarded: Server, site: int) -> None:
    """A page of an allowed site may send a token, and can read a 401."""
    browser.get(f"http://app.example:{site}/")
    url = f"http://store.example:{guarded.port}/"
    status, text, fields = fetch(browser, url, method="POST", body="x")
    assert (status, json.loads(text)["code"]) == (401, "unauthenticated")
    assert "Bearer" in fields["www-authenticate"]
    headers = {"Authorization": "Bearer secret", "X-Any-Other": "1"}
    assert fetch(browser, url, method="POST", body="x", headers=headers)[0] == 200
    assert fetch(browser, f"{url}files", headers=headers, credentials="include") is None, "with credentials"
    browser.get(f"http://evil.example:{site}/")
    assert fetch(browser, url, method="POST", body="y", headers=headers) is None
    assert len(guarded.blobs()) == 1


def test_a_host_application(browser: webdriver.Chrome, site: int, tmp_path: Path) -> None:
    """A mounted service takes uploads from its host's pages and from no other site."""
    host = make_server("127.0.0.1", 0, flask_app.make_app(str(tmp_path)), threaded=True)
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    try:
        browser.get(f"http://store.example:{host.port}/")
        assert fetch(browser, "/blobs/", method="POST", body="mine")[0] == 200
        browser.get(f"http://evil.example:{site}/")
        url = f"http://store.example:{host.port}/blobs/"
        assert fetch(browser, url, method="POST", body="forged") is None
        assert len(list(tmp_path.glob("[0-9a-f][0-9a-f]/*"))) == 1
    finally:
        host.shutdown()
        thread.join()
        host.server_close()


def test_blossom(browser: webdriver.Chrome, tmp_path: Path, site: int) -> None:
    """A page of any site uses the application of Blossom with signed events, and reads why it is refused."""
    (tmp_path / "tokens").write_text(f"me read,write,delete nostr:{public(MINE)}\n")
    settings = {"WSGI_STORE_TOKENS": str(tmp_path / "tokens"), "WSGI_STORE_PROTOCOLS": "blossom"}
    hash_ = hashlib.sha256(b"hello").hexdigest()
    with gunicorn(tmp_path, BLOSSOM, **settings) as server:
        base = f"http://store.example:{server.port}"
        browser.get(f"http://app.example:{site}/")
        unsigned = fetch(browser, f"{base}/upload", method="PUT", body="hello")
        assert (unsigned[0], unsigned[2]["x-reason"]) == (401, "this needs a token")
        more = {"X-SHA-256": hash_, "X-Content-Length": "5", "X-Content-Type": "image/png"}
        signed = {**allowing("upload", hash_), **more}
        assert fetch(browser, f"{base}/upload", method="HEAD", headers=signed)[0] == 200
        kind = {"Content-Type": "image/png"}
        status, text, _ = fetch(
            browser, f"{base}/upload", method="PUT", body="hello", headers={**signed, **kind}
        )
        url = json.loads(text)["url"]
        assert (status, url) == (201, f"{base}/{hash_}.png")
        assert fetch(browser, url, headers=allowing("get", hash_))[:2] == [200, "hello"]
        assert fetch(browser, f"{base}/{hash_}", method="DELETE", headers=allowing("delete", hash_))[0] == 200
        assert not server.blobs()
