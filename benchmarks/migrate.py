"""`python -m benchmarks.migrate`: the rate and the memory of a migration from md5 to sha256.

The rate is compared with that of as many bare processes, which read each file once and hash it by both
algorithms. Between two rounds the blobs get their old names back, so all rounds read the same files.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.client import MIB, Failure
from benchmarks.servers import memory, unsteered
from benchmarks.verify import PROCESSES, fill, in_processes, read, timed
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.migrate import Limits, migrate
from wsgi_store.upkeep.run import Effort

HERE = Path(__file__).parent.parent
OLD, NEW = Algorithm.MD5, Algorithm.SHA256
ROUNDS = 9
COMMAND = [sys.executable, "-c", "from wsgi_store.cli.main import main; main()", "migrate"]
# Seconds between two looks at the memory.
INTERVAL = 0.1


def reset(root: Path, before: dict[str, bytes]) -> None:
    """Give the blobs their old names back; `before` are the contents of the files beside the shards."""
    for file in root.iterdir():
        if file.is_file() and file.name not in before:
            file.unlink()
    for name, contents in before.items():
        (root / name).write_bytes(contents)
    for shard in root.glob("??"):
        for entry in os.scandir(shard):
            if entry.is_symlink():
                os.rename(os.path.join(shard, os.readlink(entry.path)), entry.path)


def drop(paths: list[str]) -> None:
    """Drop the files from the page cache."""
    os.sync()
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def rates(root: Path, blobs: int, size: int, options: argparse.Namespace) -> Iterator[tuple[float, float]]:
    """Yield for each round the MB/s of the bare processes and of the migration."""
    fill(root, OLD, [size] * blobs)
    before = {file.name: file.read_bytes() for file in root.iterdir() if file.is_file()}
    durability = Durability.FULL if options.sync else Durability.NONE
    paths = sorted(map(str, root.glob("??/*")))
    if len(paths) != blobs:
        raise Failure(f"{len(paths)} of {blobs} blobs were written")

    def bare() -> None:
        in_processes(partial(read, [OLD, NEW]), paths)

    def migration() -> None:
        store = open_store(str(root), durability=durability)
        *_, report = migrate(store, NEW, Limits(effort=Effort(workers=PROCESSES)))
        if (report.ended, report.adopted) != (True, blobs):
            raise Failure(f"the migration ended with {report}")

    works = [bare, migration]
    for number in range(-1, options.rounds):  # the first round warms up
        seconds = {}
        for work in works if number % 2 else works[::-1]:
            if options.cold:
                drop(paths)
            seconds[work] = timed(work)
            if work is migration:
                reset(root, before)
        if number >= 0:
            yield blobs * size / seconds[bare] / 1e6, blobs * size / seconds[migration] / 1e6


def peak(root: Path, blobs: int) -> int:
    """Migrate a store of tiny blobs by the command; return the peak memory of its processes in bytes."""
    fill(root, OLD, [16] * blobs)
    options = ["--to", NEW.value, "--root", str(root), "--workers", str(PROCESSES)]
    highest = 0
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen([*COMMAND, *options], cwd=HERE, env=unsteered(), stdout=log, stderr=log) as running,
    ):
        while running.poll() is None:
            highest = max(highest, sum(memory(running.pid)))
            time.sleep(INTERVAL)
        if running.returncode:
            log.seek(0)
            raise Failure(f"migrate exited with {running.returncode}: {log.read()[-500:].decode()}")
    names = sum(1 for _ in root.glob("??/*"))
    if names != 2 * blobs:
        raise Failure(f"{blobs} blobs have {names} names")
    return highest


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.migrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--at", type=Path, default="/dev/shm", help="where to make the store")
    parser.add_argument("--blobs", type=int, default=1024, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=1024, help="size of a blob in KiB; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--sync", action="store_true", help="use durability full; for a disk")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache first")
    parser.add_argument(
        "--memory", action="store_true", help="measure the memory instead, also of a store of 1,000 blobs"
    )
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="migrate-", dir=options.at) as directory:
        root = Path(directory, "store")
        if options.memory:
            few = peak(Path(directory, "few"), 1000)
            many = peak(root, options.blobs)
            print(
                f"peak memory: 1,000 blobs {few / MIB:.1f} MiB, {options.blobs:,} blobs {many / MIB:.1f}, "
                f"growth {(many - few) / MIB:.1f}"
            )
            return
        found = list(rates(root, options.blobs, options.size << 10, options))
    bare, ours = (statistics.median(column) for column in zip(*found, strict=True))
    ratios = sorted(second / first for first, second in found)
    print(
        f"{options.blobs:,} blobs of {options.size:,} KiB, {options.rounds} rounds, {PROCESSES} processes: "
        f"read and hashed {bare:,.0f} MB/s, migrated {ours:,.0f} MB/s, "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
