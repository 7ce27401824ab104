"""The way to the engine, which the uploads of a process share: no more is begun than it can carry."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsgi_store.errors import StoreUnavailable

# Of a large file.
PARTS_AT_ONCE = 4
# Of files that go up in one request; one of this size or more goes up alone.
BYTES_AT_ONCE = 64 << 20
# Of all that, the part that is tried at least, and by how much more what got through allows.
MIN_SHARE = 1 / 16
GROWTH = 1 / 16


class Uplink:
    """What of the uploads of a process is on its way at once.

    The time limit of a request runs while its body is sent: what begins all at once gets through
    so much later, and on a busy way all of it would fail together. What the way carries in time is
    not known: half as much is tried after a failure, once in `timeout` seconds, and slowly more while
    all goes well, as TCP does (RFC 5681).
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._changed = threading.Condition()
        self._for_room: deque[object] = deque()
        self._for_turns: deque[object] = deque()
        self._through = 0.0
        self._bytes = 0
        self._large = self._whole = 0
        self._share = 1.0
        self._halved = float("-inf")

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Wait for one's turn to send so many bytes in one request.

        Raises StoreUnavailable when nothing has got through for `timeout` seconds.
        """
        with self._changed:
            self._wait(self._for_room, lambda: self._fits(size))
            self._bytes += size
        try:
            with self._learning(size):
                yield
                self.got_through()
        finally:
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()

    @contextmanager
    def parts(self, *, whole: bool) -> Iterator[int]:
        """Yield how many parts of a large file to send at once: fewer while others are sending.

        On a narrow way files that are there as a `whole` take turns, waited for as in `room`. One
        that is still received takes none, for its client may be slow.
        """
        with self._changed:
            if whole:
                self._wait(self._for_turns, lambda: not (self.narrow and self._whole))
            self._whole += whole
            self._large += 1
            count = max(1, int(PARTS_AT_ONCE * self._share) // self._large)
        try:
            with self._learning(BYTES_AT_ONCE):
                yield count
                self.got_through()
        finally:
            with self._changed:
                self._whole -= whole
                self._large -= 1
                self._changed.notify_all()

    @property
    def narrow(self) -> bool:
        """Whether failures have left a single part to be sent at once."""
        return PARTS_AT_ONCE * self._share < 2

    def got_through(self) -> None:
        """Have all go on waiting who wait: the way carries something."""
        self._through = time.monotonic()

    def _wait(self, waiting: deque[object], fits: Callable[[], bool]) -> None:
        begin = time.monotonic()
        turn = object()
        waiting.append(turn)
        try:
            while waiting[0] is not turn or not fits():
                left = max(begin, self._through) + self._timeout - time.monotonic()
                if left <= 0:
                    raise StoreUnavailable("the object store takes no more")
                self._changed.wait(left)
        finally:
            waiting.remove(turn)
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return not self._bytes or self._bytes + size <= BYTES_AT_ONCE * self._share

    @contextmanager
    def _learning(self, size: int) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable:
            # What was under way together fails together: that is one failure.
            with self._changed:
                if time.monotonic() >= self._halved + self._timeout:
                    self._halved = time.monotonic()
                    self._share = max(self._share / 2, MIN_SHARE)
            raise
        with self._changed:
            self._share = min(self._share + GROWTH * size / BYTES_AT_ONCE, 1.0)
