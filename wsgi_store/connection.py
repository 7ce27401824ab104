"""What gunicorn knows of a connection and its requests, bounded in time."""

import os
import socket
import ssl
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

from gunicorn.http import body, message
from gunicorn.http import errors as parsing
from gunicorn.workers import gthread

from wsgi_store.body import Body, ChunkedReader, LengthReader

# A client has this long, in seconds, to send the head of a request, and before it to agree on TLS.
HEAD_TIMEOUT = 10.0
# Larger heads are left to gunicorn's parser, which knows its limits and answers 431.
HEAD_LIMIT = 64 << 10
# What comes after an early answer is read and thrown away, so that the client can finish
# sending and see it: for so many seconds in all, and of silence.
LINGER_TIME = 10.0
LINGER_SILENCE = 2.0
# Unread bodies up to here are drained by gunicorn, and the connection goes on.
DRAINED = 64 << 10
# The kernel takes no more than so many bytes ahead of what it sends, and more once half of them are
# sent (tcp(7)). Else it would be a third of all that it can hold, for which a slow reader takes minutes.
UNSENT = 128 << 10
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Socket(socket.socket):
    """A socket that blocks for so long at most, however gunicorn asks."""

    def setblocking(self, flag: bool) -> None:
        """Wait for a while, or not at all."""
        self.settimeout(HEAD_TIMEOUT if flag else 0)

    def settimeout(self, value: float | None) -> None:
        """Wait for so many seconds; that it is so already need not be told the kernel."""
        if value != self.gettimeout():
            super().settimeout(value)


class Settings:
    """gunicorn's settings, each looked up once: it does so by a table of objects, 22 times a request."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._settings, name)
        setattr(self, name, value)
        return value


# gunicorn reads the address anew for each request, which takes as long as reading its head.
@lru_cache(1024)
def _is_trusted(settings: Settings, address: str) -> bool:
    allowed, networks = settings.forwarded_allow_ips, settings.forwarded_allow_networks()
    # pylint: disable-next=protected-access
    return bool(message._ip_in_allow_list(address, allowed, networks))


class Connection(gthread.TConn):  # type: ignore[misc]  # gunicorn has no type hints
    """A connection whose reads and writes end at some time."""

    sock: socket.socket
    in_lane = False  # whether the lane has seen it
    _seen = 0  # bytes of the head that had come when it was last looked at

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, _Socket(sock.family, sock.type, sock.proto, sock.detach()), client, server)
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)

    def init(self) -> None:
        """Prepare for the next request; the application sets its own timeout later."""
        try:
            super().init()
        except TimeoutError:
            raise parsing.NoMoreData() from None
        self.sock.settimeout(HEAD_TIMEOUT)
        if getattr(self.parser, "mesg_class", None) is message.Request:
            self.parser.mesg_class = Request

    def read_ahead(self) -> bytes:
        """What came with the request before, and belongs to the next one."""
        return bytes(self.parser.unreader.buf.getvalue()) if self.parser else b""

    def has_decrypted(self) -> bool:
        """Whether TLS holds more that came with the request before, of which no poller knows."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def suits_lane(self) -> bool:
        """Whether its next request can be told from its first bytes: not with TLS, HTTP/2, uwsgi."""
        return not self.cfg.is_ssl and self.cfg.protocol == "http" and not self.is_http2

    def has_read(self) -> bool:
        """Whether the last request was one for the lane."""
        return self.parser.mesg.method in ("GET", "HEAD")

    def next_comes(self, seconds: float = HEAD_TIMEOUT) -> bool:
        """Wait for the next request; whether its head, or the end, has then come."""
        head = self.read_ahead()
        if self.cfg.protocol != "http" or _has_end(head):
            return bool(head)
        self.sock.settimeout(seconds)
        try:
            coming = self.sock.recv(self.parser.unreader.mxchunk)
        except TimeoutError:
            return False
        except OSError:
            return True  # who reads will meet the same error, and end the connection
        self.parser.unreader.buf.seek(0, os.SEEK_END)
        self.parser.unreader.buf.write(coming)
        return not coming or _has_end(head + coming)

    def await_head(self) -> None:
        """Get ready to look for the head of the next request."""
        self._seen = 0
        self.sock.setblocking(False)
        self.timeout = time.monotonic() + HEAD_TIMEOUT

    def head_is_whole(self) -> bool:
        """Look without reading; when it is False the socket is readable again once more has come."""
        if self.initialized and self.cfg.is_ssl:
            return True
        head = self.read_ahead()
        try:
            coming = self.sock.recv(HEAD_LIMIT, socket.MSG_PEEK)
        except BlockingIOError:
            return _has_end(head)
        except OSError:
            return True  # who reads will meet the same error, and end the connection
        head += coming
        # No progress although there was something to see: the client has stopped sending.
        ended = len(coming) == self._seen
        if ended or len(head) >= HEAD_LIMIT or _has_end(head) or not self._is_legible():
            if self._seen:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return True
        self._seen = len(coming)
        # Without this a poller would report the part that is there again and again.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._seen + 1)
        return False

    def _is_legible(self) -> bool:
        """Whether a head can be told from its part: TLS and uwsgi's own protocol look otherwise.

        poll(2) ignores SO_RCVLOWAT on a Unix socket; behind it is a proxy, which sends heads whole.
        """
        return not self.cfg.is_ssl and self.cfg.protocol == "http" and self.sock.family != socket.AF_UNIX

    def linger(self) -> None:
        """Close so that the client sees the answer (RFC 9112 section 9.6)."""
        deadline = time.monotonic() + LINGER_TIME
        with suppress(OSError):  # the client is gone, or silent for long enough
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.settimeout(LINGER_SILENCE)
            while time.monotonic() < deadline and self.sock.recv(HEAD_LIMIT):
                pass
        self.sock.close()


class HostMissing(parsing.ParseException):  # type: ignore[misc]
    """HTTP/1.1 has every request say which host it is meant for (RFC 9112 section 3.2)."""


class Request(message.Request):  # type: ignore[misc]
    """A request whose head comes in time, and that knows when its connection cannot be used again."""

    version: tuple[int, int]
    headers: list[tuple[str, str]]
    body: Any
    unreader: Any

    def __init__(self, cfg: Any, unreader: Any, *args: Any) -> None:
        self._deadline = time.monotonic() + HEAD_TIMEOUT
        super().__init__(cfg, unreader, *args)
        # Who speaks a later HTTP/1 is answered in the last one known here (RFC 9110 section 2.5).
        self.version = min(self.version, (1, 1))
        if self.version == (1, 1) and "HOST" not in [name for name, _ in self.headers]:
            raise HostMissing()
        # gunicorn knows the option only where it is alone; it is one of a list (RFC 9110 section 7.6.1).
        options = ",".join([value for name, value in self.headers if name == "CONNECTION"]).lower()
        # Looked for twice, for splitting them takes longer.
        if "close" in options and "close" in [option.strip(" \t") for option in options.split(",")]:
            self.must_close = True
        unreader.sock.settimeout(HEAD_TIMEOUT)

    def set_body_reader(self) -> None:
        """Find how the body is framed."""
        super().set_body_reader()
        reader = self.body.reader
        if isinstance(reader, body.ChunkedReader):
            reader = ChunkedReader(self, self.unreader)
        elif isinstance(reader, body.LengthReader):
            reader = LengthReader(self.unreader, reader.length)
        self.body = Body(reader)

    def read_into(self, unreader: Any, buf: Any, stop: bool = False) -> None:
        """Read more of the head."""
        if not unreader.buf.getbuffer().nbytes:  # else nothing is received
            unreader.sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            super().read_into(unreader, buf, stop)
        except (TimeoutError, parsing.NoMoreData):
            # Without what has come, which gunicorn would log: a token may be in it.
            raise parsing.NoMoreData() from None

    def _peer_is_trusted_proxy(self) -> bool:
        """Whether the peer may say for whom it asks."""
        return not isinstance(self.peer_addr, tuple) or _is_trusted(self.cfg, self.peer_addr[0])

    def is_read(self) -> bool:
        """Whether nothing is left of the body."""
        return (
            getattr(self.body.reader, "length", 1) == 0 and not self.body.buf.tell() and not self.body.failed
        )

    def should_close(self) -> bool:
        """Also when the body broke off, or more of it is unread than is worth reading."""
        reader = self.body.reader
        # How much is unread of a chunked body, or whether it is well-formed, nobody knows.
        unread = getattr(reader, "length", 0) > DRAINED or getattr(reader, "parser", None)
        return bool(super().should_close() or self.body.failed or unread)


class Continue:
    """A body that is asked for, by 100 Continue, when the application first reads it.

    gunicorn asks before it calls the application, which may be about to refuse the body
    (RFC 9110 section 10.1.1). Unasked for, it may or may not come: the connection must end.
    """

    def __init__(self, request: Any, sock: socket.socket) -> None:
        self._request = request
        self._reader = request.body.reader
        self._must_close = request.must_close
        self._sock = sock
        request.must_close = True

    def read(self, size: int) -> bytes:
        """Ask for the body and read from it; called once."""
        self._request.body.reader = self._reader
        self._request.must_close = self._must_close
        self._sock.sendall(CONTINUE)
        data: bytes = self._reader.read(size)
        return data


def _has_end(head: bytes) -> bool:
    return b"\n\r\n" in head or b"\n\n" in head
