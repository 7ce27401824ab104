"""`python -m benchmarks.uploads`: what it costs to send a file in pieces, by tus.

`make clients` installs @tus/server. All servers run at once and do the same work, one after the other in an
order that changes from round to round; ratios are taken within each round. @tus/server neither hashes nor
syncs, so the server that is compared with it does not sync either.
"""

import argparse
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks import load, needs
from benchmarks.client import MIB, UNIT, Connection, Failure, Payload
from benchmarks.lineup import Unsynced, WSGIStore
from benchmarks.load import SMALL, Load
from benchmarks.report import figures_table, print_goals
from benchmarks.servers import Server, Target, head
from benchmarks.targets import Goal
from benchmarks.work import Bench, Key, Work, add_size, rounds, upload
from tests.support.node import installed, node
from tests.support.peaks import Peak

ROUNDS = 9
CHUNK = 5 * MIB
OPEN = 1000
MEMORY, DISK = "uploads", "uploads, on disk"
TITLES = {
    "upload": "POST, MB/s",
    "patch": "one PATCH, MB/s",
    "chunks": "PATCHes of 5 MiB, MB/s",
    "get": "GET of 4 KiB, req/s",
    "growth": "growth of PSS, MiB",
}


class TusServer(Server):
    """The reference server of tus, with its file store."""

    title = "@tus/server"
    takes = frozenset({"tus"})
    ready = "/uploads/none"

    def command(self) -> list[str]:
        """Return the command: one process, as it is documented."""
        return node("peer.mjs", str(self.data), str(self.port))

    def target(self, name: str) -> Target:
        """Raise NotImplementedError, because it takes tus only."""
        raise NotImplementedError


class Crowded(Unsynced):
    """This project, with many unfinished uploads."""

    title = "wsgi_store, 1,000 open uploads"


class BareLoop(Server):
    """A loop instead of a server: write(2) and fdatasync(2) for each chunk."""

    title = "bare loop"
    takes = frozenset()

    def start(self) -> float:
        """Start nothing."""
        return 0.0

    def target(self, name: str) -> Target:
        """Raise NotImplementedError, because nothing is sent."""
        raise NotImplementedError


def goals() -> Iterator[Goal]:
    """Return the goals."""
    post = Key(MEMORY, "upload", Unsynced.title)
    patch = post._replace(work="patch")
    chunks = post._replace(work="chunks")
    yield Goal("one PATCH ÷ POST", 0.95, patch, post)
    yield Goal("PATCHes of 5 MiB ÷ POST", 0.8, chunks, post)
    yield Goal("one PATCH ÷ @tus/server", 1.5, patch, patch._replace(server=TusServer.title))
    yield Goal("PATCHes of 5 MiB ÷ @tus/server", 1.5, chunks, chunks._replace(server=TusServer.title))
    durable = Key(DISK, "chunks", WSGIStore.title)
    yield Goal("durable PATCHes of 5 MiB ÷ bare loop", 0.7, durable, durable._replace(server=BareLoop.title))
    yield Goal(
        "durable, one PATCH ÷ POST", 0.95, durable._replace(work="patch"), durable._replace(work="upload")
    )
    get = Key(MEMORY, "get", Crowded.title)
    yield Goal("GET beside 1,000 open uploads ÷ without", 0.95, get, get._replace(server=Unsynced.title))
    for work in ("patch", "chunks"):
        growth = Key(MEMORY, f"growth, {work}", Unsynced.title)
        yield Goal(f"memory growth, {TITLES[work].partition(',')[0]}", 16, growth, at_most=True, unit="MiB")


def create(connection: Connection, size: int) -> str:
    """Create an upload; return its path."""
    fields = ("Tus-Resumable: 1.0.0", f"Upload-Length: {size}", "Content-Length: 0")
    answer = connection.ask(head("POST", "/uploads", *fields))
    location = answer.field("Location")
    if answer.status != 201 or location is None:
        raise Failure(f"a creation was answered {answer.status}: {answer.body[:200]!r}")
    return location.removeprefix("http://127.0.0.1").lstrip(":0123456789")


def send(server: Server, bench: Bench, chunk: int) -> None:
    """Upload a file in pieces of `chunk` bytes, the last of which makes it unique."""
    unique = secrets.token_bytes(MIB)
    size = bench.size + len(unique)
    file = bench.payload.raw.fileno()
    with Connection(server.port) as connection:
        path, offset = create(connection, size), 0
        while offset < size:
            end = min(offset + chunk, size)
            fields = ("Tus-Resumable: 1.0.0", f"Upload-Offset: {offset}", f"Content-Length: {end - offset}")
            request = head("PATCH", path, "Content-Type: application/offset+octet-stream", *fields)
            connection.socket.sendall(request)
            while offset < min(end, bench.size):
                place = offset % UNIT
                most = min(UNIT - place, min(end, bench.size) - offset)
                offset += os.sendfile(connection.socket.fileno(), file, place, most)
            if offset < end:
                connection.socket.sendall(unique[offset - bench.size : end - bench.size])
                offset = end
            answer = connection.answer()
            if answer.status != 204:
                raise Failure(f"{server.title} answered {answer.status} to a PATCH: {answer.body[:200]!r}")


def sending(chunk: int | None) -> Callable[[Server, Bench], float]:
    """Return the work: upload a big file in pieces."""

    def run(server: Server, bench: Bench) -> float:
        size = bench.size + MIB
        begin = time.perf_counter()
        if isinstance(server, BareLoop):
            write(server, bench, chunk or size)
        else:
            send(server, bench, chunk or size)
        return size / (time.perf_counter() - begin) / 1e6

    return run


def write(server: Server, bench: Bench, chunk: int) -> None:
    """Write the same bytes and sync each chunk."""
    data = os.pread(bench.payload.raw.fileno(), chunk, 0)
    fd = os.open(server.data / secrets.token_hex(8), os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(0, bench.size + MIB, chunk):
            os.write(fd, data)
            os.fdatasync(fd)
    finally:
        os.close(fd)


def growth(chunk: int | None) -> Callable[[Server, Bench], float]:
    """Return the work: upload a big file and watch the memory."""

    def run(server: Server, bench: Bench) -> float:
        peak = Peak(server.processes())
        send(server, bench, chunk or bench.size + MIB)
        return peak.growth() / MIB

    return run


def get(server: Server, bench: Bench) -> Load:
    """Load a small blob many times."""
    return load.get(server, bench.small, bench.seconds)


def works(place: str) -> list[Work]:
    """Return the work at a place."""

    def among(*kinds: type[Server]) -> Callable[[Server], bool]:
        titles = [kind.title for kind in kinds]
        return lambda server: server.title in titles

    works_ = [
        Work("upload", "POST", upload("raw"), among(WSGIStore, Unsynced)),
        Work("patch", "PATCH", sending(None), among(WSGIStore, Unsynced, TusServer)),
        Work("chunks", "PATCHes", sending(CHUNK), among(WSGIStore, Unsynced, TusServer, BareLoop)),
    ]
    if place == MEMORY:
        works_ += [
            Work("get", "GET", get, among(Unsynced, Crowded)),
            Work("growth, patch", "memory", growth(None), among(Unsynced)),
            Work("growth, chunks", "memory", growth(CHUNK), among(Unsynced)),
        ]
    return works_


def prepare(server: Server, small: bytes) -> str:
    """Store a small blob and open uploads; return the blob's hash."""
    digest = ""
    if isinstance(server, WSGIStore):
        with Connection(server.port) as connection:
            answer = connection.ask(server.request("small", len(small)) + small)
            digest = answer.body.decode().partition('"hash":')[2].strip(' "')[:64]
            if isinstance(server, Crowded):
                for _ in range(OPEN):
                    create(connection, MIB)
    server.keep()
    return digest


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.uploads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=2, help="of each load by wrk; default: %(default)s")
    add_size(parser)
    parser.add_argument("--disk", type=Path, help="also measure durable uploads, in this directory")
    parser.add_argument("--at", type=Path, default="/dev/shm", help="where to make the other stores")
    return parser.parse_args()


def measure(place: str, kinds: list[type[Server]], at: Path, bench: Bench) -> None:
    """Do the work on all servers of a place."""
    small = os.urandom(SMALL)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="uploads-", dir=at)))
        servers = [kind(directory / kind.__name__, sync=place == DISK) for kind in kinds]
        for server in servers:
            bench.small = prepare(stack.enter_context(server), small) or bench.small
        rounds(place, servers, works(place), bench)


def main() -> None:
    """Measure and print two tables."""
    options = arguments()
    needs.require("benchmarks.uploads", ["wrk"])
    if installed() is None:
        sys.exit("benchmarks.uploads needs the packages of tests/node: run npm ci there")
    # SystemExit stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.at)))
        payload = stack.enter_context(closing(Payload(directory)))
        # The first round warms up.
        bench = Bench(payload, options.rounds + 1, options.size * MIB, 0, options.seconds)
        measure(MEMORY, [Unsynced, Crowded, TusServer], options.at, bench)
        if options.disk is not None:
            measure(DISK, [WSGIStore, BareLoop], options.disk, bench)
    print_goals(goals(), bench.figures, options.rounds)
    for place in (MEMORY, DISK):
        print(figures_table(bench.figures, place, TITLES, Unsynced.title), "\n")


if __name__ == "__main__":
    main()
