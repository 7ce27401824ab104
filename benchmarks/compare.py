"""Compare two work trees of this project: `python -m benchmarks.compare TREE TREE`.

Both servers run at once, each with its own deploy/gunicorn.conf.py. In each round they do the same work
one after the other, and take turns at going first. A figure is the median of the rounds; ratios, second ÷
first, are taken within each round. To measure a part of the worker, give the same tree twice and `--conf`
for the second.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.client import BOUNDARY, MIB, UNIT, Connection, Payload, form_frame, whole_units
from benchmarks.lineup import WSGIStore
from benchmarks.load import CONNECTIONS, PLACE, SMALL, wrk
from benchmarks.report import table
from benchmarks.servers import WORKERS, head
from tests.support.peaks import Peak

ROUNDS = 15


class Measured(NamedTuple):
    """Units of work per second, CPU seconds per unit, and memory growth in MiB."""

    rate: float
    cost: float
    growth: float


Figures = defaultdict[str, list[tuple[Measured, Measured]]]


class Tree(WSGIStore):
    """This project, run from a work tree with settings of its own: `NAME=VALUE`."""

    workers = WORKERS

    def __init__(
        self, directory: Path, tree: Path, settings: Iterable[str] = (), *, sync: bool = False
    ) -> None:
        super().__init__(directory, sync=sync)
        self.project = tree
        self.conf = Path("deploy/gunicorn.conf.py")
        self._environ = dict(setting.split("=", 1) for setting in settings)

    def command(self) -> list[str]:
        """Return the command, with the tree's own environment if it has one."""
        python = self.project / ".venv/bin/python"
        command = [str(python) if python.exists() else sys.executable, "-m", "gunicorn"]
        command += ["-c", str(self.conf), "--workers", str(self.workers)]
        return [*command, "--bind", f"127.0.0.1:{self.port}"]

    def environ(self) -> dict[str, str]:
        """Return the settings, its own last."""
        return {**super().environ(), **self._environ}

    def peak(self) -> Peak:
        """Start to watch the peak memory."""
        return Peak(self.processes())


class Works:
    """The work for both trees; each kind returns the amount done, in requests or bytes."""

    def __init__(self, payload: Payload, options: argparse.Namespace) -> None:
        self._payload = payload
        self._seconds: float = options.seconds
        self._connections: int = options.connections
        self._size: int = options.size * MIB
        self._times: int = options.times
        self._small = self._big = ""

    def begin(self, tree: Tree) -> None:
        """Add the blobs to download to a server."""
        with Connection(tree.port) as connection:
            body = b"x" * SMALL
            answer = connection.ask(tree.request("", SMALL) + body)
            self._small = json.loads(answer.body)["hash"]
            big = self._payload.body("raw", self._size)
            connection.send(tree.request("", big.length), replace(big, after=bytes(len(big.after))))
            self._big = json.loads(connection.answer().body)["hash"]

    def all(self) -> dict[str, Callable[[Tree], float]]:
        """Return the kinds of work by name."""
        return {
            "get": lambda tree: self._load(tree, head("GET", tree.path(self._small))),
            "get-new": lambda tree: self._load(
                tree, head("GET", tree.path(self._small), "Connection: close")
            ),
            "post": self._post,
            "post-chunked": self._post_chunked,
            "post-form": self._post_form,
            "upload": lambda tree: self._upload(tree, "raw"),
            "chunked": lambda tree: self._upload(tree, "chunked"),
            "form": lambda tree: self._upload(tree, "form"),
            "download": self._download,
        }

    def _load(self, tree: Tree, request: bytes) -> float:
        return wrk(tree.port, request, self._seconds, self._connections).rate * self._seconds

    def _post(self, tree: Tree) -> float:
        body = PLACE.encode() + b"x" * (SMALL - len(PLACE))
        return self._load(tree, tree.request(PLACE, len(body)) + body)

    def _post_chunked(self, tree: Tree) -> float:
        body = PLACE.encode() + b"x" * (SMALL - len(PLACE))
        return self._load(tree, tree.request(PLACE, None) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    def _post_form(self, tree: Tree) -> float:
        before, after = form_frame("file", (), "file")
        body = before + PLACE.encode() + b"x" * (SMALL - len(PLACE)) + after
        fields = (f"Content-Type: multipart/form-data; boundary={BOUNDARY}",)
        return self._load(tree, tree.request(PLACE, len(body), fields) + body)

    def _upload(self, tree: Tree, kind: str) -> float:
        for _ in range(self._times):
            body = self._payload.body(kind, self._size, ("file", ()))
            with Connection(tree.port) as connection:
                tree.upload(connection, body)
        return float(self._times * self._size)

    def _download(self, tree: Tree) -> float:
        with Connection(tree.port) as connection:
            return float(
                sum(connection.download(head("GET", tree.path(self._big)))[1] for _ in range(self._times))
            )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trees", nargs=2, type=Path, metavar="TREE")
    parser.add_argument("--work", nargs="+", default=["get", "get-new", "post", "upload", "download"])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=int, default=1, help="duration of each load by wrk; default: %(default)s"
    )
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, help="connections of wrk; default: %(default)s"
    )
    parser.add_argument(
        "--size", type=whole_units, default=256, help="size of big files in MiB, a multiple of 64"
    )
    parser.add_argument("--times", type=int, default=1, help="how often a big file moves in each round")
    parser.add_argument("--chunk", type=int, default=64, help="size of the chunks of chunked uploads in KiB")
    parser.add_argument("--sync", action="store_true", help="use durability full; for a disk")
    parser.add_argument("--at", type=Path, default="/dev/shm", help="where to make the stores")
    parser.add_argument("--conf", type=Path, help="gunicorn settings for the second tree, see without/")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="environment of both servers"
    )
    return parser.parse_args()


def main() -> None:
    """Measure and print a table."""
    # SystemExit stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = arguments()
    figures: Figures = defaultdict(list)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-", dir=options.at)))
        payload = stack.enter_context(closing(Payload(place, options.chunk << 10)))
        works = Works(payload, options)
        servers = []
        for number, tree in enumerate(options.trees):
            server = Tree(place / str(number), tree.resolve(), options.set, sync=options.sync)
            if number and options.conf:
                server.conf = options.conf.resolve()
            servers.append(stack.enter_context(server))
            works.begin(server)
            server.keep()
        for number in range(-1, options.rounds):  # the first round warms up
            for name in options.work:
                found = {}
                for which in (0, 1) if number % 2 else (1, 0):
                    found[which] = _measure(servers[which], works.all()[name])
                if number >= 0:
                    figures[name].append((found[0], found[1]))
    print(f"{options.rounds} rounds, {' '.join(sys.argv[1:])}")
    head_ = ["work", "first", "second", "", "ratio of rates", "ratio of processor time", "memory growth, MiB"]
    print(table(head_, [_row(name, pairs) for name, pairs in figures.items()]))


def _measure(server: Tree, work: Callable[[Tree], float]) -> Measured:
    peak = server.peak()
    used = server.cpu()
    begin = time.perf_counter()
    amount = work(server)
    seconds = time.perf_counter() - begin
    measured = Measured(amount / seconds, (server.cpu() - used) / amount, peak.growth() / MIB)
    server.clear()
    return measured


def _row(name: str, pairs: list[tuple[Measured, Measured]]) -> list[str]:
    big = pairs[0][0].rate > UNIT / 16
    rates = [statistics.median(one.rate for one in ones) / (1e6 if big else 1) for ones in zip(*pairs)]
    growths = [statistics.median(one.growth for one in ones) for ones in zip(*pairs)]
    return [
        name,
        *(f"{rate:,.0f}" for rate in rates),
        "MB/s" if big else "/s",
        _ratio([second.rate / first.rate for first, second in pairs]),
        _ratio([second.cost / first.cost for first, second in pairs if first.cost]),
        " → ".join(f"{growth:.1f}" for growth in growths),
    ]


def _ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else ""


if __name__ == "__main__":
    main()
