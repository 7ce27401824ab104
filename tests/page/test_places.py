"""Where the page is served: over plain HTTP, below a prefix, behind nginx, from a store that is read-only."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from tests.support.browsers import PLAIN_HOST, Profile
from tests.support.fresh import MIB, fresh
from tests.support.servers import Server, gunicorn, nginx
from tests.support.visits import Visit
from wsgi_store.access.grant import Grant
from wsgi_store.assembly import create_app
from wsgi_store.config import Config

pytestmark = pytest.mark.clients
# A proxy that passes on what lies below a prefix, and does not tell the service of it.
STRIPPING = """
location /share/ {
    proxy_pass http://wsgi_store/;
}
"""
BUFFERING = {
    "client_max_body_size 0;": "client_max_body_size 1m;",
    "proxy_request_buffering off;": "proxy_request_buffering on;",
}


def works(visit: Visit, server: Server, directory: Path) -> None:
    """Check that the page stores a small file and a large one, and that the link of a file works."""
    for name, size in {"small.bin": 3000, "middle.bin": 3 * MIB, "large.bin": 70 * MIB}.items():
        hash_ = fresh(directory / name, size)
        visit.choose(directory / name)
        assert visit.until_stored(name) == hash_
        assert hash_ in server.blobs()
    source = """() => Promise.all([...document.querySelectorAll("#queue-files .file-name a")]
        .map((link) => fetch(link.href, { method: "HEAD" }).then((answer) => answer.status)))"""
    assert visit.tab.js(source) == [200, 200, 200]


def test_plain_http(profile: Profile, service: Server, tmp_path: Path) -> None:
    """Over plain HTTP, where browsers have no WebCrypto, files are hashed all the same."""
    visit = Visit(profile.tab(f"http://{PLAIN_HOST}:{service.port}/"))
    assert visit.tab.js("() => !isSecureContext && !crypto.subtle")
    works(visit, service, tmp_path)
    visit.sees("line.compared")


def test_known_prefix(profile: Profile, tmp_path: Path) -> None:
    """The service is mounted below a prefix."""
    with gunicorn(tmp_path, SCRIPT_NAME="/deep/files") as server:
        for end in ("", "/"):
            visit = Visit(profile.tab(f"http://127.0.0.1:{server.port}/deep/files{end}"))
            works(visit, server, tmp_path)


def test_unknown_prefix(profile: Profile, tmp_path: Path) -> None:
    """A proxy serves the page below a prefix that the service does not know."""
    with gunicorn(tmp_path) as server, nginx(tmp_path, server, direct=False, locations=STRIPPING) as proxy:
        visit = Visit(profile.tab(f"http://127.0.0.1:{proxy.port}/share/"))
        works(visit, server, tmp_path)


def by_cookie(environ: Mapping[str, Any]) -> Grant:
    """What a host application permits, which knows its people by a cookie."""
    signed_in = "user=ann" in environ.get("HTTP_COOKIE", "")
    return Grant(
        frozenset({"read", "write", "list"}) if signed_in else frozenset(), "ann" if signed_in else None
    )


@pytest.fixture(name="host")
def fixture_host(tmp_path: Path) -> Iterator[str]:
    """The URL of a host application; it signs in whoever opens /login."""
    store = create_app(Config(root=str(tmp_path / "store")), by_cookie)

    def login(_: Any, start_response: Any) -> list[bytes]:
        start_response(
            "200 OK", [("Set-Cookie", "user=ann; HttpOnly; SameSite=Lax"), ("Content-Length", "2")]
        )
        return [b"ok"]

    both = DispatcherMiddleware(store, {"/login": login})
    server = make_server("127.0.0.1", 0, both, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_host_application_with_cookies(profile: Profile, host: str, tmp_path: Path) -> None:
    """Whoever is signed in to a host application needs no token: the page sends the cookie."""
    visit = Visit(profile.tab(f"{host}login"))
    visit.tab.go(host)
    for name, size in {"small.bin": 3000, "middle.bin": MIB, "large.bin": 33 * MIB}.items():
        hash_ = fresh(tmp_path / name, size)
        visit.choose(tmp_path / name)
        assert visit.until_stored(name) == hash_
    assert not visit.tab.js("() => document.querySelector('dialog[open]') !== null")


def test_nginx(profile: Profile, tmp_path: Path) -> None:
    """The page works behind nginx with the shipped settings."""
    with gunicorn(tmp_path) as server, nginx(tmp_path, server, direct=True) as proxy:
        works(Visit(profile.tab(f"http://127.0.0.1:{proxy.port}/")), server, tmp_path)


def test_buffering_proxy(profile: Profile, tmp_path: Path) -> None:
    """The page works behind a proxy that stores requests first and takes 1 MiB at a time."""
    with gunicorn(tmp_path) as server, nginx(tmp_path, server, direct=False, changes=BUFFERING) as proxy:
        works(Visit(profile.tab(f"http://127.0.0.1:{proxy.port}/")), server, tmp_path)


def test_read_only(profile: Profile, tmp_path: Path) -> None:
    """A store that is read-only takes nothing, and says so."""
    (tmp_path / "store").mkdir()
    with gunicorn(tmp_path) as server:
        pass
    with gunicorn(tmp_path, WSGI_STORE_READ_ONLY="yes") as server:
        visit = Visit(profile.tab(f"http://127.0.0.1:{server.port}/"))
        visit.sees("add.read_only")
        visit.give("new.txt", "words")
        assert visit.state("new.txt") is None
        assert not visit.tab.js("() => document.querySelector('#add')?.checkVisibility()")
        assert not server.blobs()
