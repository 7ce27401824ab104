"""Many concurrent clients, most of them hostile, and the waiting times of the good ones."""

import contextlib
import http.client
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import Server

SECONDS = 1.0
"""What no client that behaves may have to wait for an answer."""
SLOW_UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx"
HALF_HEAD = b"GET / HTTP/1.1\r\nHos"
LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Crowd(contextlib.ExitStack):
    """Connections that are closed at the end."""

    def join(self, port: int, data: bytes = b"", buffer: int = 0) -> socket.socket:
        """Open a connection and send bytes; the system buffers `buffer` bytes of an unread answer."""
        client = self.enter_context(socket.socket())
        client.settimeout(20)
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.connect(("127.0.0.1", port))
        client.sendall(data)
        return client

    def gather(self, port: int, number: int, data: bytes = b"", buffer: int = 0) -> list[socket.socket]:
        """Open this many connections."""
        return [self.join(port, data, buffer) for _ in range(number)]


def served(port: int, number: int = 20) -> list[float]:
    """Let clients ask at once, each on a connection of its own; returns the seconds each waited."""
    waited = []

    def ask() -> None:
        begin = time.monotonic()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
            client.request("GET", "/")
            assert client.getresponse().status == 200
        waited.append(time.monotonic() - begin)

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waited) == number, "some were not served"
    return waited


@contextlib.contextmanager
def running(end: threading.Event, *threads: threading.Thread) -> Iterator[None]:
    """Run threads that stop when the event is set."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def dripping(clients: list[socket.socket], interval: float = 0.2) -> Iterator[None]:
    """Regularly send a byte on each connection, so that none of them is idle."""
    end = threading.Event()

    def drip() -> None:
        while not end.wait(interval):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(b"x")

    with running(end, threading.Thread(target=drip)):
        yield


def ends(client: socket.socket) -> float:
    """Wait until the server closes a connection; returns the seconds that took."""
    begin = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while client.recv(1 << 16):
            pass
    return time.monotonic() - begin


def cpu_seconds(server: Server) -> float:
    """The processor time used by the workers (proc(5))."""
    stats = [Path(f"/proc/{pid}/stat").read_text(encoding="ascii") for pid in server.processes()]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return sum(int(field) for values in fields for field in values[11:13]) / os.sysconf("SC_CLK_TCK")


def in_backlog(port: int) -> int:
    """The number of connections to a port that wait to be accepted (proc(5))."""
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] == f"0100007F:{port:04X}" and fields[3] == "0A":
            return int(fields[4].partition(":")[2], 16)
    raise AssertionError(f"nobody listens on {port}")


def only_worker(server: Server) -> int:
    """The process id of the only worker."""
    (worker,) = server.processes()
    return worker


def limit(pid: int, kind: int, value: int) -> None:
    """Set a soft limit of another process (prlimit(2))."""
    resource.prlimit(pid, kind, (value, resource.prlimit(pid, kind)[1]))
