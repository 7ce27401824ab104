"""The way to the engine, which the uploads of a process share: no more is begun than it can carry."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from wsgi_store.errors import StoreUnavailable

PARTS_AT_ONCE = 4
# Of files that go up in one request; one of this size or more goes up alone.
BYTES_AT_ONCE = 64 << 20


class Uplink:
    """What of the uploads of a process is on its way at once.

    The time limit of a request runs while its body is sent: what begins all at once gets through
    so much later, and on a busy way all of it would fail together.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._bytes = 0
        self._through = 0.0
        self._large = 0

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Wait for one's turn to send so many bytes in one request.

        Raises StoreUnavailable when nothing has got through for `timeout` seconds.
        """
        with self._changed:
            self._wait(size)
            self._bytes += size
        try:
            yield
            self._through = time.monotonic()
        finally:
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()

    def _wait(self, size: int) -> None:
        begin = time.monotonic()
        turn = object()
        self._waiting.append(turn)
        try:
            while self._waiting[0] is not turn or (self._bytes and self._bytes + size > BYTES_AT_ONCE):
                left = max(begin, self._through) + self._timeout - time.monotonic()
                if left <= 0:
                    raise StoreUnavailable("the object store takes no more")
                self._changed.wait(left)
        finally:
            self._waiting.remove(turn)
            self._changed.notify_all()

    @contextmanager
    def share(self) -> Iterator[int]:
        """Yield how many parts of a large file to send at once: fewer while others are sending."""
        with self._changed:
            self._large += 1
            parts = max(1, PARTS_AT_ONCE // self._large)
        try:
            yield parts
        finally:
            with self._changed:
                self._large -= 1
