"""Closing connections without a thread, so that clients can still read the answer."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, BaseSelector

from wsgi_store.gunicorn.connection import Connection

# A client that is still sending when its answer comes reads it only after it has sent everything. What it
# sends is discarded for this many seconds in all, and as long as it is not silent for so many.
LINGER_TIME = 10.0
LINGER_SILENCE = 2.0
# How many times the socket of an ended upload is emptied before it is closed. Its client may send for ever.
DISCARDS = 16
# With MSG_TRUNC the kernel discards this many bytes without copying them (tcp(7)).
_SCRATCH = bytearray(1 << 20)


class LingeringClose:
    """Connections that are closed once their clients have closed them, or after a time limit.

    Used by the event loop alone.
    """

    def __init__(self, poller: BaseSelector, closed: Callable[[], object]) -> None:
        """`closed` is called after each connection is closed."""
        self._poller = poller
        self._closed = closed
        # When the silence and the whole time of each end, sorted by the first.
        self._until: dict[Connection, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, conn: Connection) -> None:
        """Close a connection on which nothing more is sent."""
        now = time.monotonic()
        self._until[conn] = now + LINGER_SILENCE, now + LINGER_TIME
        conn.sock.settimeout(0)
        if not conn.is_shut_for_reading():
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
        if conn.is_shut_for_reading():
            with suppress(OSError):  # closing a socket with unread bytes would send a reset
                for _ in range(DISCARDS):
                    if not conn.sock.recv_into(_SCRATCH, 0, socket.MSG_TRUNC):
                        break
        else:
            self._poller.unregister(conn.sock)
        conn.sock.close()
        self._closed()
