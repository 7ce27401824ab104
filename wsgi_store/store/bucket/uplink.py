"""The link to the engine, which the uploads of a process share, and its congestion control."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsgi_store.errors import StoreUnavailable

# Parts of a large file that are sent at once.
PARTS_AT_ONCE = 4
# Bytes of files sent in one request each; a file of this size or more is sent alone.
BYTES_AT_ONCE = 64 << 20
# The least share of these limits, and how much a successful transfer adds to the share.
MIN_SHARE = 1 / 16
GROWTH = 1 / 16


class Uplink:
    """Limits how much the uploads of a process send at once.

    The time limit of a request runs while its body is sent, so uploads that start together on a slow link
    would time out together. The capacity of the link is unknown: after a failure half as much is tried,
    at most once in `timeout` seconds, and slowly more while transfers succeed, as in TCP (RFC 5681).
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
        """Wait for a turn to send `size` bytes in one request.

        Raises StoreUnavailable if no upload has got through for `timeout` seconds.
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
        """Yield how many parts of a large file to send at once: fewer while other files are sent.

        On a congested link, files that are complete (`whole`) take turns, with the wait of `room`. A file
        that is still being received does not, because its client may be slow.
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
        """Whether failures have reduced the limit to a single part."""
        return PARTS_AT_ONCE * self._share < 2

    def got_through(self) -> None:
        """Extend the time of all that wait, because the link carries something."""
        self._through = time.monotonic()

    def _wait(self, waiting: deque[object], fits: Callable[[], bool]) -> None:
        begin = time.monotonic()
        turn = object()
        waiting.append(turn)
        try:
            while waiting[0] is not turn or not fits():
                left = max(begin, self._through) + self._timeout - time.monotonic()
                if left <= 0:
                    raise StoreUnavailable("timed out waiting to send to the object store")
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
            # Transfers that ran together fail together, and count as one failure.
            with self._changed:
                if time.monotonic() >= self._halved + self._timeout:
                    self._halved = time.monotonic()
                    self._share = max(self._share / 2, MIN_SHARE)
            raise
        with self._changed:
            self._share = min(self._share + GROWTH * size / BYTES_AT_ONCE, 1.0)
