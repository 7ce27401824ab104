"""The check of Host on real servers, which applies only where all sockets are on loopback."""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.servers import Server, gunicorn, nginx, uwsgi, waitress
from tests.support.wire import Connection, message
from wsgi_store.web import loopback

KNOWN = {"WSGI_STORE_HOSTS": "store.example"}


def status(port: int, *hosts: str, address: str = "127.0.0.1") -> list[int]:
    """The statuses of requests with these hosts."""
    found = []
    for host in hosts:
        with closing(HTTPConnection(address, port, timeout=20)) as connection:
            connection.request("GET", "/files", headers={"Host": host})
            found.append(connection.getresponse().status)
    return found


@pytest.mark.parametrize("start", [gunicorn, uwsgi, waitress], ids=lambda start: start.__name__)
def test_a_loopback_address(start: Callable[..., Server], tmp_path: Path) -> None:
    """An open service on 127.0.0.1 answers only under known hosts, on every server."""
    with start(tmp_path, **KNOWN) as server:
        hosts = ["localhost", f"127.0.0.1:{server.port}", "store.example", "evil.example", "example.org:80"]
        assert status(server.port, *hosts) == [200, 200, 200, 421, 421]
        for malformed in ("a@b", "a b", "[::1", "a:80x"):
            assert status(server.port, malformed) == [400]
        with Connection(server.port) as connection:
            answer = connection.ask(message("POST", "/", b"x"))
        assert (answer.status, json.loads(answer.body)["code"]) == (421, "unknown_host")
        assert not server.blobs()


def test_before_a_body_is_asked_for(tmp_path: Path) -> None:
    """A foreign origin or an unknown host is refused without a 100 Continue."""
    with gunicorn(tmp_path) as server:
        for field, status_ in ({"Origin": "http://evil.example"}, 403), ({"X_Y": "z"}, 421):
            request = message("POST", "/", Content_Length=1 << 20, Expect="100-continue", **field)
            if status_ == 421:
                request = request.replace(b"example.org", b"evil.example")
            with Connection(server.port) as connection:
                assert connection.ask(request).status == status_


@pytest.mark.parametrize("start", [gunicorn, uwsgi, waitress], ids=lambda start: start.__name__)
def test_what_proxies_say(start: Callable[..., Server], tmp_path: Path) -> None:
    """No forwarding field makes an unknown host known."""
    fields = {
        "X_Forwarded_Host": "localhost",
        "X_Forwarded_For": "8.8.8.8",
        "X_Forwarded_Port": "80",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Server": "0.0.0.0",
        "X_Real_IP": "8.8.8.8",
        "Forwarded": "for=8.8.8.8;host=localhost",
        "Server_Name": "0.0.0.0",
    }
    with start(tmp_path, **KNOWN) as server:
        for names in ([], *([name] for name in fields), list(fields)):
            request = message("GET", "/files", **{name: fields[name] for name in names})
            with Connection(server.port) as connection:
                assert connection.ask(request).status == 421, names


@pytest.mark.parametrize("start", [gunicorn, uwsgi, waitress], ids=lambda start: start.__name__)
def test_every_address(start: Callable[..., Server], tmp_path: Path) -> None:
    """A service on all addresses accepts any host."""
    with start(tmp_path, address="0.0.0.0", **KNOWN) as server:
        assert status(server.port, "evil.example", "localhost") == [200, 200]


def test_a_loopback_address_and_a_unix_socket(tmp_path: Path) -> None:
    """gunicorn checks hosts on its TCP socket, and not on a Unix socket, where a proxy does."""
    path = str(tmp_path / "socket")
    with gunicorn(tmp_path, "--bind", f"unix:{path}", **KNOWN) as server:
        assert status(server.port, "evil.example", "localhost") == [421, 200]
        for host, expected in {"evil.example": 200, "localhost": 200, "a@b": 400}.items():
            with closing(socket.socket(socket.AF_UNIX)) as client:
                client.connect(path)
                client.sendall(f"GET /files HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                assert client.makefile("rb").readline().split()[1] == str(expected).encode()


def test_a_service_with_tokens(tmp_path: Path) -> None:
    """A service that requires tokens accepts any host."""
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    with gunicorn(tmp_path, WSGI_STORE_TOKENS=str(tokens)) as server:
        assert status(server.port, "evil.example") == [401]


@pytest.fixture(name="proxied", scope="module")
def fixture_proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., int]]:
    """The port of the shipped nginx before the shipped gunicorn, which knows one public name."""
    with ExitStack() as stack:
        backend = stack.enter_context(gunicorn(tmp_path_factory.mktemp("backend"), **KNOWN))
        yield stack.enter_context(nginx(tmp_path_factory.mktemp("proxy"), backend, direct=False)).port


def test_behind_nginx(proxied: int) -> None:
    """Through nginx the service answers under its public name and refuses others."""
    assert status(proxied, "store.example", f"store.example:{proxied}", "localhost") == [200, 200, 200]
    assert status(proxied, "evil.example") == [421]


def test_uploads_behind_nginx(proxied: int) -> None:
    """A page of the public name and port may upload, a page of another port may not."""
    with Connection(proxied) as connection:
        for origin, expected in {"https://store.example:8443": 200, "https://store.example": 403}.items():
            request = message("POST", "/", b"x", Origin=origin)
            request = request.replace(b"Host: example.org", b"Host: store.example:8443")
            assert connection.ask(request).status == expected


def test_what_cannot_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are checked if the sockets cannot be listed, but not if there are none."""

    def listdir(_: str) -> list[str]:
        raise FileNotFoundError

    for listeners, expected in ((listdir, True), (lambda _: [], False)):
        loopback.on_loopback_only.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(loopback.os, "listdir", listeners)
            assert loopback.on_loopback_only() is expected
    loopback.on_loopback_only.cache_clear()


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"http": b"127.0.0.1:8000"}, True),
        ({"http": b"localhost:8000"}, True),
        ({"https": b"[::1]:8443,cert,key"}, True),
        ({"http": b":8000"}, False),
        ({"http": b"0.0.0.0:8000"}, False),
        ({"http": b"192.168.1.5:8000"}, False),
        ({"http": [b"127.0.0.1:8000", b"192.168.1.5:8000"]}, False),
        ({"http": b"127.0.0.1:8000", "https": b":8443,cert,key"}, False),
    ],
    ids=str,
)
def test_routers_of_uwsgi(
    options: dict[str, object], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With uWSGI's HTTP routers, their addresses decide."""

    class Uwsgi:  # pylint: disable=too-few-public-methods
        """The module that uWSGI provides."""

        opt = options

    monkeypatch.setitem(sys.modules, "uwsgi", Uwsgi)  # type: ignore[arg-type]
    loopback.on_loopback_only.cache_clear()
    assert loopback.on_loopback_only() is expected
    loopback.on_loopback_only.cache_clear()
