"""How fast the client of a request moves bytes while a thread waits for it."""

import fcntl
import socket
import struct
import termios
import time
from collections import deque
from contextlib import suppress
from typing import Protocol

# Seconds over which the rate of a transfer is measured, and between two measurements.
WINDOW = 5.0
LOOK = 0.5
# The phases of a request: receiving its head, receiving its body, working on it, sending the answer.
HEAD, BODY, WORK, ANSWER = "head", "body", "work", "answer"
_NONE = struct.pack("i", 0)


class Incoming(Protocol):
    """A request body that is being received."""

    def received(self) -> int:
        """Return how many bytes have been received."""

    def is_whole(self) -> bool:
        """Whether all of it has been received."""


class Outgoing(Protocol):
    """A response that is being sent."""

    headers_sent: bool
    moved: int
    """How many bytes the socket has taken."""


def unread(sock: socket.socket) -> int:
    """Return how many bytes have arrived that nobody has read (tcp(7), FIONREAD)."""
    return _ask(sock, termios.FIONREAD)


def unsent(sock: socket.socket) -> int:
    """Return how many bytes the client has not yet acknowledged (tcp(7), SIOCOUTQ)."""
    return _ask(sock, termios.TIOCOUTQ)


def _ask(sock: socket.socket, request: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), request, _NONE))[0]
    return count


class Transfer:
    """A request whose thread may wait for the client, and the rate at which the client moves bytes."""

    ended = ""
    """The phase in which it was ended to free its slot; empty while it goes on."""

    awaits_head = False
    """Whether a thread has begun to read the head."""

    def __init__(self) -> None:
        self._body: Incoming | None = None
        self._response: Outgoing | None = None
        self._phase = ""
        # Times, and the bytes moved until then; the first one is a window old.
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def follow(self, body: Incoming | None, response: Outgoing | None) -> None:
        """Measure this body, if its progress is known, and this response."""
        self._body, self._response = body, response

    def _progress(self, sock: socket.socket) -> tuple[str, int, bool]:
        """Return the phase, the bytes moved in it by the client, and whether the thread waits for more."""
        if self._response is None:
            return (HEAD, unread(sock), True) if self.awaits_head else (WORK, 0, False)
        if self._response.headers_sent:
            left = unsent(sock)
            return ANSWER, self._response.moved - left, left > 0
        if self._body is None or self._body.is_whole():
            return WORK, 0, False
        arrived = unread(sock)
        return BODY, self._body.received() + arrived, not arrived

    def rate(self, sock: socket.socket, now: float) -> float | None:
        """Return the bytes per second over the window; None unless the thread waits for the client."""
        with suppress(OSError, ValueError):  # the connection has just ended
            phase, count, waits = self._progress(sock)
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
        """Make its thread find the connection at its end."""
        self.ended = self._phase
        # The method of a TLS socket would drop its keys, which the thread may still use.
        with suppress(OSError):
            if self._phase == BODY:
                socket.socket.shutdown(sock, socket.SHUT_RD)
            else:
                # A client that reads its answer slowly would read what is in the send buffer slowly, too.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
