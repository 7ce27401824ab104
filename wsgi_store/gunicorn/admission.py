"""Which requests get a thread at once, and which wait for a transfer slot."""

import time
from collections.abc import Callable, Iterator

from wsgi_store.config import Config
from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.transfer import LOOK, unread
from wsgi_store.gunicorn.transfer_slots import UNPROVEN, WAITED, TransferSlots
from wsgi_store.gunicorn.upload_queue import TICK, UploadQueue


class Admission:
    """Starts requests in the order in which their bodies arrive; used by the event loop.

    A request without a body, or with one that has arrived, keeps a thread no longer than the work takes,
    and starts at once. Any other may make a thread wait for its client, and needs a slot for that.
    """

    def __init__(
        self,
        threads: int,
        config: Config,
        start: Callable[[Connection], object],
        defer: Callable[..., object],
    ) -> None:
        """`start` gives a request a thread; `defer` has the event loop call a function."""
        self._start = start
        self._defer = defer
        # The other threads answer requests that wait for no client, however many transfers there are.
        self.slots = TransferSlots(max(1, threads * 7 // 8), config.min_rate, self._slot_is_free)
        self._queue = UploadQueue(config.min_rate, config.idle_timeout)

    def admit(self, conn: Connection) -> None:
        """Start the request whose head has arrived, or queue it."""
        conn.transfer = None
        body = conn.body
        if body is None or self.slots.take(conn, UNPROVEN):
            self._start(conn)
        elif body.has_arrived(unread(conn.sock)):
            conn.body = body.as_arrived()
            self._start(conn)
        else:
            self._queue.add(conn)
            self._give_slot(time.monotonic())

    def longest_wait(self) -> float:
        """Return the seconds after which `look` should be called again."""
        return TICK if self._queue else LOOK if self.slots.are_scarce() else float("inf")

    def look(self) -> None:
        """Start the queued requests whose turn it is."""
        self.slots.measure()
        if self._queue:
            self._queue.rank()
            for conn in self._queue.pop_arrived():
                self._start(conn)
            now = time.monotonic()
            while self._give_slot(now):
                pass

    def pop_expired(self) -> Iterator[Connection]:
        """Remove and yield the queued connections that have waited for `idle_timeout`."""
        return self._queue.pop_expired()

    def _give_slot(self, now: float) -> bool:
        """Start the first request in the queue if there is a slot for it."""
        conn = self._queue.first()
        if conn is None or conn.body is None:
            return False
        is_fast = self._queue.is_fast(conn, now)
        share = UNPROVEN if not is_fast else 1 if self._queue.is_new(conn, now) else WAITED
        # Another transfer is ended only for a body that arrives, or that cannot arrive without a slot.
        may_end_others = is_fast or conn.body.needs_continue
        given = self.slots.claim(conn, share, upload=True) if may_end_others else self.slots.take(conn, share)
        if given:
            self._queue.remove(conn)
            self._start(conn)
        return given

    def _slot_is_free(self) -> None:
        """Have the event loop give the slot away; called in any thread."""
        if self._queue:
            self._defer(self._give_slot, time.monotonic())
