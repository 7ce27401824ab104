"""Responses as gunicorn sends them, in fewer system calls and never waiting for a client without a slot."""

import errno
import os
import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from gunicorn.http import wsgi
from gunicorn.util import has_fileno, http_date

from wsgi_store import errors
from wsgi_store.gunicorn.body import Body
from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.header_fields import checked_field
from wsgi_store.gunicorn.transfer_slots import DOWNLOADS, TransferSlots

# A body of up to this many bytes is sent with the head: one packet wakes the client once.
JOINED = 64 << 10
# The errors by which a socket tells that the client is gone.
GONE = {None, errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN}
# The most bytes of one call of sendfile(2).
PIECE = 1 << 30

_date = lru_cache(1)(http_date)


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's response, whose head is sent together with the beginning of the body."""

    upgrade: bool
    headers_sent: bool
    status: str | None
    headers: list[tuple[str, str]]
    response_length: int | None
    chunked: bool
    sent: int

    def __init__(self, req: Any, sock: Any, cfg: Any, conn: Connection, slots: TransferSlots) -> None:
        super().__init__(req, sock, cfg)
        self._conn = conn
        self._slots = slots
        self._head = b""  # built and not yet sent
        self.moved = 0  # how many bytes the socket has taken

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Set the head of a response; raises Busy if it is long and no slot is left, and accepts another."""
        write = super().start_response(status, headers, exc_info)
        length = self.response_length
        is_long = not self._omits_body and (length is None or length > JOINED)
        if is_long and not self._claim(DOWNLOADS):
            self.status, self.headers, self.response_length, self.chunked = None, [], None, False
            raise errors.Busy("too many transfers are under way")
        return write

    def process_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Check and keep the header fields of the application."""
        for name, value in headers:
            field = checked_field(name, value)
            self.headers += field.kept
            self.upgrade = self.upgrade or field.upgrade
            if field.length is not None:
                self.response_length = field.length

    def default_headers(self) -> list[str]:
        """Return the status line and the fields of the server."""
        connection = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        major, minor = self.req.version
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\n"
            f"Date: {_date(int(time.time()))}\r\nConnection: {connection}\r\n"
        ]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        return lines

    def send_headers(self) -> None:
        """Build the head; it is sent with what follows."""
        if not self.headers_sent:
            lines = self.default_headers()
            lines += [checked_field(name, value).text for name, value in self.headers]
            self._head = f"{''.join(lines)}\r\n".encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%X\r\n%s\r\n" % (len(data), data)
        if self._head and len(data) <= JOINED:
            data, self._head = self._head + data, b""
        self._send_head()
        self._send(data)

    def _claim(self, share: float = 1) -> bool:
        """Whether the connection has a slot, so that this thread may wait for the client."""
        given = self._slots.claim(self._conn, share)
        if given:
            self.follow()
        return given

    def follow(self) -> None:
        """Have the transfer measure the body and this response."""
        if (transfer := self._conn.transfer) is not None:
            # The bodies of other protocols than HTTP do not tell their progress.
            body = self.req.body if isinstance(self.req.body, Body) else None
            if body is not None:
                body.transfer = transfer
            transfer.follow(body, self)

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        transfer = self._conn.transfer
        if not self.cfg.is_ssl:
            # Most data fits into the send buffer. Asking first would take another system call.
            with suppress(BlockingIOError):
                count = os.write(self.sock.fileno(), rest)
                self.moved += count
                rest = rest[count:]
            if rest and (transfer.ended if transfer is not None else not self._claim()):
                self._conn.reset()
        # The timeout applies to each call, and a slow reader must not be cut off during a long one.
        while rest:
            count = self.sock.send(rest[:JOINED])
            self.moved += count
            rest = rest[count:]

    def sendfile(self, respiter: Any) -> bool:
        """Send a file by sendfile(2) if possible; whether it was."""
        file = respiter.filelike
        if self.cfg.is_ssl or self.chunked or not self.can_sendfile() or not has_fileno(file):
            return False
        if self._conn.transfer is None and not self._omits_body:
            return False  # a small file without a slot, for which this thread must not wait
        fd = file.fileno()
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        left = os.fstat(fd).st_size - offset if self.response_length is None else self.response_length
        self.send_headers()
        # If nothing followed, MSG_MORE would hold the head back for 200 ms (tcp(7), TCP_CORK).
        if self._omits_body or not left:
            return True
        self._send_head(socket.MSG_MORE)
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        timeout = self.sock.gettimeout()
        while left:
            try:
                count = os.sendfile(self.sock.fileno(), fd, offset, min(left, PIECE))
            except BlockingIOError:
                if not poll.poll(None if timeout is None else timeout * 1000):
                    raise TimeoutError("the client reads nothing") from None
                continue
            except OSError as error:
                if self.sent or error.errno in GONE:
                    raise
                return False  # no sendfile(2) on this file system, or a disk error that a read meets again
            if not count:
                break  # the file was truncated meanwhile
            offset += count
            left -= count
            self.sent += count
            self.moved += count
        os.lseek(fd, offset, os.SEEK_SET)
        return True

    def send(self, body: Any, wrapper: type) -> None:
        """Send all that the application returned."""
        if isinstance(body, wrapper):
            self.write_file(body)
        else:
            for block in body:
                self.write(block)
        self.close()

    def close(self) -> None:
        """End the response."""
        self.send_headers()
        self._send_head()
        super().close()

    def _send_head(self, flags: int = 0) -> None:
        if self._head:
            head, self._head = self._head, b""
            if flags:
                self.sock.sendall(head, flags)
            else:
                self._send(head)
