"""`python -m benchmarks.put`: the rate of `wsgi-store put -r` for small files, compared with the server's."""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.client import Failure
from benchmarks.lineup import Unsynced
from benchmarks.load import CONNECTIONS, SMALL, post
from benchmarks.servers import unsteered

FILES = 5000
ROUNDS = 5
SECONDS = 3
COMMAND = [sys.executable, "-c", "from wsgi_store.cli.main import main; main()", "put", "-r"]


def put(directory: Path, port: int) -> float:
    """Upload new files; return the files per second, including the start of the command."""
    directory.mkdir()
    for number in range(FILES):
        (directory / f"{number:04}").write_bytes(os.urandom(SMALL))
    command = [*COMMAND, str(directory), "--url", f"http://127.0.0.1:{port}"]
    begin = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=Path(__file__).parent.parent,
        env=unsteered(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    seconds = time.perf_counter() - begin
    shutil.rmtree(directory)
    if done.returncode or done.stdout.count(b"\n") != FILES:
        raise Failure(f"put exited with {done.returncode}: {done.stderr[-500:].decode()}")
    return FILES / seconds


def main() -> None:
    """Measure both in turn; print the medians, and the median of the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.put", description=__doc__)
    parser.add_argument(
        "--memory", default="/dev/shm", type=Path, help="where to make the store and the files"
    )
    parser.add_argument("--rounds", default=ROUNDS, type=int, help="default: 5")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.memory) as directory:
        rounds = []
        with Unsynced(Path(directory, "server")) as server:
            for number in range(options.rounds):
                works = {
                    "put": lambda: put(Path(directory, "files"), server.port),
                    "wrk": lambda: post(server, "", SECONDS).rate,
                }
                names = sorted(works, reverse=bool(number % 2))
                rounds.append({name: works[name]() for name in names})
                server.clear()
    for name, what in (("put", "put -r"), ("wrk", f"wrk, {CONNECTIONS} connections")):
        print(f"{what}: {statistics.median(rates[name] for rates in rounds):,.0f} files of 4 KiB a second")
    ratios = sorted(rates["put"] / rates["wrk"] for rates in rounds)
    print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
