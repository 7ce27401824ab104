"""How a worker of gunicorn takes connections in: as many as the others, and none it cannot serve."""

import errno
import math
import mmap
import socket
import time
from typing import Any

from gunicorn.workers import gthread

from wsgi_store.gunicorn.connection import Connection

# accept(2) may fail for want of descriptors, memory or a network, which a moment may cure.
ACCEPT_PAUSE = 0.2  # seconds
ACCEPT_SAID = 1.0  # seconds before it is logged again
# A connection is left for so long to a worker that has fewer, which may have to wait for a processor;
# meanwhile it is looked at again so often. In seconds; no poller waits less than the second.
LEFT = 0.005
LEFT_LOOK = 0.001
# No connection is left to a worker that has not looked for so long, in seconds; idle ones look each second.
ABSENT = 2.0
# How many connections each worker has, and until when (monotonic time) it is one that accepts. It is
# memory of the master, shared with the workers it forks; each writes at its own place. Should there
# be more of them some have a place in common, and are balanced less well.
PLACES = 64
_table = memoryview(mmap.mmap(-1, 2 * 8 * PLACES)).cast("d")
_counts, _present = _table[:PLACES], _table[PLACES:]


class Accepting(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's thread worker as far as it accepts connections.

    One whose threads are all busy leaves new connections to others, and so does for a moment one
    that has more connections than another.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy = 0  # threads that serve
        self._accept_again = self._say_again = 0.0
        self._left = 0.0  # until when connections are left to others, 0 when there are none
        self._place = self.age % PLACES

    def await_head(self, conn: Connection) -> None:
        """Give the connection a thread once the head of its request is there."""
        raise NotImplementedError

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept when asked to and able to."""
        able = self._busy < self.cfg.threads and time.monotonic() >= self._accept_again
        super().set_accept_enabled(enabled and able)

    def accept_if_able(self) -> None:
        """Accept again, where a thread or a connection that is done with was all that was missing."""
        self.set_accept_enabled(self.alive and self.nr_conns < self.worker_connections)

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection in and wait for its request's head, unless another worker should."""
        # All workers are told of a connection, and the first to run would take all of a burst: of 16
        # that stay, one of two workers had three or fewer in more than half of all cases, now in none.
        now = time.monotonic()
        if self.nr_conns > self._least(now):
            self._left = self._left or now + LEFT
            if now < self._left:
                self._accept_again = now + LEFT_LOOK
                self.set_accept_enabled(False)
                return
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                now = time.monotonic()
                if now >= self._say_again:
                    self.log.error("cannot accept: %s", error.strerror)
                    self._say_again = now + ACCEPT_SAID
                self._accept_again = now + ACCEPT_PAUSE
                self.set_accept_enabled(False)
            return
        self.nr_conns += 1
        self.await_head(Connection(self.cfg, client, address, listener.getsockname()))

    def _least(self, now: float) -> float:
        """The connections of the worker that has fewest."""
        return min((count for count, until in zip(_counts, _present) if until > now), default=math.inf)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait no longer than until it is time to accept again."""
        now = time.monotonic()
        looking = self._accepting
        _counts[self._place] = self.nr_conns
        _present[self._place] = now + ABSENT if looking or now < self._left else 0
        pause = self._accept_again - now
        if pause > 0:
            timeout = min(timeout, pause)
        elif looking and self._left:
            timeout = 0  # whether what was left is still there
        super().wait_for_and_dispatch_events(timeout)
        if looking and self._accepting:
            self._left = 0.0  # it has been taken, here or elsewhere
