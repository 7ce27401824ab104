"""The work for every server, done on all of them round by round."""

import argparse
import hashlib
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks import load
from benchmarks.client import UNIT, Body, Connection, Failure, Payload, whole_units
from benchmarks.durable import BareLoop
from benchmarks.lineup import Direct, Registry
from benchmarks.load import Load
from benchmarks.servers import Server, head

PARALLEL = 16


class Key(NamedTuple):
    """The key of a figure: place, work, server."""

    place: str
    work: str
    server: str


# The figures of every round.
Figures = defaultdict[Key, dict[int, float]]


@dataclass
class Bench:
    """The parameters of the work: payload, blobs, sizes and durations."""

    payload: Payload
    rounds: int
    size: int  # of a big file
    transfer: int  # of the transfers during which memory is watched
    seconds: float  # the duration of each load
    big: str = ""
    small: str = ""
    figures: Figures = field(default_factory=lambda: defaultdict(dict))
    failures: list[str] = field(default_factory=list)

    def body(self, server: Server, kind: str, size: int) -> Body:
        """Return a new body, as a form if the server accepts only forms."""
        if kind not in server.takes:
            kind = "form"
        return self.payload.body(kind, size, (server.file_field, server.form_fields))

    def note(self, failure: str) -> None:
        """Record a failure and print it at once."""
        self.failures.append(failure)
        print(f"! {failure}", file=sys.stderr)


def add_size(parser: argparse.ArgumentParser) -> None:
    """Add the option for the size of a big file."""
    parser.add_argument(
        "--size",
        type=whole_units,
        default=1024,
        help="size of a big file in MiB, a multiple of 64; default: %(default)s",
    )


class Work(NamedTuple):
    """A kind of work, measured in MB/s or in requests per second."""

    name: str
    title: str
    run: Callable[[Server, Bench], "float | Load"]
    fits: Callable[[Server], bool]


def upload(kind: str) -> Callable[[Server, Bench], float]:
    """Upload one big file in a body of this kind."""

    def run(server: Server, bench: Bench) -> float:
        body = bench.body(server, kind, bench.size)
        begin = time.perf_counter()
        with Connection(server.port) as connection:
            server.upload(connection, body)
        return body.size / (time.perf_counter() - begin) / 1e6

    return run


def parallel(server: Server, bench: Bench) -> float:
    """Upload many files at once."""
    bodies = [bench.body(server, "raw", UNIT) for _ in range(PARALLEL)]
    failures: list[Exception] = []

    def one(body: Body) -> None:
        try:
            with Connection(server.port) as connection:
                server.upload(connection, body)
        except (OSError, Failure) as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(body,)) for body in bodies]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if failures:
        raise failures[0]
    return sum(body.size for body in bodies) / seconds / 1e6


def download(server: Server, bench: Bench, times: int = 2) -> float:
    """Download the big blob."""
    request = head("GET", server.path(bench.big))
    return _download(server, request, 200, bench.size, times)


def middle(server: Server, bench: Bench, times: int = 8) -> float:
    """Download 64 MiB from the middle of the big blob."""
    start = bench.size // 2 - UNIT // 2
    request = head("GET", server.path(bench.big), f"Range: bytes={start}-{start + UNIT - 1}")
    return _download(server, request, 206, UNIT, times)


def _download(server: Server, request: bytes, status: int, length: int, times: int) -> float:
    begin = time.perf_counter()
    with Connection(server.port) as connection:
        for _ in range(times):
            answer = connection.download(request)
            if answer != (status, length):
                raise Failure(f"{server.title} answered {answer}, not {(status, length)}")
    return times * length / (time.perf_counter() - begin) / 1e6


def post(server: Server, bench: Bench) -> Load:
    """Store small files, through a server or directly."""
    if isinstance(server, BareLoop):
        return server.run(bench.seconds)
    return load.post(server, bench.small, bench.seconds)


def _serves(server: Server) -> bool:
    return bool(server.takes)


def _one_request(server: Server) -> bool:
    # The registry needs two requests, and the second repeats a value from the response to the first.
    return not isinstance(server, Direct | Registry)


def _loading(
    run: Callable[[Server, str, float], Load],
) -> Callable[[Server, Bench], Load]:
    return lambda server, bench: run(server, bench.small, bench.seconds)


WORKS = [
    Work("upload", "upload", upload("raw"), _serves),
    Work("form", "upload, multipart", upload("form"), lambda server: {"raw", "form"} <= server.takes),
    Work("chunked", "upload, chunked", upload("chunked"), lambda server: "chunked" in server.takes),
    Work("parallel", "16 uploads of 64 MiB at once", parallel, _serves),
    Work("download", "download", download, _serves),
    Work("middle", "range of 64 MiB", middle, _serves),
    Work("get", "GET of 4 KiB", _loading(load.get), lambda server: not isinstance(server, BareLoop)),
    Work("head", "HEAD", _loading(load.ask_head), _serves),
    Work("304", "GET answered 304", _loading(load.not_modified), _serves),
    Work("post", "POST of 4 KiB", post, _one_request),
]
# The work that is measured with wrk.
BY_WRK = {"get", "304", "post"}


def check(server: Server, bench: Bench) -> None:
    """Check once that a server returns its blobs whole and keeps uploads."""
    if isinstance(server, BareLoop):
        return
    digests = {bench.small: bench.small}
    if _serves(server):
        digests[bench.big] = bench.big
        for kind in server.takes:
            body = bench.body(server, kind, UNIT)
            with Connection(server.port) as connection:
                server.upload(connection, body)
            if server.keeps:
                digests[server.stored(body)] = body.digest
    for name, digest in digests.items():
        sha256 = hashlib.sha256()
        with Connection(server.port) as connection:
            status, _ = connection.download(head("GET", server.path(name)), sha256.update)
        if status != 200 or sha256.hexdigest() != digest:
            raise Failure(f"{server.title} answered {status} with wrong bytes")
    server.clear()


def prepare(servers: Sequence[Server], bench: Bench, big: Path, small: Path) -> list[Server]:
    """Add the blobs to every server and start it; return the servers that work."""
    working = []
    for server in servers:
        server.place(big, bench.big)
        server.place(small, bench.small)
        try:
            server.start()
            server.keep()
            check(server, bench)
            working.append(server)
        except (OSError, Failure) as error:
            server.stop()
            bench.note(f"{server.title}: {error}")
    return working


def rounds(place: str, servers: Sequence[Server], works: Sequence[Work], bench: Bench) -> None:
    """Do all the work on all servers, in an order that changes from round to round."""
    order = random.Random(0)
    for number in range(bench.rounds):
        print(f"{place}: round {number + 1} of {bench.rounds}", file=sys.stderr)
        for work in works:
            for server in order.sample(list(servers), len(servers)):
                if work.fits(server):
                    _measure(Key(place, work.name, server.title), work, server, number, bench)


def _measure(key: Key, work: Work, server: Server, number: int, bench: Bench) -> None:
    try:
        figure = work.run(server, bench)
    except (OSError, Failure) as error:
        bench.note(f"{key.place}, {work.title}, {server.title}: {error}")
        return
    finally:
        server.clear()
    if isinstance(figure, Load):
        for name, value in zip(("p50", "p99"), figure[1:], strict=True):
            bench.figures[key._replace(work=f"{work.name} {name}")][number] = value * 1000
        figure = figure.rate
    bench.figures[key][number] = figure
