"""The cost of one server alone: time to start, memory."""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.client import MIB, Connection, Failure
from benchmarks.lineup import WSGIStore
from benchmarks.servers import Server, head
from benchmarks.work import Bench, Key

PLACE = "alone"
# Seconds between a start or a request and measuring memory, because a server may still be working.
SETTLE = 0.5
STATEMENT = """
import time
begin = time.perf_counter()
import wsgi_store.wsgi
print(time.perf_counter() - begin)
"""


def measure(kinds: Sequence[type[Server]], directory: Path, big: Path, bench: Bench) -> None:
    """Start each server once per round; in the last round, also transfer big files."""
    for number in range(bench.rounds):
        print(f"{PLACE}: round {number + 1} of {bench.rounds}", file=sys.stderr)
        bench.figures[Key(PLACE, "import", WSGIStore.title)][number] = import_time(directory) * 1000
        for kind in kinds:
            server = kind(directory / "alone")
            try:
                server.place(big, bench.big)
                _one(server, number, bench)
            except (OSError, Failure) as error:
                bench.note(f"{PLACE}, {kind.title}: {error}")
            finally:
                server.stop()
                shutil.rmtree(server.directory)


def import_time(directory: Path) -> float:
    """Return the seconds that a new process needs to import the application."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_STORE_")}
    environ = {**kept, "WSGI_STORE_ROOT": str(directory / "imported")}
    command = [sys.executable, "-c", STATEMENT]
    project = Path(__file__).parent.parent
    done = subprocess.run(command, env=environ, cwd=project, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _one(server: Server, number: int, bench: Bench) -> None:
    def note(what: str, value: float) -> None:
        bench.figures[Key(PLACE, what, server.title)][number] = value

    note("start", server.start() * 1000)
    with Connection(server.port) as connection:
        connection.ask(head("HEAD", server.path(bench.big)))
    time.sleep(SETTLE)
    idle = server.pss()
    note("idle", sum(idle) / MIB)
    if len(idle) > 1:
        note("worker", statistics.median(idle[1:]) / MIB)
    if number < bench.rounds - 1:
        return
    body = bench.body(server, "raw", bench.transfer)

    def send() -> None:
        with Connection(server.port) as connection:
            server.upload(connection, body)

    def receive() -> None:
        with Connection(server.port) as connection:
            for _ in range(bench.transfer // bench.size):
                connection.download(head("GET", server.path(bench.big)))

    for what, move in {"growth, upload": send, "growth, download": receive}.items():
        before = sum(server.pss())
        note(what, (highest(server, move) - before) / MIB)


def highest(server: Server, move: Callable[[], None]) -> int:
    """Return the peak memory of a server during `move`, in bytes."""
    with _watched(server) as seen:
        move()
    return max(seen)


@contextlib.contextmanager
def _watched(server: Server) -> Iterator[list[int]]:
    seen: list[int] = []
    end = threading.Event()

    def watch() -> None:
        while not end.wait(0.05):
            seen.append(sum(server.pss()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        end.set()
        watcher.join()
        seen.append(sum(server.pss()))
