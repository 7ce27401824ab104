"""Uploads that wait for a place, without a thread; those come first whose bytes come fastest."""

import re
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from wsgi_store.gunicorn.transfer_slots import unread

# How often it is looked at how much has come, in seconds.
TICK = 0.1
# One that has waited for less, in seconds, does not yet count as one that waits.
NEW = 1.0
# How fast one comes that has come.
WHOLE = float("inf")
# A body as a head announces it. Whatever else the parser takes for one gets a place later, or none.
_BODY = re.compile(
    rb"\n(?:content-length:[ \t]*([0-9]{1,18})\s|(?:content-length|transfer-encoding):)", re.IGNORECASE
)
# The client has sent its last byte, or the connection is lost: poll(2).
_END_COMES = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_CONTINUE = re.compile(rb"\nexpect:", re.IGNORECASE)
_END = re.compile(rb"\n\r?\n")


class Body(NamedTuple):
    """What a head says of the body behind it."""

    length: int | None
    """None where only the body itself will tell."""
    begun: int
    """How many bytes of it had come with what was read of the connection."""
    asked_for: bool
    """Whether it only comes when it is asked for, or nothing at all is known of the request."""

    def has_come(self, more: int) -> bool:
        """Whether no thread would wait for it, `more` bytes having come since it was read from."""
        return self.length is not None and self.begun + more >= self.length

    def arrived(self) -> "Body":
        """The same, once it or the end of the connection has come."""
        return Body(self.length or 0, self.length or 0, self.asked_for)


UNKNOWN = Body(None, 0, True)


def announced(head: bytes, unread_part: int) -> Body | None:
    """The body that a head announces, whose last bytes are still in the socket."""
    end = _END.search(head)
    stop = end.end() if end else len(head)
    match = _BODY.search(head, 0, stop)
    if match is None or (match[1] and not int(match[1])):
        return None
    expects = _CONTINUE.search(head, 0, stop) is not None
    return Body(int(match[1]) if match[1] else None, len(head) - stop - unread_part, expects)


class Line:
    """Connections whose request waits; used by the loop alone."""

    def __init__(self, min_rate: int, patience: float) -> None:
        self._min_rate = min_rate
        self._patience = patience
        self._since: dict[Any, float] = {}
        # The best one last; those that came since are better, as far as anybody knows.
        self._ranked: list[Any] = []
        self._looked = 0.0
        self._ends = select.epoll()
        self._conns: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, conn: Any) -> None:
        """Wait at the end."""
        self._since[conn] = time.monotonic()
        self._ranked.append(conn)
        self._conns[conn.sock.fileno()] = conn
        self._ends.register(conn.sock, _END_COMES)

    def next(self) -> Any:
        """The connection whose turn it is, None when nobody waits."""
        while self._ranked and self._ranked[-1] not in self._since:
            self._ranked.pop()
        return self._ranked[-1] if self._ranked else None

    def remove(self, conn: Any) -> None:
        """It waits no more."""
        del self._since[conn]
        self._ends.unregister(conn.sock)
        del self._conns[conn.sock.fileno()]
        if not self._since:
            self._ranked.clear()

    def is_new(self, conn: Any, now: float) -> bool:
        """Whether it has not waited for long."""
        return now - self._since[conn] < NEW

    def comes(self, conn: Any, now: float) -> bool:
        """Whether its bytes come fast enough."""
        return self._rate(conn, now) >= self._min_rate

    def rank(self) -> None:
        """Put those first whose bytes have come fastest."""
        now = time.monotonic()
        if now - self._looked >= TICK:
            self._looked = now
            self._ranked = sorted(self._since, key=lambda conn: self._rate(conn, now))

    def pop_whole(self) -> Iterator[Any]:
        """Yield those for which no thread would wait any more, and which wait here no more."""
        for fd, _ in self._ends.poll(0):
            yield self._arrived(self._conns[fd])
        while (conn := self.next()) is not None and self._rate(conn, self._looked) == WHOLE:
            yield self._arrived(conn)

    def _arrived(self, conn: Any) -> Any:
        self.remove(conn)
        conn.body = conn.body.arrived()
        return conn

    def _rate(self, conn: Any, now: float) -> float:
        come = 0
        with suppress(OSError, ValueError):
            come = conn.body.begun + unread(conn.sock)
        if conn.body.has_come(come - conn.body.begun):
            return WHOLE
        if conn.body.asked_for and come <= 0:
            # Behind those that come, before those known to be slow: it is not for the client to begin.
            return self._min_rate / 2
        return come / max(now - self._since.get(conn, now), 1)

    def expired(self) -> Iterator[Any]:
        """Yield the connections that have waited for too long, and do not wait any more."""
        now = time.monotonic()
        for conn, since in list(self._since.items()):
            if since + self._patience > now:
                return
            self.remove(conn)
            yield conn
