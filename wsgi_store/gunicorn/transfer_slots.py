"""How many threads of a worker may wait for clients; the slowest transfers make room for others."""

import threading
import time
from collections.abc import Callable

from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.transfer import LOOK, WINDOW, Transfer
from wsgi_store.logs import Seldom

# The share of the slots that each kind of request may fill, so that some stay free for the next kind:
# requests whose body may not arrive, uploads that have waited in the queue, downloads.
UNPROVEN, WAITED, DOWNLOADS = 3 / 4, 7 / 8, 15 / 16


class TransferSlots:
    """The connections that hold a slot: a thread may wait for their clients.

    Any thread may call any method. A connection leaves its slot before it is closed.
    """

    def __init__(self, number: int, min_rate: int, freed: Callable[[], object]) -> None:
        """`min_rate` is in bytes per second; `freed` is called in the thread that has left a slot."""
        self._number = number
        self._min_rate = min_rate
        self._freed = freed
        self._lock = threading.Lock()
        self._taken: dict[Connection, Transfer] = {}
        self._slow: list[tuple[float, Connection]] = []  # the slowest last
        self._looked = 0.0
        # How many transfers may be ended within a window for uploads (True) and for downloads (False). The
        # rest gets old enough to be measured, and the next client finds one to end without waiting.
        self._most = {True: max(1.0, number / 2), False: max(1.0, number / 4)}
        self._budget = dict(self._most)
        self._log = Seldom()

    def take(self, conn: Connection, share: float = 1) -> bool:
        """Take a free slot unless this share of them is taken; whether the connection now has one."""
        if conn in self._taken:
            return True
        with self._lock:
            if len(self._taken) >= self._limit(share):
                return False
            self._taken[conn] = conn.transfer = Transfer()
        return True

    def claim(self, conn: Connection, share: float = 1, *, upload: bool = False) -> bool:
        """Take a slot as `take` does; if none is free, first end the slowest transfers below `min_rate`."""
        if self.take(conn, share):
            return True
        now = time.monotonic()
        with self._lock:
            while self._slow and self._budget[upload] >= 1:
                _, other = self._slow.pop()
                transfer = self._taken.get(other)
                rate = transfer.rate(other.sock, now) if transfer else None
                if transfer is None or rate is None or rate >= self._min_rate:
                    continue
                self._budget[upload] -= 1
                transfer.end(other.sock)
                del self._taken[other]
                self._log.warn(f"{self._number} transfers, ended the slowest for another: {rate:.0f} B/s")
                if len(self._taken) < self._limit(share):
                    self._taken[conn] = conn.transfer = Transfer()
                    return True
        return False

    def _limit(self, share: float) -> int:
        return max(1, int(self._number * share))

    def leave(self, conn: Connection) -> None:
        """Leave the slot, if the connection still has one."""
        if conn in self._taken:
            with self._lock:
                if (transfer := self._taken.pop(conn, None)) is not None:
                    transfer.follow(None, None)  # a reference cycle would leave work to the garbage collector
            self._freed()

    def are_scarce(self) -> bool:
        """Whether more than half of the slots are taken, so that rates are measured."""
        return len(self._taken) * 2 > self._number

    def measure(self) -> None:
        """Measure the rates; call this regularly while slots are scarce."""
        self._log.catch_up()
        now = time.monotonic()
        if not self.are_scarce() or now - self._looked < LOOK:
            return
        with self._lock:
            passed, self._looked = now - self._looked, now
            for kind, most in self._most.items():
                self._budget[kind] = min(most, self._budget[kind] + passed * most / WINDOW)
            rates = [(transfer.rate(conn.sock, now), conn) for conn, transfer in self._taken.items()]
            slow = [(rate, conn) for rate, conn in rates if rate is not None and rate < self._min_rate]
            self._slow = sorted(slow, key=lambda each: -each[0])
