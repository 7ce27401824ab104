"""Places for transfers: so many threads of a worker may wait for clients, and the slowest make room."""

import fcntl
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from wsgi_store.logs import Seldom

# Seconds over which the rate of a transfer is measured, and between two measurements.
WINDOW = 5.0
LOOK = 0.5
# Which share of the places each may fill, so that some are left for those that come next: requests of
# which nobody knows whether their bodies come, uploads that have waited, downloads.
UNPROVEN, WAITED, DOWNLOADS = 3 / 4, 7 / 8, 15 / 16
# What a transfer is about.
HEAD, BODY, WORK, ANSWER = "head", "body", "work", "answer"
_NONE = struct.pack("i", 0)


def unread(sock: socket.socket) -> int:
    """The bytes that have come and that nobody has read (tcp(7), FIONREAD)."""
    return _ask(sock, termios.FIONREAD)


def unsent(sock: socket.socket) -> int:
    """The bytes that the client has not taken yet (tcp(7), SIOCOUTQ)."""
    return _ask(sock, termios.TIOCOUTQ)


def _ask(sock: socket.socket, request: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), request, _NONE))[0]
    return count


class Transfer:
    """A request whose thread may wait for its client, and how fast that moves bytes."""

    ended = ""
    """In which phase it had to make room: whoever meets the end of its connection looks here."""

    awaits_head = False
    """Whether a thread has begun to read the head."""

    def __init__(self) -> None:
        self._body: Any = None
        self._answer: Any = None
        self._phase = ""
        # When, and how many bytes had moved by then; the first one is a window old.
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def follow(self, body: Any, answer: Any) -> None:
        """Count what is received of this body, if that can be known, and sent of this answer."""
        self._body, self._answer = body, answer

    def moved(self, sock: socket.socket) -> tuple[str, int, bool]:
        """What it is about, how many bytes the client has moved, and whether it is waited for."""
        if self._answer is None:
            return (HEAD, unread(sock), True) if self.awaits_head else (WORK, 0, False)
        if self._answer.headers_sent:
            left = unsent(sock)
            return ANSWER, self._answer.moved - left, left > 0
        if self._body is None or self._body.is_whole():
            return WORK, 0, False
        come = unread(sock)
        return BODY, self._body.received() + come, not come

    def look(self, sock: socket.socket, now: float) -> float | None:
        """The bytes a second over the window; None where it is not the client that is waited for."""
        with suppress(OSError, ValueError):  # it has just ended
            phase, count, waits = self.moved(sock)
            if phase != self._phase:
                self._phase = phase
                self._marks = deque([(now, count)])
            marks = self._marks
            if now - marks[-1][0] >= LOOK:
                marks.append((now, count))
            while len(marks) > 1 and marks[1][0] <= now - WINDOW:
                marks.popleft()
            begin, before = marks[0]
            if waits and now - begin >= WINDOW:
                return (count - before) / (now - begin)
        return None

    def end(self, sock: socket.socket) -> None:
        """Have its thread find the end of the connection."""
        self.ended = self._phase
        # Also of a socket with TLS, whose own method forgets the key.
        with suppress(OSError):
            if self._phase == BODY:
                socket.socket.shutdown(sock, socket.SHUT_RD)
            else:
                # Whoever takes its answer slowly would take what is on the way slowly, too.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Places:
    """Which connections have a place. A place is left before the connection is closed."""

    def __init__(self, number: int, min_rate: int, freed: Callable[[], object]) -> None:
        self._number = number
        self._min_rate = min_rate
        self._freed = freed
        self._lock = threading.Lock()
        self._taken: dict[Any, Transfer] = {}
        self._slow: list[tuple[float, Any]] = []  # the slowest last
        self._looked = 0.0
        # How many may be ended for uploads and for downloads, in a window no more than this share of all:
        # the others are then old enough to be judged, and who comes next need not wait.
        self._most = {True: max(1.0, number / 2), False: max(1.0, number / 4)}
        self._budget = dict(self._most)
        self._said = Seldom()

    def take(self, conn: Any, share: float = 1) -> bool:
        """Take a free place, if no more than this share is taken; whether the connection has one now."""
        if conn in self._taken:
            return True
        with self._lock:
            if len(self._taken) >= self._limit(share):
                return False
            self._taken[conn] = conn.transfer = Transfer()
        return True

    def claim(self, conn: Any, share: float = 1, *, upload: bool = False) -> bool:
        """Take a place as `take` does, and first end the slowest transfers if they are too slow."""
        if self.take(conn, share):
            return True
        now = time.monotonic()
        with self._lock:
            while self._slow and self._budget[upload] >= 1:
                _, other = self._slow.pop()
                transfer = self._taken.get(other)
                rate = transfer.look(other.sock, now) if transfer else None
                if transfer is None or rate is None or rate >= self._min_rate:
                    continue
                self._budget[upload] -= 1
                transfer.end(other.sock)
                del self._taken[other]
                self._said.warn(f"{self._number} transfers, ended the slowest for another: {rate:.0f} B/s")
                if len(self._taken) < self._limit(share):
                    self._taken[conn] = conn.transfer = Transfer()
                    return True
        return False

    def _limit(self, share: float) -> int:
        return max(1, int(self._number * share))

    def leave(self, conn: Any) -> None:
        """Leave the place, if the connection has one still."""
        if conn in self._taken:
            with self._lock:
                if (transfer := self._taken.pop(conn, None)) is not None:
                    transfer.follow(None, None)  # each knows the other, for which garbage would be collected
            self._freed()

    def is_scarce(self) -> bool:
        """Whether so many are taken that rates are to be known."""
        return len(self._taken) * 2 > self._number

    def look(self) -> None:
        """Measure the rates; to be called now and then while places are scarce."""
        self._said.catch_up()
        now = time.monotonic()
        if not self.is_scarce() or now - self._looked < LOOK:
            return
        with self._lock:
            passed, self._looked = now - self._looked, now
            for kind, most in self._most.items():
                self._budget[kind] = min(most, self._budget[kind] + passed * most / WINDOW)
            rates = [(transfer.look(conn.sock, now), conn) for conn, transfer in self._taken.items()]
            slow = [(rate, conn) for rate, conn in rates if rate is not None and rate < self._min_rate]
            self._slow = sorted(slow, key=lambda each: -each[0])
