"""How near verifying a store comes to the speed of hashing: `python -m benchmarks.verify`."""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from wsgi_store.digest import Algorithm
from wsgi_store.pagecache import BLOCK
from wsgi_store.stores import Durability, open_store
from wsgi_store.verifying import Result, verify

PROCESSES = 2
ROUNDS = 5
GIB = 1 << 30


def sizes(count: int, total: int) -> list[int]:
    """Sizes of blobs that together are about `total`: many small ones, some large ones."""
    order = random.Random(0)
    return [int(order.expovariate(count / total)) for _ in range(count)]


def fill(root: Path, algorithm: Algorithm, lengths: list[int]) -> None:
    """Write blobs of these lengths, straight on disk."""
    open_store(str(root), algorithm, Durability.NONE)
    for number in range(256):
        (root / f"{number:02x}").mkdir()
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(partial(_fill, root, algorithm), _shares(lengths), range(PROCESSES)))


def _shares(lengths: list[int]) -> list[list[int]]:
    return [lengths[first::PROCESSES] for first in range(PROCESSES)]


def _fill(root: Path, algorithm: Algorithm, lengths: list[int], seed: int) -> None:
    noise = random.Random(seed).randbytes(max(lengths))
    for number, length in enumerate(lengths):
        data = (f"{seed} {number} ".encode() + noise)[:length]
        hashed = algorithm.new()
        hashed.update(data)
        name = hashed.hexdigest()
        (root / name[:2] / name).write_bytes(data)


def _hash(algorithm: Algorithm, lengths: list[int]) -> None:
    """Hash as many bytes in memory, in the blocks that verifying reads."""
    block = memoryview(os.urandom(BLOCK))
    for length in lengths:
        hashed = algorithm.new()
        for begin in range(0, length, BLOCK):
            hashed.update(block[: min(BLOCK, length - begin)])
        hashed.digest()


def timed(work: Callable[[], None]) -> float:
    """Seconds that it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure both in turn, print the medians and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=__doc__)
    parser.add_argument("--memory", default="/dev/shm", type=Path, help="where to make the store")
    parser.add_argument("--algorithm", default="sha256", type=Algorithm, help="by default sha256")
    parser.add_argument("--blobs", default=20_000, type=int, help="how many")
    parser.add_argument("--size", default=4.0, type=float, help="of all of them, in GiB")
    options = parser.parse_args()
    lengths = sizes(options.blobs, int(options.size * GIB))
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.memory) as directory:
        root = Path(directory, "store")
        fill(root, options.algorithm, lengths)
        store = open_store(str(root), options.algorithm, Durability.NONE)

        def check() -> None:
            *_, report = verify(store, workers=PROCESSES)
            assert (report.result, report.checked_bytes) == (Result.CLEAN, sum(lengths)), report

        with ProcessPoolExecutor(PROCESSES) as pool:

            def hash_() -> None:
                list(pool.map(partial(_hash, options.algorithm), _shares(lengths)))

            hash_()  # the processes are there, and the pages are cached
            check()
            pairs = [(timed(hash_), timed(check)) for _ in range(ROUNDS)]
    hashed, checked = (statistics.median(column) for column in zip(*pairs, strict=True))
    speed = sum(lengths) / GIB
    print(
        f"{options.algorithm.value}, {len(lengths):,} blobs, {speed:.2f} GiB: "
        f"hashed in {PROCESSES} processes {speed / hashed:.2f} GiB/s, verified {speed / checked:.2f} GiB/s, "
        f"ratio {hashed / checked:.2f}"
    )


if __name__ == "__main__":
    main()
