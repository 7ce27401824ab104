"""`python -m benchmarks.names TREE`: what sha256, BLAKE3 and a further name cost.

TREE is a work tree of the version to compare with. All servers run at once and do the same work, one after
the other in an order that changes from round to round; ratios are taken within each round. nginx does not
sync what it stores, so the server that is compared with it does not either.
"""

import argparse
import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks import load, needs
from benchmarks.client import MIB, Connection, Failure, Payload
from benchmarks.compare import Tree
from benchmarks.lineup import Nginx
from benchmarks.load import SMALL, Load
from benchmarks.report import figures_table, print_goals
from benchmarks.servers import Server, head
from benchmarks.targets import Goal
from benchmarks.work import Bench, Key, Work, add_size, rounds, upload

HERE = Path(__file__).parent.parent
ROUNDS = 9
BEFORE, PLAIN, NAMED, BLAKE3 = "before", "sha256", "sha256 and md5", "blake3, unsynced"
PLACE = "names"
TITLES = {
    "upload": "upload, MB/s",
    "get": "GET of 4 KiB, req/s",
    "get by md5": "GET of 4 KiB by md5, req/s",
    "post": "POST of 4 KiB, req/s",
}
NEEDED = {"upload": ["nginx"], "get": ["wrk"], "post": ["wrk"]}


def goals() -> Iterator[Goal]:
    """Return the goals."""

    def ratio(title: str, bound: float, work: str, server: str, other: tuple[str, str]) -> Goal:
        return Goal(title, bound, Key(PLACE, work, server), Key(PLACE, *other))

    yield ratio("upload, sha256 ÷ before", 0.97, "upload", PLAIN, ("upload", BEFORE))
    yield ratio("upload, sha256 and md5 ÷ sha256", 0.55, "upload", NAMED, ("upload", PLAIN))
    yield ratio("upload, blake3 ÷ nginx DAV", 1.0, "upload", BLAKE3, ("upload", Nginx.title))
    yield ratio("GET, by primary name ÷ before", 0.97, "get", PLAIN, ("get", BEFORE))
    yield ratio("GET, by further name ÷ by primary name", 0.85, "get by md5", NAMED, ("get", NAMED))
    yield ratio("POST, with a further name ÷ without", 0.6, "post", NAMED, ("post", PLAIN))


def works(further: str) -> dict[str, list[Work]]:
    """Return the work by the names of the command line; `further` is the md5 of the small blob."""

    def among(*titles: str) -> Callable[[Server], bool]:
        return lambda server: server.title in titles

    def get(server: Server, bench: Bench) -> Load:
        return load.get(server, bench.small, bench.seconds)

    def get_further(server: Server, bench: Bench) -> Load:
        return load.get(server, further, bench.seconds)

    def post(server: Server, bench: Bench) -> Load:
        return load.post(server, bench.small, bench.seconds)

    return {
        "upload": [Work("upload", "upload", upload("raw"), lambda _: True)],
        "get": [
            Work("get", "GET", get, among(BEFORE, PLAIN, NAMED)),
            Work("get by md5", "GET by md5", get_further, among(NAMED)),
        ],
        "post": [Work("post", "POST", post, among(BEFORE, PLAIN, NAMED))],
    }


def line_up(place: Path, before: Path, chosen: list[str], *, sync: bool) -> list[Server]:
    """Return the servers that the chosen work needs."""

    def tree(title: str, project: Path, *settings: str) -> Tree:
        server = Tree(place / title, project.resolve(), settings, sync=sync)
        server.title = title
        return server

    servers: list[Server] = [
        tree(BEFORE, before),
        tree(PLAIN, HERE),
        tree(NAMED, HERE, "WSGI_STORE_NAMES=md5"),
    ]
    if "upload" in chosen:
        servers.append(tree(BLAKE3, HERE, "WSGI_STORE_HASH=blake3", "WSGI_STORE_DURABILITY=none"))
        servers.append(Nginx(place / Nginx.title, sync=sync))
    return servers


def begin(server: Server, small: bytes, further: str) -> None:
    """Store the small blob and see that the server returns it under each name."""
    with Connection(server.port) as connection:
        answer = connection.ask(server.request("small", len(small)) + small)
        if answer.status not in (200, 201):
            raise Failure(f"{server.title} answered {answer.status} to an upload: {answer.body[:200]!r}")
        names = [hashlib.sha256(small).hexdigest()] if server.title in (BEFORE, PLAIN, NAMED) else []
        names += [further] if server.title == NAMED else []
        for name in names:
            if connection.ask(head("GET", server.path(name))).body != small:
                raise Failure(f"{server.title} did not return the blob under the name {name}")
    server.keep()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.names",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tree", type=Path, metavar="TREE")
    parser.add_argument("--work", nargs="+", choices=list(NEEDED), default=list(NEEDED), help="do only this")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=int, default=2, help="duration of each load by wrk; default: %(default)s"
    )
    add_size(parser)
    parser.add_argument("--sync", action="store_true", help="use durability full; for a disk")
    parser.add_argument("--at", type=Path, default="/dev/shm", help="where to make the stores")
    return parser.parse_args()


def main() -> None:
    """Measure and print two tables."""
    options = arguments()
    needs.require("benchmarks.names", sorted({name for work in options.work for name in NEEDED[work]}))
    # SystemExit stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    small = os.urandom(SMALL)
    further = hashlib.md5(small, usedforsecurity=False).hexdigest()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="names-", dir=options.at)))
        payload = stack.enter_context(closing(Payload(place)))
        # The first round warms up.
        bench = Bench(payload, options.rounds + 1, options.size * MIB, 0, options.seconds)
        bench.small = hashlib.sha256(small).hexdigest()
        servers = line_up(place, options.tree, options.work, sync=options.sync)
        for server in servers:
            begin(stack.enter_context(server), small, further)
        rounds(PLACE, servers, [work for name in options.work for work in works(further)[name]], bench)
    print_goals(goals(), bench.figures, options.rounds)
    print(figures_table(bench.figures, PLACE, TITLES, PLAIN))


if __name__ == "__main__":
    main()
