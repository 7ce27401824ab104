"""Kept connections whose next requests one thread serves, one after the other."""

import math
import select
import time
from collections.abc import Iterator

from wsgi_store.gunicorn.connection import Connection


class Lane:
    """Connections that wait for their next request; whoever is given one owns it.

    Used by any number of threads; `expired` and the first `keep` of a connection belong to one.
    """

    def __init__(self) -> None:
        self.deadline = math.inf
        """When a connection has waited long enough at the latest (monotonic time)."""
        self._events = select.epoll()
        # By descriptor, those that have waited longest first.
        self._waiting: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def fileno(self) -> int:
        """A descriptor that is readable when `next` need not wait (epoll(7))."""
        return self._events.fileno()

    def keep(self, conn: Connection) -> None:
        """Wait for the next request on a connection."""
        conn.set_timeout()
        conn.timeout = min(conn.timeout, self.deadline)
        fd = conn.sock.fileno()
        self._waiting[fd] = conn
        # Told of once, so that no two threads meet over one connection.
        once = select.EPOLLIN | select.EPOLLONESHOT
        if conn.in_lane:
            self._events.modify(fd, once)
        else:
            conn.in_lane = True
            self._events.register(fd, once)

    def next(self, seconds: float) -> Connection | None:
        """The connection that something has come on; None when nothing comes in so many seconds."""
        for fd, _ in self._events.poll(seconds, 1):
            # None, too, where it was closed for its age just now.
            return self._waiting.pop(fd, None)
        return None

    def expired(self) -> Iterator[Connection]:
        """Yield the connections that have waited too long."""
        now = time.monotonic()
        while self._waiting:
            try:
                fd, conn = next(iter(self._waiting.items()))
            except (RuntimeError, StopIteration):
                return  # another thread was given one just now: the next look will do
            if min(conn.timeout, self.deadline) > now:
                return
            # Unless its next request has come meanwhile.
            if self._waiting.pop(fd, None) is conn:
                yield conn

    def close(self) -> None:
        """Release what it holds; the connections are others' to close."""
        self._events.close()
