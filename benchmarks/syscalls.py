"""Count the system calls of a request in two work trees: `python -m benchmarks.syscalls TREE TREE`.

A server with one worker gets the same request many times on one connection, while strace counts what its
worker calls. Calls that wait or receive are left out: how many there are depends on timing.
"""

import argparse
import json
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import needs
from benchmarks.client import BOUNDARY, MIB, Connection, Failure, form_frame
from benchmarks.compare import Tree
from benchmarks.load import SMALL
from benchmarks.report import table
from benchmarks.servers import head

REQUESTS = 100
WAITING = {
    "futex",
    "epoll_wait",
    "poll",
    "getppid",
    "sched_yield",
    "restart_syscall",
    "recvfrom",
    "utimensat",
}
# A row of the table that strace prints: the last column is the call, the fourth how often.
ROW = re.compile(r" *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(?!total)([a-z]\w+)")


def kinds() -> dict[str, Callable[[Tree, str], bytes]]:
    """Return the requests by name; each gets the server and the hash of a small blob."""

    def upload(size: int) -> Callable[[Tree, str], bytes]:
        return lambda tree, _: tree.request("", size) + secrets.token_bytes(size)

    def form(tree: Tree, _: str) -> bytes:
        before, after = form_frame("file", (), "file")
        body = before + secrets.token_bytes(SMALL) + after
        fields = (f"Content-Type: multipart/form-data; boundary={BOUNDARY}",)
        return tree.request("", len(body), fields) + body

    return {
        "GET of 4 KiB": lambda tree, small: head("GET", tree.path(small)),
        "POST of 4 KiB": upload(SMALL),
        "form of 4 KiB": form,
        "upload of 3 MiB": upload(3 * MIB),
    }


def measure(tree: Tree) -> dict[str, Counter[str]]:
    """Return the calls of each kind of request; the server runs."""
    for shard in range(256):
        (tree.data / f"{shard:02x}").mkdir()  # or some of the requests would make them
    with Connection(tree.port) as connection:
        answer = connection.ask(tree.request("", SMALL) + secrets.token_bytes(SMALL))
        small = json.loads(answer.body)["hash"]
        return {name: count(tree, connection, partial(make, tree, small)) for name, make in kinds().items()}


def count(tree: Tree, connection: Connection, make: Callable[[], bytes]) -> Counter[str]:
    """Return the calls of a request."""

    def ask(times: int) -> None:
        for _ in range(times):
            if (status := connection.ask(make()).status) not in (200, 201):
                raise Failure(f"the server answered {status}")

    ask(10)  # the first requests may need more calls
    command = ["strace", "-f", "-c", "-p", str(tree.processes()[1])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        if "attached" not in (line := strace.stderr.readline()):
            raise Failure(f"strace: {line}")
        ask(REQUESTS)
        strace.send_signal(signal.SIGINT)
        rows = ROW.findall(strace.stderr.read())
    return Counter({call: round(int(times) / REQUESTS) for times, call in rows if call not in WAITING})


def row(name: str, first: Counter[str], second: Counter[str]) -> list[str]:
    """Return a row of the table."""
    changes = {call: second[call] - first[call] for call in sorted({*first, *second})}
    differences = ", ".join(f"{call} {change:+}" for call, change in changes.items() if change)
    return [name, str(first.total()), str(second.total()), differences]


def main() -> None:
    """Count and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.syscalls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trees", nargs=2, type=Path, metavar="TREE")
    parser.add_argument("--at", type=Path, default="/var/tmp", help="where to make the stores")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="environment of the second"
    )
    options = parser.parse_args()
    needs.require("benchmarks.syscalls", ["strace"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="syscalls-", dir=options.at) as directory:

        def counted(number: int, *settings: str) -> dict[str, Counter[str]]:
            project = options.trees[number].resolve()
            tree = Tree(Path(directory, str(number)), project, settings, sync=True)
            tree.workers = 1
            with tree:
                return measure(tree)

        first, second = counted(0), counted(1, *options.set)
    print(table(["request", "first", "second", ""], [row(name, first[name], second[name]) for name in first]))


if __name__ == "__main__":
    main()
