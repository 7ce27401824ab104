"""Uploads that wait for a transfer slot, without a thread; the fastest come first."""

import select
import time
from collections.abc import Iterator
from contextlib import suppress

from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.transfer import unread

# Seconds between two looks at how much has arrived.
TICK = 0.1
# For this many seconds in the queue a connection counts as new.
NEW = 1.0
# The rate of a body that has arrived completely.
ARRIVED = float("inf")
# The client has sent its last byte, or the connection is lost (poll(2)).
_END_ARRIVES = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class UploadQueue:
    """Connections whose request waits for a slot; used by the event loop alone."""

    def __init__(self, min_rate: int, patience: float) -> None:
        """`min_rate` is in bytes per second; after `patience` seconds a connection expires."""
        self._min_rate = min_rate
        self._patience = patience
        self._since: dict[Connection, float] = {}
        # The fastest last. Connections added since count as faster until they are measured.
        self._ranked: list[Connection] = []
        self._looked = 0.0
        self._ends = select.epoll()
        self._conns: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, conn: Connection) -> None:
        """Add a connection whose `body` is known."""
        self._since[conn] = time.monotonic()
        self._ranked.append(conn)
        self._conns[conn.sock.fileno()] = conn
        self._ends.register(conn.sock, _END_ARRIVES)

    def first(self) -> Connection | None:
        """Return the connection whose turn it is; None if the queue is empty."""
        while self._ranked and self._ranked[-1] not in self._since:
            self._ranked.pop()
        return self._ranked[-1] if self._ranked else None

    def remove(self, conn: Connection) -> None:
        """Take a connection out of the queue."""
        del self._since[conn]
        self._ends.unregister(conn.sock)
        del self._conns[conn.sock.fileno()]
        if not self._since:
            self._ranked.clear()

    def is_new(self, conn: Connection, now: float) -> bool:
        """Whether the connection joined the queue just now."""
        return now - self._since[conn] < NEW

    def is_fast(self, conn: Connection, now: float) -> bool:
        """Whether its body arrives at `min_rate` or faster."""
        return self._rate(conn, now) >= self._min_rate

    def rank(self) -> None:
        """Sort the queue by the rates at which bodies arrive."""
        now = time.monotonic()
        if now - self._looked >= TICK:
            self._looked = now
            self._ranked = sorted(self._since, key=lambda conn: self._rate(conn, now))

    def pop_arrived(self) -> Iterator[Connection]:
        """Remove and yield the connections whose body, or end, has arrived: no thread waits for them."""
        for fd, _ in self._ends.poll(0):
            yield self._pop(self._conns[fd])
        while (conn := self.first()) is not None and self._rate(conn, self._looked) == ARRIVED:
            yield self._pop(conn)

    def _pop(self, conn: Connection) -> Connection:
        self.remove(conn)
        if conn.body is not None:
            conn.body = conn.body.as_arrived()
        return conn

    def _rate(self, conn: Connection, now: float) -> float:
        body = conn.body
        if body is None:
            return ARRIVED
        arrived = 0
        with suppress(OSError, ValueError):
            arrived = body.begun + unread(conn.sock)
        if body.has_arrived(arrived - body.begun):
            return ARRIVED
        if body.needs_continue and arrived <= 0:
            # Behind the bodies that arrive, before those known to be slow: the client may wait for us.
            return self._min_rate / 2
        return arrived / max(now - self._since.get(conn, now), 1)

    def pop_expired(self) -> Iterator[Connection]:
        """Remove and yield the connections that have waited too long."""
        now = time.monotonic()
        for conn, since in list(self._since.items()):
            if since + self._patience > now:
                return
            self.remove(conn)
            yield conn
