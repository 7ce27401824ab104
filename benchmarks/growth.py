"""The cost of a request as the store grows: a small and a large store, measured in turn."""

import hashlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import fill
from benchmarks.client import MIB, Connection, Failure
from benchmarks.lineup import Unsynced
from benchmarks.load import SMALL
from benchmarks.servers import Server, head
from benchmarks.work import Bench, Key

PLACE = "growth"
REQUESTS = 300
PAGES = 30


def title(count: int) -> str:
    """Return the title of a store with `count` blobs."""
    return f"{count:,} blobs"


def measure(directory: Path, counts: tuple[int, int], bench: Bench) -> None:
    """Measure the latency of single requests, the memory, and the time of a restart."""
    with ExitStack() as stack:
        servers = {}
        for count in counts:
            server = Unsynced(directory / str(count))
            begin = time.monotonic()
            fill.fill(server.data, count)
            print(f"filled a store with {title(count)} in {time.monotonic() - begin:.0f} s", file=sys.stderr)
            servers[count] = stack.enter_context(server)
        # Otherwise the kernel would still be writing the new files to disk during the measurement.
        os.sync()
        order = random.Random(0)
        for number in range(-1, bench.rounds):
            print(f"{PLACE}: round {number + 1} of {bench.rounds}", file=sys.stderr)
            for count in order.sample(counts, len(counts)):
                for work, value in _round(servers[count], count, order).items():
                    if number >= 0:  # the first round warms up
                        bench.figures[Key(PLACE, work, title(count))][number] = value
        for number in range(bench.rounds):
            for count in order.sample(counts, len(counts)):
                server = servers[count]
                memory = sum(server.pss()) / MIB
                bench.figures[Key(PLACE, "memory", title(count))][number] = memory
                server.stop()
                bench.figures[Key(PLACE, "restart", title(count))][number] = server.start() * 1000
                _round(server, count, order)


def _round(server: Server, count: int, order: random.Random) -> dict[str, float]:
    """Return the median latency of each kind of request, in milliseconds."""
    held = [head("GET", f"/{fill.digest(order.randrange(count))}") for _ in range(REQUESTS)]
    pages = [head("GET", f"/files?after={order.randbytes(32).hex()}") for _ in range(PAGES)]
    uploads = []
    added = []
    for _ in range(REQUESTS):
        body = order.randbytes(SMALL)
        uploads.append(head("POST", "/", f"Content-Length: {SMALL}") + body)
        added.append(head("DELETE", f"/{hashlib.sha256(body).hexdigest()}"))
    with Connection(server.port) as connection:
        return {
            "get": _median(connection, held),
            "post": _median(connection, uploads),
            "delete": _median(connection, added),
            "page": _median(connection, pages),
            "walk": _walk(connection),
        }


def _walk(connection: Connection) -> float:
    """Return the median latency of successive pages of the listing, in milliseconds."""
    waited = []
    target = "/files"
    for _ in range(PAGES):
        begin = time.perf_counter()
        answer = connection.ask(head("GET", target))
        waited.append(time.perf_counter() - begin)
        if answer.status != 200:
            raise Failure(f"{target} answered {answer.status}")
        target = json.loads(answer.body)["next"] or "/files"
    return statistics.median(waited) * 1000


def _median(connection: Connection, requests: Iterable[bytes]) -> float:
    waited = []
    for request in requests:
        begin = time.perf_counter()
        answer = connection.ask(request)
        waited.append(time.perf_counter() - begin)
        if answer.status != 200:
            raise Failure(f"{request[:80]!r} answered {answer.status}")
    return statistics.median(waited) * 1000
