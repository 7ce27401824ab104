"""A client's connection, whose every wait has a time limit."""

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

from wsgi_store.gunicorn.head import UNKNOWN, AnnouncedBody, announced_body, is_complete
from wsgi_store.gunicorn.request import HEAD_TIMEOUT, Request
from wsgi_store.gunicorn.settings import Settings
from wsgi_store.gunicorn.transfer import BODY, Transfer

# gunicorn's parser gets longer heads as they are: it knows its limits and answers 431.
HEAD_LIMIT = 64 << 10
# Most clients close the connection within this many seconds after the last answer.
MOMENT = 0.01
# The kernel takes this many bytes beyond those it has sent, and more once half of them are sent (tcp(7)).
# By default a thread could refill the send buffer only when a third of it is free, and a slow reader takes
# minutes for that.
UNSENT = 128 << 10


class _Socket(socket.socket):
    """A socket on which gunicorn never waits without a timeout."""

    def setblocking(self, flag: bool) -> None:
        """Set the timeout to that of a head, or to 0."""
        self.settimeout(HEAD_TIMEOUT if flag else 0)

    def settimeout(self, value: float | None) -> None:
        """Set the timeout in seconds; a system call is made only for a change."""
        if value != self.gettimeout():
            super().settimeout(value)


class Connection(gthread.TConn):  # type: ignore[misc]  # gunicorn has no type hints
    """A client's connection: looks for request heads without a thread, and closes in stages."""

    cfg: Settings
    sock: socket.socket
    in_lane = False
    """Whether the lane has registered it before."""
    transfer: Transfer | None = None
    """That of the last request."""
    body: AnnouncedBody | None = None
    """That of the next request, as far as its head has been seen."""
    _seen = 0
    """How many bytes of the head were in the socket when it was last looked at."""

    def __init__(self, cfg: Settings, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, _Socket(sock.family, sock.type, sock.proto, sock.detach()), client, server)
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)

    def init(self) -> None:
        """Prepare for the next request, with the timeout of a head; the application sets its own later."""
        if self.transfer is not None:
            self.transfer.awaits_head = True
        try:
            super().init()
        except TimeoutError:
            raise parsing.NoMoreData() from None
        if self.is_http2 and self.transfer is not None:
            self.transfer.awaits_head = False  # the thread may wait for the client or work for another stream
        self.sock.settimeout(HEAD_TIMEOUT)
        if getattr(self.parser, "mesg_class", None) is message.Request:
            self.parser.mesg_class = Request

    def read_ahead(self) -> bytes:
        """Return what was received behind the last request and belongs to the next one."""
        return bytes(self.parser.unreader.buf.getvalue()) if self.parser else b""

    def has_decrypted(self) -> bool:
        """Whether TLS holds decrypted bytes of the next request, which make no poller report the socket."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def suits_lane(self) -> bool:
        """Whether the first bytes of a request tell its method: not with TLS, HTTP/2 or uwsgi."""
        return self.cfg.is_plain_http and not self.is_http2

    def has_read(self) -> bool:
        """Whether the last request was a GET or a HEAD."""
        return self.parser.mesg.method in ("GET", "HEAD")

    def receive_head(self, seconds: float = HEAD_TIMEOUT) -> bool:
        """Receive some of the next head; whether the head is complete, or the connection at its end."""
        head = self.read_ahead()
        if self.cfg.protocol != "http" or is_complete(head):
            self.body = announced_body(head, 0) if self.suits_lane() else UNKNOWN
            return bool(head)
        self.sock.settimeout(seconds)
        try:
            received = self.sock.recv(self.parser.unreader.mxchunk)
        except TimeoutError:
            return False
        except OSError:
            return True  # the parser meets the same error, and ends the connection
        self.parser.unreader.buf.seek(0, os.SEEK_END)
        self.parser.unreader.buf.write(received)
        head += received
        self.body = announced_body(head, 0) if self.suits_lane() else UNKNOWN
        return not received or is_complete(head)

    def await_head(self) -> None:
        """Start the time limit of the next head."""
        self._seen = 0
        self.sock.setblocking(False)
        self.timeout = time.monotonic() + HEAD_TIMEOUT

    def head_has_arrived(self) -> bool:
        """Peek at the head; after False the socket becomes readable again when more has arrived."""
        self.body = UNKNOWN
        if self.initialized and self.cfg.is_ssl:
            return True
        head = self.read_ahead()
        try:
            arrived = self.sock.recv(HEAD_LIMIT, socket.MSG_PEEK)
        except BlockingIOError:
            if not is_complete(head):
                return False
            arrived = b""
        except OSError:
            self.body = None
            return True  # the parser meets the same error, and ends the connection
        head += arrived
        if self.cfg.is_plain_http and is_complete(head):
            self.body = announced_body(head, len(arrived))
        # The socket is readable but holds nothing new: the client has stopped sending.
        ended = len(arrived) == self._seen
        if ended and not is_complete(head):
            self.body = None
        if ended or len(head) >= HEAD_LIMIT or is_complete(head) or not self._can_peek():
            if self._seen:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return True
        self._seen = len(arrived)
        # Otherwise the poller would report the same bytes again and again.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._seen + 1)
        return False

    def has_begun(self) -> bool:
        """Whether part of a head has arrived, so that an HTTP answer makes sense."""
        return self._can_peek() and bool(self._seen or self.read_ahead())

    def _can_peek(self) -> bool:
        """Whether the poller can wait for the rest of a head.

        poll(2) ignores SO_RCVLOWAT on a Unix socket; a proxy is behind it, which sends complete heads.
        """
        return self.cfg.is_plain_http and self.sock.family != socket.AF_UNIX

    def method(self) -> str | None:
        """Return HEAD if the part of the head that has arrived begins with it."""
        begin = self.read_ahead()[:64]
        with suppress(OSError):
            begin += self.sock.recv(64, socket.MSG_PEEK)
        return "HEAD" if begin.lstrip(b"\r\n").startswith(b"HEAD ") else None

    def reset(self) -> None:
        """End the connection in the middle of an answer; raises ConnectionResetError."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise ConnectionResetError(errno.ECONNRESET, "no thread may wait for this client")

    def is_shut_for_reading(self) -> bool:
        """Whether its upload was ended: the socket then reports the end although the client may send on."""
        return self.transfer is not None and self.transfer.ended == BODY

    def shut(self) -> None:
        """Send nothing more."""
        with suppress(OSError):  # the client is gone
            self.sock.shutdown(socket.SHUT_WR)

    def begin_close(self) -> None:
        """Close in a way that lets the client read the answer (RFC 9112 section 9.6).

        Sends the end, and closes the socket if the client closes its side within a moment. Otherwise the
        socket is left open for `LingeringClose`.
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
            if self.is_shut_for_reading():
                return
            self.sock.settimeout(0 if self.transfer and self.transfer.ended else MOMENT)
            deadline = time.monotonic() + MOMENT
            while self.sock.recv(HEAD_LIMIT):
                if time.monotonic() >= deadline:
                    return
        except TimeoutError:
            return
        except OSError:
            pass  # the client is gone, or broke the connection
        self.sock.close()
