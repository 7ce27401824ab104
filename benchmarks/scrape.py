"""The cost of a scrape of /metrics as workers are replaced: `python -m benchmarks.scrape TREE...`.

Each work tree of this project is started with the given numbers of workers. With the last number, all workers
are replaced (SIGHUP) again and again, and each generation answers requests of several kinds.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.client import MIB, Connection, Failure
from benchmarks.compare import Tree
from benchmarks.report import table
from benchmarks.servers import head

SCRAPES = 30
# Enough separate connections for each worker to get a request.
REQUESTS = 16
PREFIX = "wsgi-store-metrics-"
SECONDS = 30


class Counting(Tree):
    """This project from a work tree, with metrics and workers that start quickly."""

    def command(self) -> list[str]:
        """Return the command, which loads the application in the master."""
        return [*super().command(), "--preload", "--workers", str(self.workers)]

    workers = 2

    def environ(self) -> dict[str, str]:
        """Return the settings, with metrics."""
        return {**super().environ(), "WSGI_STORE_METRICS": "on"}

    def figures(self) -> Path:
        """Return the directory of the shared counts."""
        for link in Path(f"/proc/{self.processes()[0]}/fd").iterdir():
            if (path := Path(os.readlink(link))).name.startswith(PREFIX):
                return path
        raise Failure("it does not count")

    def be_asked(self) -> None:
        """Send requests of several kinds."""
        for number in range(REQUESTS):
            for request in (
                head("POST", "/", "Content-Length: 8") + b"%8d" % number,
                head("GET", f"/{'0' * 64}"),
                head("GET", "/healthz"),
            ):
                with Connection(self.port) as connection:
                    connection.ask(request)

    def replace(self) -> None:
        """Replace all workers."""
        assert self.process is not None
        before = set(self.processes()[1:])
        self.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + SECONDS
        while before & set(now := self.processes()[1:]) or len(now) < self.workers:
            if time.monotonic() > end:
                raise Failure("workers were not replaced")
            time.sleep(0.01)
        self.be_asked()

    def scrapes(self) -> tuple[float, float, int]:
        """Return the median time and the CPU time of a scrape, both in ms, and its size in bytes."""
        waited = []
        used = self.cpu()
        with Connection(self.port) as connection:
            for _ in range(SCRAPES):
                begin = time.perf_counter()
                answer = connection.ask(head("GET", "/metrics"))
                waited.append(time.perf_counter() - begin)
                if answer.status != 200:
                    raise Failure(f"{answer.status} to a scrape")
        cost = (self.cpu() - used) / SCRAPES
        return statistics.median(waited) * 1000, cost * 1000, len(answer.body)


def main() -> None:
    """Measure and print a table."""
    # SystemExit stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scrape",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trees", nargs="+", type=Path, metavar="TREE")
    parser.add_argument("--workers", nargs="+", type=int, default=[2, 8])
    parser.add_argument("--gone", type=int, default=500, help="how many workers to replace")
    parser.add_argument("--at", type=Path, default="/dev/shm", help="where to make the stores")
    options = parser.parse_args()
    options.sync, options.set = False, []
    rows = []
    for workers in options.workers:
        for number, tree in enumerate(options.trees):
            with tempfile.TemporaryDirectory(prefix="scrape-", dir=options.at) as directory:
                server = Counting(Path(directory, str(number)), tree.resolve(), options)
                server.workers = workers
                with server:
                    server.be_asked()
                    rows.append(_row(tree, server, 0))
                    generations = -(-options.gone // workers) if workers == options.workers[-1] else 0
                    for _ in range(generations):
                        server.replace()
                    if generations:
                        rows.append(_row(tree, server, generations * workers))
    print(
        table(
            ["tree", "workers", "ended", "scrape, ms", "processor, ms", "bytes", "files", "they hold, MiB"]
            + ["PSS, MiB"],
            rows,
        )
    )


def _row(tree: Path, server: Counting, gone: int) -> list[str]:
    waited, cost, length = server.scrapes()
    sizes = []
    for path in server.figures().iterdir():
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_blocks * 512)
    held = sum(sizes) / MIB
    cells = [
        tree.name,
        server.workers,
        gone,
        f"{waited:.2f}",
        f"{cost:.2f}",
        length,
        len(sizes),
        f"{held:.2f}",
    ]
    return [*map(str, cells), f"{sum(server.pss()) / MIB:.1f}"]


if __name__ == "__main__":
    main()
