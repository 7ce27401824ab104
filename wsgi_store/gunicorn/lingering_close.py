"""Connections on their way out, from which what still comes is read and thrown away."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, BaseSelector

from wsgi_store.gunicorn.connection import Connection

# What comes after an early answer is read and thrown away, so that the client can finish
# sending and see it: for so many seconds in all, and of silence.
LINGER_TIME = 10.0
LINGER_SILENCE = 2.0
# How often what a client goes on sending is thrown away before its end, which it must not put off.
DEAF = 16
# TCP throws so many bytes at once away without copying them (tcp(7), MSG_TRUNC).
_SCRATCH = bytearray(1 << 20)


class Leaving:
    """Connections that only wait for their end; used by the loop alone, and takes no thread."""

    def __init__(self, poller: BaseSelector, forget: Callable[[], object]) -> None:
        self._poller = poller
        self._forget = forget
        # When each has been silent for long enough, in this order, and when it has had time enough.
        self._until: dict[Connection, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, conn: Connection) -> None:
        """Close a connection to which nothing more is sent, once its client has, or takes too long."""
        now = time.monotonic()
        self._until[conn] = now + LINGER_SILENCE, now + LINGER_TIME
        conn.sock.settimeout(0)
        if conn.is_deaf():
            return
        self._poller.register(conn.sock, EVENT_READ, partial(self._discard, conn))

    def _discard(self, conn: Connection, sock: socket.socket) -> None:
        count = 0
        with suppress(OSError):  # the client is gone
            count = sock.recv_into(_SCRATCH, 0, socket.MSG_TRUNC)
        if not count:
            self._close(conn)
            return
        _, end = self._until.pop(conn)
        self._until[conn] = min(time.monotonic() + LINGER_SILENCE, end), end

    def expire(self) -> None:
        """Close the connections whose time is over."""
        now = time.monotonic()
        while self._until:
            conn, (silence, _) = next(iter(self._until.items()))
            if silence > now:
                return
            self._close(conn)

    def _close(self, conn: Connection) -> None:
        del self._until[conn]
        if conn.is_deaf():
            with suppress(OSError):  # what is unread would be a reason for a reset, instead of an end
                for _ in range(DEAF):
                    if not conn.sock.recv_into(_SCRATCH, 0, socket.MSG_TRUNC):
                        break
        else:
            self._poller.unregister(conn.sock)
        conn.sock.close()
        self._forget()
