"""Crowds of slow clients, and the response times of well-behaved clients beside them.

As a program, as in `make soak`, it runs every crowd for a given time.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
LARGE = 64 * MIB
"""A blob that no slow reader gets to the end of."""
RATE = 16 << 10
"""Bytes a second of an honest upload."""
HEAD = "POST / HTTP/1.1\r\nHost: a\r\n"
CROWDS: dict[str, list[tuple[str, bytes, float]]] = {
    # What each kind of client sends: a request, bytes that follow at once, and then bytes a second.
    "bodies": [(f"{HEAD}Content-Length: 10000000\r\n\r\n", b"x", 1 / 30)],
    "reads": [("GET /{hash} HTTP/1.1\r\nHost: a\r\n\r\n", b"", 0)],
    "both": [
        (f"{HEAD}Content-Length: 10000000\r\n\r\n", b"x", 1 / 30),
        ("GET /{hash} HTTP/1.1\r\nHost: a\r\n\r\n", b"", 0),
    ],
    "bursts": [(f"{HEAD}Content-Length: 10000000\r\n\r\n", b"x" * (64 << 10), 1 / 2)],
    "chunks": [(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n1000000\r\n", 1 / 2)],
    "expecting": [(f"{HEAD}Content-Length: 10000000\r\nExpect: 100-continue\r\n\r\n", b"", 1 / 2)],
    "unread": [("GET /{small} HTTP/1.1\r\nHost: a\r\n\r\n" * 200, b"", 0)],
}


@dataclass
class Fate:
    """The results of the well-behaved clients: the seconds of each answer by kind of request."""

    waited: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    honest: bool = False

    def worst(self, what: str, share: float = 0.99) -> float:
        """The longest time among this share of the fastest answers."""
        waited = sorted(self.waited[what])
        return waited[min(len(waited) - 1, int(len(waited) * share))]

    def __str__(self) -> str:
        figures = [
            f"{what} p50 {self.worst(what, 0.5) * 1000:.0f} p99 {self.worst(what) * 1000:.0f} "
            f"max {self.worst(what, 1) * 1000:.0f} ms of {len(waited)}"
            for what, waited in sorted(self.waited.items())
        ]
        return "; ".join(
            [*figures, f"honest upload {'ended well' if self.honest else 'FAILED'}", *self.failures[:3]]
        )


def besiege(kind: str, port: int, number: int, hashes: dict[str, str], returning: float) -> None:
    """Be a crowd until killed; disconnected clients return after so many seconds, never if 0."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    poller = select.epoll()
    clients: dict[int, tuple[socket.socket, bytes, float]] = {}
    due: list[tuple[float, int]] = []
    returns: list[float] = []

    def join(place: int) -> None:
        request, begin, rate = CROWDS[kind][place % len(CROWDS[kind])]
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            client.settimeout(5)
            client.connect(("127.0.0.1", port))
            client.settimeout(0)
            client.send(request.format(**hashes).encode() + begin)
        except OSError:
            client.close()
            returns.append(time.monotonic() + max(returning, 1))
            return
        clients[client.fileno()] = client, request.encode(), rate
        poller.register(client, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
        if rate:
            due.append((time.monotonic() + 1 / rate, client.fileno()))

    for place in range(number):
        join(place)
    print("here", flush=True)
    place = number
    while True:
        for fd, _ in poller.poll(0.1):
            poller.unregister(fd)
            clients.pop(fd)[0].close()
            if returning:
                returns.append(time.monotonic() + returning)
        now = time.monotonic()
        while returns and returns[0] <= now:
            returns.pop(0)
            place += 1
            join(place)
        for moment, fd in list(due):
            if moment <= now:
                due.remove((moment, fd))
                if fd in clients:
                    with contextlib.suppress(OSError):
                        clients[fd][0].send(b"x")
                    due.append((now + 1 / clients[fd][2], fd))


def ask(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    """Send a request on a new connection, and repeat it as Retry-After says."""
    for _ in range(20):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
            client.request(method, path, body)
            answer = client.getresponse()
            data = answer.read()
            if answer.status == 200:
                return data
            assert answer.status == 503, (answer.status, data)
            time.sleep(float(answer.headers["Retry-After"]))
    raise AssertionError(f"{method} {path}: 503 again and again")


@contextlib.contextmanager
def measuring(fate: Fate, what: str, call: Callable[[], object], end: float, pause: float) -> Iterator[None]:
    """Call something repeatedly in a thread and record how long each call takes."""

    def work() -> None:
        while time.monotonic() < end:
            begin = time.monotonic()
            try:
                call()
            except Exception as error:  # pylint: disable=broad-exception-caught  # reported by the test
                fate.failures.append(f"{what}: {error!r}")
            fate.waited.setdefault(what, []).append(time.monotonic() - begin)
            time.sleep(pause)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def upload_honestly(port: int, seconds: float) -> bool:
    """Upload at RATE; returns whether the upload succeeded."""
    data = os.urandom(int(RATE * seconds))
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as client:
        client.sendall(f"{HEAD}Content-Length: {len(data)}\r\n\r\n".encode())
        for start in range(0, len(data), RATE // 4):
            client.sendall(data[start : start + RATE // 4])
            time.sleep(0.25)
        return client.recv(1 << 16).startswith(b"HTTP/1.1 200 ") and bool(hashlib.sha256(data))


def _calls(port: int, hash_: str) -> dict[str, Callable[[], object]]:
    return {
        "healthz": lambda: ask(port, "GET", "/healthz"),
        "post": lambda: ask(port, "POST", "/", os.urandom(MIB)),
        "get": lambda: ask(port, "GET", f"/{hash_}"),
    }


def _hashes(port: int) -> dict[str, str]:
    sizes = {"hash": LARGE, "small": 60_000, "medium": MIB}
    return {
        name: json.loads(ask(port, "POST", "/", os.urandom(size)))["hash"] for name, size in sizes.items()
    }


def fare(kind: str, port: int, number: int, seconds: float, *, waits: tuple[float, float] = (0, 0)) -> Fate:
    """Start a crowd, and send requests beside it for this many seconds.

    `waits` are the seconds the crowd gets to settle, and the seconds after which disconnected clients
    return, never if 0.
    """
    hashes = _hashes(port)
    fate = Fate()
    command = [
        sys.executable,
        __file__,
        "--besiege",
        kind,
        str(port),
        str(number),
        json.dumps(hashes),
        str(waits[1]),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as crowd, contextlib.ExitStack() as stack:
        stack.callback(crowd.kill)
        assert crowd.stdout is not None
        crowd.stdout.readline()
        time.sleep(waits[0])
        end = time.monotonic() + seconds
        honest = threading.Thread(target=lambda: setattr(fate, "honest", upload_honestly(port, seconds - 3)))
        stack.callback(honest.join)
        honest.start()
        for what, call in _calls(port, hashes["medium"]).items():
            stack.enter_context(measuring(fate, what, call, end, 0.05))
    return fate


def main() -> None:
    """Run crowds against a server and print the response times of well-behaved clients."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("crowds", nargs="*", default=list(CROWDS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--number", type=int, default=1500)
    parser.add_argument("--returning", type=float, default=0)
    parser.add_argument("--nginx", action="store_true")
    options = parser.parse_args()
    # The crowd does not need it. pylint: disable-next=import-outside-toplevel
    from tests.support.servers import gunicorn, nginx

    for kind in options.crowds:
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            server = stack.enter_context(gunicorn(Path(name), python=()))
            port = server.port
            if options.nginx:
                port = stack.enter_context(nginx(Path(name), server, direct=False)).port
            fate = fare(kind, port, options.number, options.seconds, waits=(0, options.returning))
            memory = sum(
                int(line.split()[1])
                for pid in server.processes()
                for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
                if line.startswith("VmHWM")
            )
            print(f"{kind}: {fate}; memory {memory >> 10} MiB", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] == ["--besiege"]:
        besiege(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), json.loads(sys.argv[5]), float(sys.argv[6]))
    main()
