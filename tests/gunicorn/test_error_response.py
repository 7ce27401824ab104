"""Requests that gunicorn itself rejects: hosts, targets, incomplete heads, messages and log lines."""

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crowds import HALF_HEAD, Crowd
from tests.support.servers import Server, gunicorn, until
from tests.support.wire import Connection, message


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn with the shipped settings."""
    with gunicorn(tmp_path_factory.mktemp("gunicorn"), workers=1, WSGI_STORE_HOSTS="a, a.b, a_b") as server:
        yield server


MALFORMED = ["a@b", "a b", "[::1", "a:80x", "a:99999", "a/b", "a,b", "[::g]", "é", "a?", ":80"]
GOOD = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED = [
    b"GET\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("host", MALFORMED)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_malformed_hosts(server: Server, host: str, version: str) -> None:
    """A malformed host is rejected, in the Host field and in the target."""
    requests = [f"GET / HTTP/{version}\r\nHost: {host}\r\n\r\n"]
    if not set(host) & set(" /?"):  # otherwise the host would end there
        requests.append(f"GET http://{host}/healthz HTTP/{version}\r\nHost: a\r\n\r\n")
    for request in requests:
        with Connection(server.port) as connection:
            answer = connection.ask(request.encode())
            assert answer.status == 400
            assert json.loads(answer.body)["detail"].startswith("malformed ")
            assert connection.at_end()


@pytest.mark.parametrize("host", ["", "a", "A.b:80", "a:", "[::1]", "[::1]:8000", "127.0.0.1:1", "a_b"])
def test_hosts(server: Server, host: str) -> None:
    """Every valid host is accepted, in the Host field and in the target."""
    with Connection(server.port) as connection:
        assert connection.ask(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).status == 200
        if host:
            request = f"GET http://{host}/healthz HTTP/1.1\r\nHost: other\r\n\r\n"
            assert connection.ask(request.encode()).status == 200


@pytest.mark.parametrize("fields", ["Host: a\r\nHost: a", "Host: a\r\nhost: b", "Host:\r\nHost:"])
def test_more_than_one_host(server: Server, fields: str) -> None:
    """A second Host field is rejected, even with the same value."""
    with Connection(server.port) as connection:
        assert connection.ask(f"GET /healthz HTTP/1.1\r\n{fields}\r\n\r\n".encode()).status == 400


@pytest.mark.parametrize(
    "target", ["ftp://a/", "http:///healthz", "a://b", "http://", "http://a@b/", "*", "a:1", "healthz"]
)
def test_malformed_targets(server: Server, target: str) -> None:
    """A malformed target is rejected."""
    with Connection(server.port) as connection:
        assert connection.ask(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).status == 400


def test_targets_of_other_forms(server: Server) -> None:
    """Targets in absolute, asterisk and authority form reach the application as a path."""
    with Connection(server.port) as connection:
        assert connection.ask(b"GET http://a?hash=x HTTP/1.1\r\nHost: a\r\n\r\n").status == 404
        assert connection.ask(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
        for request in (b"OPTIONS *", b"OPTIONS http://a"):
            assert connection.ask(request + b" HTTP/1.1\r\nHost: a\r\n\r\n").status < 500
        assert connection.ask(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").status == 405
        assert connection.at_end()
    with Connection(server.port) as connection:
        assert connection.ask(b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n").status == 400


@pytest.mark.parametrize("request_", REFUSED, ids=lambda request: repr(request[-30:]))
def test_words(server: Server, request_: bytes) -> None:
    """Errors use plain words without class names, and the reason phrases of RFC 9110."""
    with Connection(server.port) as connection:
        connection.send(request_)
        line = connection.socket.recv(1 << 16, socket.MSG_PEEK).split(b"\r\n")[0].decode()
        answer = connection.receive()
        problem = json.loads(answer.body)
        assert line == f"HTTP/1.1 {problem['status']} {problem['title']}"
        assert not re.search("[a-z][A-Z]|gunicorn|Error|'", problem["detail"].replace("MiB", ""))
        assert connection.at_end()


@pytest.mark.parametrize("request_", REFUSED[2:], ids=lambda request: repr(request[-30:]))
def test_head(server: Server, request_: bytes) -> None:
    """A rejected HEAD request gets no body."""
    with Connection(server.port) as connection:
        connection.send(b"HEAD" + request_[3:])
        answer = connection.receive(head=True)
        assert answer.status >= 400 and int(answer.fields["content-length"]) > 0
        assert connection.at_end()


@pytest.mark.parametrize("before", [b"", b"\r\n", GOOD], ids=["", "line", "request"])
@pytest.mark.parametrize(
    "begin", [b"\x16\x03\x01", b"\0", b"\x80\x2e\x01", b" GET", b'"', b"\xef\xbb\xbfGET"]
)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
def test_another_protocol(server: Server, before: bytes, begin: bytes, apart: bool) -> None:
    """Bytes of another protocol, such as a TLS handshake, are rejected at once."""
    seen = len(server.logged("WARNING"))
    with Connection(server.port) as connection:
        begun = time.monotonic()
        if apart and before:
            connection.send(before)
            if before.strip():
                assert connection.receive().status == 200
            time.sleep(0.05)  # for the server to read it; nothing signals that
            connection.send(begin)
        else:
            connection.send(before + begin)
            if before.strip():
                assert connection.receive().status == 200
        answer = connection.receive()
        assert answer.status == 400 and connection.at_end()
        assert "not TLS or another protocol" in json.loads(answer.body)["detail"]
        # A head that may go on is awaited for longer.
        assert time.monotonic() - begun < 5
    assert len(server.logged("WARNING")) <= seen + 1


@pytest.mark.parametrize("first", [b"\r\n", b""], ids=["line", ""])
def test_a_request_byte_by_byte(server: Server, first: bytes) -> None:
    """A head may arrive byte by byte, also after an empty line (RFC 9112 section 2.2)."""
    with Connection(server.port) as connection:
        for byte in first + GOOD:
            connection.send(bytes([byte]))
            time.sleep(0.001)
        assert connection.receive().status == 200


def test_half_a_head(tmp_path: Path) -> None:
    """An incomplete head gets 408 without a reset; a silent connection is just closed."""
    path = str(tmp_path / "socket")
    with gunicorn(tmp_path, "--bind", f"unix:{path}", workers=1) as server, Crowd() as crowd:
        halves = [crowd.join(server.port, data) for data in (HALF_HEAD, message("GET", "/") + HALF_HEAD)]
        halves.append(crowd.enter_context(socket.socket(socket.AF_UNIX)))
        halves[-1].connect(path)
        halves[-1].settimeout(20)
        halves[-1].sendall(HALF_HEAD)
        with socket.socket(socket.AF_UNIX) as foreign:
            foreign.connect(path)
            foreign.settimeout(1)
            foreign.sendall(b"\x16\x03\x01")
            assert foreign.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
        head = crowd.join(server.port, b"HEAD / HT")
        silent = crowd.join(server.port)
        assert halves[1].recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        for half in halves:
            data = b"".join(iter(lambda half=half: half.recv(1 << 16), b""))
            assert data.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), data
            assert json.loads(data.partition(b"\r\n\r\n")[2])["code"] == "request_timeout"
        data = b"".join(iter(lambda: head.recv(1 << 16), b""))
        assert data.startswith(b"HTTP/1.1 408 ") and data.endswith(b"\r\n\r\n")
        assert silent.recv(1) == b""


def test_flood(tmp_path: Path) -> None:
    """A flood of malformed requests is logged once per second, with a count."""
    with gunicorn(tmp_path, workers=1) as server:
        begin = time.monotonic()
        for _ in range(300):
            with Connection(server.port) as connection:
                assert connection.ask(b"BAD\r\n\r\n").status == 400

        def counted() -> int:
            more = sum(
                int(match[1]) for match in server.logged(r"WARNING.* (\d+) more warnings like this one")
            )
            return more + len(server.logged("WARNING.* refused a request"))

        until(lambda: counted() == 300, "all to be counted")
        lines = len(server.logged("WARNING"))
        assert lines <= time.monotonic() - begin + 2
        assert os.path.getsize(server.log) < 4000
