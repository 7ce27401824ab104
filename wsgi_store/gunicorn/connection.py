"""What gunicorn knows of a connection and its requests, bounded in time."""

import errno
import os
import socket
import ssl
import struct
import time
from contextlib import suppress
from typing import Any

from gunicorn.http import errors as parsing
from gunicorn.http import message
from gunicorn.workers import gthread

from wsgi_store.gunicorn.request import FOREIGN, HEAD_TIMEOUT, Request
from wsgi_store.gunicorn.transfer_slots import BODY, Transfer
from wsgi_store.gunicorn.upload_queue import UNKNOWN, Body, announced

# Larger heads are left to gunicorn's parser, which knows its limits and answers 431.
HEAD_LIMIT = 64 << 10
# A client that has seen the answer mostly ends the connection within so many seconds.
MOMENT = 0.01
# The kernel takes no more than so many bytes ahead of what it sends, and more once half of them are
# sent (tcp(7)). Else it would be a third of all that it can hold, for which a slow reader takes minutes.
UNSENT = 128 << 10


class _Socket(socket.socket):
    """A socket that blocks for so long at most, however gunicorn asks."""

    def setblocking(self, flag: bool) -> None:
        """Wait for a while, or not at all."""
        self.settimeout(HEAD_TIMEOUT if flag else 0)

    def settimeout(self, value: float | None) -> None:
        """Wait for so many seconds; that it is so already need not be told the kernel."""
        if value != self.gettimeout():
            super().settimeout(value)


class Connection(gthread.TConn):  # type: ignore[misc]  # gunicorn has no type hints
    """A connection whose reads and writes end at some time."""

    sock: socket.socket
    in_lane = False  # whether the lane has seen it
    transfer: Transfer | None = None  # the last one
    body: Body | None = None  # that its request announces, as far as its head was looked at
    _seen = 0  # bytes of the head that had come when it was last looked at

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, _Socket(sock.family, sock.type, sock.proto, sock.detach()), client, server)
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)

    def init(self) -> None:
        """Prepare for the next request; the application sets its own timeout later."""
        if self.transfer is not None:
            self.transfer.awaits_head = True
        try:
            super().init()
        except TimeoutError:
            raise parsing.NoMoreData() from None
        if self.is_http2 and self.transfer is not None:
            self.transfer.awaits_head = False  # nobody knows whether this client is waited for
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
            self.body = announced(head, 0) if self.suits_lane() else UNKNOWN
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
        head += coming
        self.body = announced(head, 0) if self.suits_lane() else UNKNOWN
        return not coming or _has_end(head)

    def await_head(self) -> None:
        """Get ready to look for the head of the next request."""
        self._seen = 0
        self.sock.setblocking(False)
        self.timeout = time.monotonic() + HEAD_TIMEOUT

    def head_is_whole(self) -> bool:
        """Look without reading; when it is False the socket is readable again once more has come."""
        self.body = UNKNOWN
        if self.initialized and self.cfg.is_ssl:
            return True
        head = self.read_ahead()
        try:
            coming = self.sock.recv(HEAD_LIMIT, socket.MSG_PEEK)
        except BlockingIOError:
            if not _has_end(head):
                return False
            coming = b""
        except OSError:
            self.body = None
            return True  # who reads will meet the same error, and end the connection
        head += coming
        legible = not self.cfg.is_ssl and self.cfg.protocol == "http"
        if legible and _has_end(head):
            self.body = announced(head, len(coming))
        # No progress although there was something to see: the client has stopped sending.
        ended = len(coming) == self._seen
        if ended and not _has_end(head):
            self.body = None
        if ended or len(head) >= HEAD_LIMIT or _has_end(head) or not self._is_legible():
            if self._seen:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return True
        self._seen = len(coming)
        # Without this a poller would report the part that is there again and again.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._seen + 1)
        return False

    def has_begun(self) -> bool:
        """Whether part of a head has come, and can be answered."""
        return self._is_legible() and bool(self._seen or self.read_ahead())

    def _is_legible(self) -> bool:
        """Whether a head can be told from its part: TLS and uwsgi's own protocol look otherwise.

        poll(2) ignores SO_RCVLOWAT on a Unix socket; behind it is a proxy, which sends heads whole.
        """
        return not self.cfg.is_ssl and self.cfg.protocol == "http" and self.sock.family != socket.AF_UNIX

    def method(self) -> str | None:
        """HEAD where the part of a head that has come says so."""
        begin = self.read_ahead()[:64]
        with suppress(OSError):
            begin += self.sock.recv(64, socket.MSG_PEEK)
        return "HEAD" if begin.lstrip(b"\r\n").startswith(b"HEAD ") else None

    def reset(self) -> None:
        """End it at once, in the middle of an answer; raises ConnectionResetError."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise ConnectionResetError(errno.ECONNRESET, "no thread may wait for this client")

    def is_deaf(self) -> bool:
        """Whether its upload was ended, so that the socket says that nothing comes, though more may."""
        return self.transfer is not None and self.transfer.ended == BODY

    def shut(self) -> None:
        """Send nothing more."""
        with suppress(OSError):  # the client is gone
            self.sock.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """Begin to close so that the client sees the answer (RFC 9112 section 9.6).

        It is closed, or no more than a moment has passed and its client has not ended it.
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
            if self.is_deaf():
                return
            self.sock.settimeout(0 if self.transfer and self.transfer.ended else MOMENT)
            deadline = time.monotonic() + MOMENT
            while self.sock.recv(HEAD_LIMIT):
                if time.monotonic() >= deadline:
                    return
        except TimeoutError:
            return
        except OSError:
            pass  # the client is gone, or has to be
        self.sock.close()


def _has_end(head: bytes) -> bool:
    """Whether no more need come: the head is whole, or what came cannot become one."""
    return b"\n\r\n" in head or b"\n\n" in head or FOREIGN.match(head) is not None
