"""When a worker accepts connections: while it has threads, and not many more than other workers."""

import errno
import math
import mmap
import time
from typing import Any

# accept(2) fails for want of descriptors or memory until something is freed.
ACCEPT_PAUSE = 0.2  # seconds before it is tried again
ACCEPT_SAID = 1.0  # seconds before it is logged again
# A connection is left for this long to a worker that has fewer, which may first have to get a processor.
# Meanwhile it is looked at again this often. In seconds; pollers round up to milliseconds.
LEFT = 0.005
LEFT_LOOK = 0.001
# A worker that has not run its loop for this long, in seconds, gets no connection left; idle ones run it
# every second.
ABSENT = 2.0


class ConnectionCounts:
    """How many connections each worker has, in memory that the master shares with the workers it forks."""

    WORKERS = 64
    """Beyond this number workers share places, and are balanced less well."""

    def __init__(self) -> None:
        table = memoryview(mmap.mmap(-1, 2 * 8 * self.WORKERS)).cast("d")
        self._counts, self._accepts_until = table[: self.WORKERS], table[self.WORKERS :]

    def set(self, age: int, count: int, accepts_until: float) -> None:
        """Say how many connections the worker has, and until when (monotonic time) it counts."""
        self._counts[age % self.WORKERS] = count
        self._accepts_until[age % self.WORKERS] = accepts_until

    def least(self, now: float) -> float:
        """Return the connections of the worker that has fewest."""
        pairs = zip(self._counts, self._accepts_until, strict=True)
        return min((count for count, until in pairs if until > now), default=math.inf)


class AcceptGate:
    """Decides when a worker accepts; used by its event loop."""

    def __init__(self, counts: ConnectionCounts, age: int, log: Any) -> None:
        """`age` is the number gunicorn gives each worker."""
        self._counts = counts
        self._age = age
        self._log = log
        self._paused_until = self._silent_until = 0.0
        self._left_until = 0.0  # 0 while no connection is left to others
        self._was_accepting = False

    def is_open(self) -> bool:
        """Whether no pause is on."""
        return time.monotonic() >= self._paused_until

    def reopen(self) -> None:
        """End a pause: a connection was closed, which may free what accept(2) lacked."""
        self._paused_until = 0.0

    def leaves(self, connections: int) -> bool:
        """Whether to leave a new connection, for a moment, to a worker that has fewer than `connections`."""
        # The kernel wakes every worker, and the first to run would take a whole burst.
        now = time.monotonic()
        if connections > self._counts.least(now):
            self._left_until = self._left_until or now + LEFT
            if now < self._left_until:
                self._paused_until = now + LEFT_LOOK
                return True
        return False

    def pauses_after(self, error: OSError) -> bool:
        """Whether to pause because accept(2) failed with `error`, which is then logged."""
        if error.errno in (errno.EAGAIN, errno.ECONNABORTED):
            return False
        now = time.monotonic()
        if now >= self._silent_until:
            self._log.error("cannot accept: %s", error.strerror)
            self._silent_until = now + ACCEPT_SAID
        self._paused_until = now + ACCEPT_PAUSE
        return True

    def before_wait(self, connections: int, accepting: bool) -> float:
        """Publish the number of connections; return how many seconds the event loop may wait."""
        now = time.monotonic()
        counts = accepting or now < self._left_until
        self._counts.set(self._age, connections, now + ABSENT if counts else 0)
        self._was_accepting = accepting
        if now < self._paused_until:
            return self._paused_until - now
        # Find out at once whether the connection left to others is still there.
        return 0 if accepting and self._left_until else math.inf

    def after_wait(self, accepting: bool) -> None:
        """Note what the events have told."""
        if self._was_accepting and accepting:
            self._left_until = 0.0  # no pause began, so somebody has taken the connection
