"""A process that runs the command again and again, so that its start and its imports are not measured.

`python -m benchmarks.resident` reads jobs from standard input and answers each one on standard output, in
lines of JSON.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.client import Failure
from benchmarks.servers import Server, unsteered
from tests.support.peaks import Peak
from wsgi_store.cli.main import main as command
from wsgi_store.client import Client


class Done(NamedTuple):
    """What a job cost, and what it printed."""

    seconds: float
    cpu: float
    """The processor time of the process, in seconds."""
    growth: int
    """How far its peak memory rose above what it used before, in bytes."""
    lines: int
    last: str
    """The first field of the last line."""


class Resident:
    """The process; leaving the context ends it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with  # ended by __exit__
            [sys.executable, "-m", "benchmarks.resident"],
            cwd=Path(__file__).parent.parent,
            env=unsteered(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def command(self, server: Server, *arguments: str) -> Done:
        """Run the command."""
        return self.run("command", *arguments, "--url", f"http://127.0.0.1:{server.port}")

    def run(self, *job: str) -> Done:
        """Do one of `JOBS`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise Failure(f"{job[:3]} ended the process")
        return Done(**json.loads(answer))


def run_command(*arguments: str) -> None:
    """Run the command; raises SystemExit."""
    command.main(list(arguments), prog_name="wsgi-store")


def walk(directory: str) -> None:
    """Walk, read and hash: the least that looking at a folder costs a single thread."""
    for place, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                hashlib.sha256(file.read()).hexdigest()


def missing(url: str, count: str) -> None:
    """Ask for blobs that are not there, in as many pages as it takes."""

    def hashes() -> Iterator[tuple[str, int]]:
        for number in range(int(count)):
            yield hashlib.sha256(number.to_bytes(8)).hexdigest(), number

    with Client(url) as client:
        found = sum(1 for _ in client.missing(hashes()))
    if found != int(count):
        sys.exit(f"{found} of {count} are missing")


JOBS: dict[str, Callable[..., None]] = {"command": run_command, "walk": walk, "missing": missing}


def do(job: list[str], output: Any) -> Done:
    """Do a job and measure it; raises SystemExit if it fails."""
    output.truncate(0)
    output.seek(0)
    peak = Peak([os.getpid()])
    cpu, begin = time.process_time(), time.perf_counter()
    try:
        JOBS[job[0]](*job[1:])
    except SystemExit as end:
        if end.code:
            raise
    sys.stdout.flush()
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    growth = peak.growth()
    output.seek(0)
    lines = output.read().splitlines()
    return Done(seconds, cpu, growth, len(lines), lines[-1].split()[0].decode() if lines else "")


def main() -> None:
    """Do jobs until there are no more."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers, tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        for line in sys.stdin:
            done = do(json.loads(line), output)
            print(json.dumps(done._asdict()), file=answers, flush=True)


if __name__ == "__main__":
    main()
