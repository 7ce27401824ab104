"""A body read into buffers inside gunicorn is the one that gunicorn's own reader would give."""

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.unreader import SocketUnreader
from hypothesis import given, settings
from hypothesis import strategies as st

from wsgi_store.body import Body
from wsgi_store.connection import Request

NEXT = b"GET /next HTTP/1.1\r\n\r\n"


class Sent:
    """A request that was sent, and what gunicorn makes of it."""

    def __init__(self, head: bytes, rest: bytes) -> None:
        self._client, self._server = socket.socketpair()
        self._client.settimeout(10)
        self._client.sendall(head + rest)
        self._client.shutdown(socket.SHUT_WR)
        self._server.settimeout(10)
        self.unreader = SocketUnreader(self._server)
        self.request: Any = Request(Config(), self.unreader, ("127.0.0.1", 1))
        self.body: Body = self.request.body

    def close(self) -> None:
        """Close both ends."""
        self._client.close()
        self._server.close()

    def rest(self) -> bytes:
        """What is left on the connection."""
        return b"".join(iter(self.unreader.read, b""))


def posted(data: bytes, length: int | None = None, rest: bytes = b"") -> "closing[Sent]":
    """A body with a Content-Length, and what comes behind it."""
    announced = len(data) if length is None else length
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % announced
    return closing(Sent(head, data + rest))


def pieces(body: Body, sizes: Iterator[int]) -> Iterator[bytes]:
    """Read a body into buffers to its end."""
    for size in sizes:
        buffer = memoryview(bytearray(size))
        count = body.readinto(buffer)
        yield bytes(buffer[:count])
        if count < size:
            return


@settings(deadline=None)
@given(
    data=st.binary(max_size=30_000), sizes=st.lists(st.integers(1, 20_000), min_size=1), lines=st.booleans()
)
def test_any_buffers(data: bytes, sizes: list[int], lines: bool) -> None:
    """Whatever the sizes of the buffers, the bytes are those sent, and the next request's stay."""
    with posted(data, rest=NEXT) as sent:
        first = sent.body.readline() if lines else b""
        assert first + b"".join(pieces(sent.body, iter(sizes * 30_000))) == data
        assert sent.body.readinto(memoryview(bytearray(5))) == 0
        assert not sent.body.failed
        assert not sent.request.should_close()
        assert sent.rest() == NEXT


def test_mixed_with_reads() -> None:
    """Reads and buffers take their parts in order, and what is unread is known."""
    data = bytes(range(256)) * 400
    with posted(data) as sent:
        buffer = memoryview(bytearray(40_000))
        got = sent.body.read(10)
        for _ in range(2):
            got += bytes(buffer[: sent.body.readinto(buffer)])
            got += sent.body.read(10)
        assert got == data[: len(got)]
        assert len(got) == 80_030
        assert sent.body.read() == data[len(got) :]


@pytest.mark.parametrize("sent_bytes", [0, 1, 50_000])
def test_a_body_that_breaks_off(sent_bytes: int) -> None:
    """A body shorter than announced fills no more than came."""
    with posted(b"x" * sent_bytes, length=100_000) as sent:
        assert sent.body.readinto(memoryview(bytearray(80_000))) == sent_bytes


def test_a_body_that_fails() -> None:
    """After a failure the connection is not used again."""
    with posted(b"x" * 10_000, length=100_000) as sent:
        sent.unreader.sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            sent.body.readinto(memoryview(bytearray(80_000)))
        assert sent.request.should_close()


def test_a_chunked_body() -> None:
    """Chunks are put into buffers without their framing."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with closing(Sent(head, b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n" + NEXT)) as sent:
        assert b"".join(pieces(sent.body, iter([3] * 9))) == b"helloworld"
        assert not sent.request.should_close()
        assert sent.rest() == NEXT
