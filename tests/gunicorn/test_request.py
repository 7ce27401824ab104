"""gunicorn with the shipped settings, and clients that break the protocol, disconnect or pipeline."""

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.exchanges import DATA, HASH, SIZE, form, told
from tests.support.servers import Server, gunicorn
from tests.support.wire import Connection, chunked, message

CODED = message("POST", "/", Transfer_Encoding="chunked")
HEALTHY = b'{"status": "ok"}\n'


@pytest.fixture(scope="module", name="shared")
def fixture_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn on a store with one blob."""
    with gunicorn(tmp_path_factory.mktemp("gunicorn")) as server:
        with Connection(server.port) as connection:
            assert told(connection.ask(message("POST", "/", DATA))) == (HASH, SIZE, True)
        yield server


@pytest.fixture(name="server")
def fixture_server(shared: Server) -> Iterator[Server]:
    """The shared server; after each test nothing is left over, and the next request works."""
    before = shared.descriptors()
    yield shared
    shared.until_unused(before)
    assert shared.blobs() == {HASH}
    assert not shared.staged()
    with Connection(shared.port) as connection:
        assert connection.ask(message("GET", "/healthz")).body == HEALTHY


def broken(head: str, body: bytes = b"") -> bytes:
    """An upload with a head that no client library would send."""
    return f"POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n".encode("latin-1") + body


@pytest.mark.parametrize(
    "sent",
    [
        message("POST", "/", Content_Length=SIZE) + DATA[:100],
        message("POST", "/", Content_Length=SIZE) + DATA[:2_500_000],
        message("POST", "/", Content_Length=10),
        form("a", b"x" * 500)[:-100],
        form("a", DATA)[:-5],
        CODED,
        CODED + b"5",
        CODED + b"5\r\nabc",
        CODED + b"5\r\nabcde\r\n",
        CODED + chunked(DATA, end=b""),
        CODED + chunked(b"abc", end=b"0\r\n"),
        CODED + chunked(b"abc", end=b"0\r\nX-Trailer: 1\r\n"),
    ],
    ids=lambda sent: f"{sent[-30:]!r:.40}",
)
@pytest.mark.parametrize("way", ["half-closed", "closed", "reset"])
def test_truncated(server: Server, sent: bytes, way: str) -> None:
    """A body shorter than its Content-Length stores nothing, and a client that still listens gets 400."""
    seen = len(server.logged("POST / 400 "))
    with Connection(server.port) as connection:
        connection.send(sent)
        if way == "half-closed":
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.receive()
            assert answer.status == 400
            assert json.loads(answer.body)["code"] in ("incomplete_body", "bad_request")
            assert connection.at_end()
        elif way == "reset":
            # Of a form the server creates a file when its first bytes have arrived in one piece.
            if b"form-data" in sent and len(sent) < len(DATA):
                time.sleep(0.2)
            else:
                server.until_staged()
            connection.reset()
    server.await_log("POST / 400 ", seen + 1)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabcXX0\r\n\r\n",
        b"3\r\nabc\r\nzz\r\n\r\n",
        b'3;a="\x01"\r\nabc\r\n0\r\n\r\n',
        b"3;\rx\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nno trailer\r\n\r\n",
        b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
        b"f" * 20_000,
    ],
    ids=lambda body: f"{body!r:.30}",
)
def test_malformed_chunks(server: Server, body: bytes) -> None:
    """A malformed chunked body is rejected, and its connection closed."""
    with Connection(server.port) as connection:
        connection.send(CODED, body, message("GET", "/healthz"))
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.receive().status == 400
        assert connection.at_end()


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: -1",
        "Content-Length: +3",
        "Content-Length: 3_0",
        "Content-Length: 0x3",
        "Content-Length: 3, 3",
        "Content-Length: \xb2",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length : 3",
        "Transfer-Encoding: identity\r\nContent-Length: 3",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\x0bchunked",
        "Folded: a\r\n b\r\nContent-Length: 3",
        "Nul: \x00\r\nContent-Length: 3",
        "X_Y Z: 1\r\nContent-Length: 3",
        "X: " + "a" * 9000 + "\r\nContent-Length: 3",
    ],
    ids=lambda head: f"{head!r:.60}",
)
def test_malformed_heads(server: Server, head: str) -> None:
    """An ambiguous body length or a malformed head is rejected."""
    with Connection(server.port) as connection:
        connection.send(broken(head, b"abc"))
        assert connection.receive().status in (400, 411, 431, 501)
        assert connection.at_end()


@pytest.mark.parametrize(
    "head, status", [("X: 1", 411), ("Content-Length:", 400), ("Content-Length: " + "9" * 30, 400)]
)
def test_no_length(server: Server, head: str, status: int) -> None:
    """An upload without a length, or with an absurd one, is rejected."""
    with Connection(server.port) as connection:
        assert connection.ask(broken(head)).status == status


def test_surplus(server: Server) -> None:
    """Bytes after the announced body are read as the next request, not as part of the file."""
    with Connection(server.port) as connection:
        connection.send(message("POST", "/", b"abc"), b"surplus\r\n\r\n")
        assert told(connection.receive())[:2] == (hashlib.sha256(b"abc").hexdigest(), 3)
        assert connection.receive().status == 400
        assert connection.at_end()
    remove(server, b"abc")


@pytest.mark.parametrize(
    "body",
    [
        chunked(*(bytes([byte]) for byte in b"odd sizes")),
        b'3;name=value\r\nodd\r\n6 ; q="a;\\"b"\r\n sizes\r\n0;last\r\n\r\n',
        b"0000000000000009\r\nodd sizes\r\n000\r\n\r\n",
        b"9\r\nodd sizes\r\n0\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n",
    ],
    ids=["single bytes", "extensions", "zeros", "trailers"],
)
def test_chunk_forms(server: Server, body: bytes) -> None:
    """Every well-formed chunked body is accepted, and the connection reused."""
    with Connection(server.port) as connection:
        connection.send(CODED, body, message("GET", "/healthz"))
        assert told(connection.receive())[0] == hashlib.sha256(b"odd sizes").hexdigest()
        assert connection.receive().body == HEALTHY
    remove(server, b"odd sizes")


@given(
    st.lists(st.integers(1, 200_000), min_size=1, max_size=8), st.lists(st.integers(1, 90_000), min_size=1)
)
def test_any_chunks_in_any_segments(server: Server, sizes: list[int], segments: list[int]) -> None:
    """The same bytes arrive, whatever the chunks and segments."""
    data = DATA[: sum(sizes)]
    ends = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    body = CODED + chunked(*(data[end - size : end] for size, end in zip(sizes, ends, strict=True)))
    with Connection(server.port) as connection:
        start = 0
        for size in cycle(segments):
            connection.send(body[start : start + size])
            start += size
            if start >= len(body):
                break
        assert told(connection.receive())[0] == hashlib.sha256(data).hexdigest()
    remove(server, data)


@pytest.mark.parametrize("coding", ["gzip, chunked", "xchunked", "identity, chunked", "chunked;q=1"])
def test_transfer_coding(server: Server, coding: str) -> None:
    """A body with an unsupported transfer coding is rejected."""
    with Connection(server.port) as connection:
        connection.send(broken(f"Transfer-Encoding: {coding}", chunked(b"abc")))
        answer = connection.receive()
        assert (answer.status, json.loads(answer.body)["code"]) == (501, "unsupported")
        assert connection.at_end()


def test_expect(server: Server) -> None:
    """A client that waits for 100 Continue gets it once."""
    with Connection(server.port) as connection:
        connection.send(message("POST", "/", Expect="100-continue", Content_Length=SIZE))
        assert connection.receive().status == 100
        connection.send(DATA)
        assert told(connection.receive()) == (HASH, SIZE, False)


def test_http_1_0(server: Server) -> None:
    """An HTTP/1.0 request gets the whole answer, then the connection is closed."""
    with Connection(server.port) as connection:
        connection.send(f"GET /{HASH} HTTP/1.0\r\n\r\n".encode())
        answer = connection.receive()
        assert (answer.status, answer.body == DATA) == (200, True)
        assert connection.at_end()


@pytest.mark.parametrize(
    "options", ["close", "TE, Close", "close,TE", "keep-alive, close", "TE\r\nConnection: close"]
)
def test_asked_to_close(server: Server, options: str) -> None:
    """The option close ends the connection, at any place in the list."""
    with Connection(server.port) as connection:
        answer = connection.ask(message("GET", "/healthz", Connection=options))
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert connection.at_end()


def test_kept_with_other_options(server: Server) -> None:
    """Other connection options keep the connection open."""
    with Connection(server.port) as connection:
        for options in ("TE", "closed", "keep-alive, TE", ""):
            answer = connection.ask(message("GET", "/healthz", Connection=options))
            assert (answer.status, answer.fields["connection"]) == (200, "keep-alive")


@pytest.mark.parametrize(
    "request_, status",
    [
        ("GET /healthz HTTP/1.1\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost:\r\nConnection: close\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n", 200),
    ],
)
def test_host(server: Server, request_: str, status: int) -> None:
    """HTTP/1.1 requires a Host field, which may be empty; HTTP/1.0 does not."""
    with Connection(server.port) as connection:
        answer = connection.ask(f"{request_}\r\n".encode())
        assert answer.status == status
        if status == 400:
            assert json.loads(answer.body)["detail"] == "HTTP/1.1 requires a Host field"
        assert connection.at_end()


def test_outside_of_the_prefix(server: Server) -> None:
    """A path that does not begin with SCRIPT_NAME gets 404."""
    with Connection(server.port) as connection:
        answer = connection.ask(message("GET", "/healthz").replace(b"Host", b"SCRIPT_NAME: /store\r\nHost"))
        assert (answer.status, json.loads(answer.body)["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "line", ["get / HTTP/1.1", "GET /", "GET / HTTP/3.0", "G@T / HTTP/1.1", "\x16\x03\x01"]
)
def test_malformed_request_lines(server: Server, line: str) -> None:
    """A malformed request line gets 400 or 505."""
    with Connection(server.port) as connection:
        connection.send(f"{line}\r\nHost: a\r\n\r\n".encode("latin-1"))
        assert connection.receive().status in (400, 505)
        assert connection.at_end()


def test_long_request_line(server: Server) -> None:
    """A file name of 255 percent-encoded bytes fits in the request line, whose length is limited."""
    with Connection(server.port) as connection:
        assert connection.ask(message("HEAD", f"/{HASH}/{'%C3%A4' * 255}")).status == 200
        assert connection.ask(message("GET", f"/{'a' * 9000}")).status == 414


def remove(server: Server, data: bytes) -> None:
    """Remove a blob that a test added."""
    with Connection(server.port) as connection:
        assert connection.ask(message("DELETE", f"/{hashlib.sha256(data).hexdigest()}")).status == 200
