"""A proxy between a client and a real server that can break after any number of bytes."""

import contextlib
import socket
import struct
import threading
import time
from enum import Enum
from typing import Self

BLOCK = 1 << 16


class Break(Enum):
    """What happens to a connection."""

    CUT = "cut"
    """It is reset."""
    STALL = "stall"
    """It stays, and nothing moves on it any more."""


class Way(Enum):
    """The direction of bytes."""

    UP = "up"
    DOWN = "down"


class Relay:
    """Forwards connections to a port of this machine, until it is told to break them.

    With a rate, all of them together carry this many bytes a second in one direction.
    """

    def __init__(self, port: int, rate: float = float("inf"), way: Way = Way.UP) -> None:
        self._rate = rate
        self.way = way
        # When the line has carried all that it was given.
        self._free = 0.0
        # The port to which the next connections lead.
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        if rate < float("inf"):
            # A slow line holds little: the client must not be done long before the line is.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BLOCK)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.breaks = 0
        self.carried = 0
        """The bytes that it has carried in that direction."""
        self._lock = threading.Lock()
        # How many bytes it may have carried in all, and the threads that wait until it may carry more.
        self._limit = float("inf")
        self._more = threading.Condition(self._lock)
        self._plan: tuple[Break, Way, int, int] | None = None
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread in accept(), which closing alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.mend()
        self.let()
        for thread in self._threads:
            thread.join(20)

    def break_after(self, kind: Break, way: Way, count: int, times: int = 1 << 30) -> None:
        """Break up to `times` connections, each after this many bytes in one direction."""
        self.mend()
        with self._lock:
            self.breaks = 0
            self._plan = (kind, way, count, times)

    def mend(self) -> None:
        """Close the open connections, and forward new ones unharmed."""
        with self._lock:
            self._plan = None
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Reset the open connections, and forward new ones unharmed."""
        with self._lock:
            self._plan = None
            for one in self._open:
                _reset(one)

    def let(self, count: float = float("inf")) -> None:
        """Carry this many more bytes in that direction, and hold later ones until more are let through."""
        with self._more:
            self._limit = self.carried + count
            self._more.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            pair = _Pair(self, client, server)
            with self._lock:
                self._open |= {client, server}
            for way in Way:
                self._threads.append(threading.Thread(target=pair.pump, args=(way,)))
                self._threads[-1].start()

    def carry(self, count: int) -> None:
        """Wait as long as the line needs for this many bytes."""
        # In the order of their arrival: threads that wait for a lock are woken in none.
        with self._more:
            self._more.wait_for(lambda: self.carried < self._limit)
            self.carried += count
            self._free = max(self._free, time.monotonic()) + count / self._rate
            pause = self._free - time.monotonic()
        time.sleep(max(0, pause))

    def breaking(self, way: Way, before: int, count: int) -> tuple[Break, int] | None:
        """How the connection breaks within these bytes, and how many still pass; None if it does not."""
        with self._lock:
            if self._plan is None:
                return None
            kind, which, limit, times = self._plan
            if way is not which or before + count <= limit or not times:
                return None
            self._plan = (kind, which, limit, times - 1)
            self.breaks += 1
            return kind, max(0, limit - before)

    def forget(self, *sockets: socket.socket) -> None:
        """Remove the sockets of a connection that has ended."""
        with self._lock:
            self._open -= set(sockets)


class _Pair:
    """A client's connection and the one to the server."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay = relay
        self._ends = {Way.UP: (client, server), Way.DOWN: (server, client)}
        self._left = 2
        self._stalled = False
        self._lock = threading.Lock()

    def pump(self, way: Way) -> None:
        """Forward bytes in one direction."""
        source, target = self._ends[way]
        passed = 0
        with contextlib.suppress(OSError):
            while data := self._received(source, target):
                broken = self._relay.breaking(way, passed, len(data))
                if broken is not None:
                    kind, count = broken
                    target.sendall(data[:count])
                    if kind is Break.CUT:
                        self._reset()
                        break
                    self._stalled = True
                if way is self._relay.way:
                    self._relay.carry(len(data))
                if not self._stalled:
                    target.sendall(data)
                passed += len(data)
            if not self._stalled:
                target.shutdown(socket.SHUT_WR)
        with self._lock:
            self._left -= 1
            if not self._left:
                self._relay.forget(source, target)
                source.close()
                target.close()

    def _received(self, source: socket.socket, target: socket.socket) -> bytes:
        try:
            return source.recv(BLOCK)
        except OSError:
            # A killed server resets its connections; its client would wait in vain.
            if not self._stalled:
                _reset(target)
            raise

    def _reset(self) -> None:
        for one in self._ends[Way.UP]:
            _reset(one)


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
