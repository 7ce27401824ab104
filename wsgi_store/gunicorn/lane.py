"""The lane: kept connections whose GET and HEAD requests one thread serves in turn.

CPython runs one thread at a time and may switch threads at each system call. With a thread for each
connection a small GET costs several switches; in the lane it costs none.
"""

import math
import select
import time
from collections.abc import Callable, Iterator
from selectors import EVENT_READ, BaseSelector

from wsgi_store.gunicorn.connection import Connection

# The leader waits for this many seconds for another request before it gives its thread back.
NEXT = 0.01
# A leader that serves one request for longer is blocked by a disk or a client. The lane then goes on
# without it, and for a while each request gets a thread of its own. In seconds.
BLOCKED = 0.02
APART = 1.0


class KeptConnections:
    """Connections that wait for their next request; whoever is given one owns it.

    Any thread may use this; `expired` and the first `keep` of a connection belong to the event loop.
    """

    def __init__(self) -> None:
        self.deadline = math.inf
        """When the wait of every connection ends at the latest (monotonic time)."""
        self._events = select.epoll()
        # By descriptor; those that have waited longest come first.
        self._waiting: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `next` would not wait (epoll(7))."""
        return self._events.fileno()

    def keep(self, conn: Connection) -> None:
        """Wait for the next request on a connection."""
        conn.set_timeout()
        conn.timeout = min(conn.timeout, self.deadline)
        fd = conn.sock.fileno()
        self._waiting[fd] = conn
        # One event wakes one thread, so that no two get the same connection.
        once = select.EPOLLIN | select.EPOLLONESHOT
        if conn.in_lane:
            self._events.modify(fd, once)
        else:
            conn.in_lane = True
            self._events.register(fd, once)

    def next(self, seconds: float) -> Connection | None:
        """Return a connection on which something has arrived; None if nothing arrives in time."""
        for fd, _ in self._events.poll(seconds, 1):
            # None, too, if the connection has just expired.
            return self._waiting.pop(fd, None)
        return None

    def expired(self) -> Iterator[Connection]:
        """Remove and yield the connections that have waited too long."""
        now = time.monotonic()
        while self._waiting:
            try:
                fd, conn = next(iter(self._waiting.items()))
            except (RuntimeError, StopIteration):
                return  # another thread changed the table; the next call goes on
            if min(conn.timeout, self.deadline) > now:
                return
            # Unless another thread has got it meanwhile.
            if self._waiting.pop(fd, None) is conn:
                yield conn

    def close(self) -> None:
        """Close the descriptor; the connections stay open."""
        self._events.close()


class _Leader:
    """A thread that serves the lane."""

    turns = 0
    """How many times it has begun or finished a request: odd while it serves one."""


class Lane:
    """Serves kept connections by one thread, the leader; used by the event loop where nothing else is said.

    While nothing arrives there is no leader, and the event loop watches all kept connections through one
    descriptor. A request makes it appoint a leader, which serves requests until none arrives for a moment.
    """

    def __init__(
        self,
        poller: BaseSelector,
        start: Callable[[Callable[[], object], Callable[[], object]], bool],
        serve: Callable[[Connection], bool],
        await_head: Callable[[Connection], object],
    ) -> None:
        """`start(lead, ended)` runs `lead` in a thread and calls `ended` after it, unless threads are scarce.

        `serve` is called by the leader, and tells whether the connection stays in the lane. Without a
        leader, `await_head` gets each connection on which something arrives.
        """
        self._poller = poller
        self._start = start
        self._serve = serve
        self._await_head = await_head
        self._kept = KeptConnections()
        self._leader: _Leader | None = None
        self._seen: tuple[int, float] = 0, 0.0  # the turns of the leader, and since when it has had them
        self._apart_until = 0.0
        self._watch_kept()

    def is_open(self) -> bool:
        """Whether requests on kept connections go to the lane; called by any thread."""
        return time.monotonic() >= self._apart_until

    def keep(self, conn: Connection) -> None:
        """Take in a connection that waits for its next request."""
        self._kept.keep(conn)

    def expired(self) -> Iterator[Connection]:
        """Remove and yield the connections that have waited too long."""
        return self._kept.expired()

    def end_by(self, deadline: float) -> None:
        """Let no connection wait beyond `deadline` (monotonic time)."""
        self._kept.deadline = deadline

    def close(self) -> None:
        """End the leader's work; the connections stay open."""
        self._kept.close()

    def longest_wait(self) -> float:
        """Return the seconds after which `look` and `expired` should be called again."""
        if self._leader is not None:
            return BLOCKED
        return max(self._kept.deadline - time.monotonic(), 0) if self._kept else math.inf

    def look(self) -> None:
        """Go on without the leader if it is blocked."""
        if (leader := self._leader) is None:
            return
        turns, since = self._seen
        now = time.monotonic()
        if leader.turns != turns:
            self._seen = leader.turns, now
        elif turns % 2 and now - since >= BLOCKED:
            self._apart_until = now + APART
            self._watch_kept()

    def _watch_kept(self) -> None:
        self._leader = None
        self._poller.register(self._kept, EVENT_READ, self._arrived)

    def _arrived(self, _: object) -> None:
        """Appoint a leader for the request that has arrived, or give it a thread of its own."""
        leader = self._leader = _Leader()
        self._seen = 0, time.monotonic()
        if self.is_open() and self._start(lambda: self._lead(leader), lambda: self._left(leader)):
            self._poller.unregister(self._kept)
            return
        self._leader = None
        if (conn := self._kept.next(0)) is not None:
            self._await_head(conn)

    def _left(self, leader: _Leader) -> None:
        """Watch the connections again after the leader has left."""
        if self._leader is leader:
            self._watch_kept()

    def _lead(self, leader: _Leader) -> None:
        """Serve requests until none arrives for a moment; runs in the leader's thread."""
        while self._leader is leader and (conn := self._kept.next(NEXT)) is not None:
            leader.turns += 1
            stays = False
            try:
                stays = self._serve(conn)
            finally:
                leader.turns += 1
            if stays:
                self._kept.keep(conn)
