"""`python -m benchmarks.verify`: the rate of verifying a store, compared with plain hashing."""

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.pagecache import BLOCK_SIZE
from wsgi_store.upkeep.report import Result
from wsgi_store.upkeep.verify import verify

T = TypeVar("T")

PROCESSES = 2
ROUNDS = 5
GIB = 1 << 30


def sizes(count: int, total: int) -> list[int]:
    """Return blob sizes that add up to about `total`: many small ones and some large ones."""
    order = random.Random(0)
    return [int(order.expovariate(count / total)) for _ in range(count)]


def fill(root: Path, algorithm: Algorithm, lengths: list[int]) -> None:
    """Write blobs of these lengths directly to disk."""
    open_store(str(root), algorithm, Durability.NONE)
    for number in range(256):
        (root / f"{number:02x}").mkdir()
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(partial(_fill, root, algorithm), _shares(lengths), range(PROCESSES)))


def _shares(everything: list[T]) -> list[list[T]]:
    return [everything[first::PROCESSES] for first in range(PROCESSES)]


def _fill(root: Path, algorithm: Algorithm, lengths: list[int], seed: int) -> None:
    noise = random.Random(seed).randbytes(max(lengths))
    for number, length in enumerate(lengths):
        data = (f"{seed} {number} ".encode() + noise)[:length]
        hashed = algorithm.new()
        hashed.update(data)
        name = hashed.hexdigest()
        (root / name[:2] / name).write_bytes(data)


def _hash(algorithm: Algorithm, lengths: list[int]) -> None:
    """Hash the same amount of data in memory, in blocks of the size that verify reads."""
    block = memoryview(os.urandom(BLOCK_SIZE))
    for length in lengths:
        hashed = algorithm.new()
        for begin in range(0, length, BLOCK_SIZE):
            hashed.update(block[: min(BLOCK_SIZE, length - begin)])
        hashed.digest()


def read(algorithms: Sequence[Algorithm], paths: list[str]) -> None:
    """Open, read, hash and close files, which are named by the first algorithm: the lower bound."""
    buffer = memoryview(bytearray(BLOCK_SIZE))
    for path in paths:
        hashes = [algorithm.new() for algorithm in algorithms]
        file = os.open(path, os.O_RDONLY)
        while length := os.readv(file, [buffer]):
            for hashed in hashes:
                hashed.update(buffer[:length])
            if length < BLOCK_SIZE:
                break
        os.close(file)
        digests = [hashed.hexdigest() for hashed in hashes]
        assert path.endswith(digests[0]), path


def in_processes(work: Callable[[list[T]], None], everything: list[T]) -> None:
    """Divide some work among new processes."""
    # A new fork each time, because verify forks too.
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(share,)) for share in _shares(everything)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def timed(work: Callable[[], None]) -> float:
    """Return the duration of some work, in seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(root: Path, algorithm: Algorithm, lengths: list[int]) -> list[float]:
    """Return the median seconds of hashing, of reading and hashing, and of verifying, in turn."""
    fill(root, algorithm, lengths)
    store = open_store(str(root), algorithm, Durability.NONE)
    paths = sorted(map(str, root.glob("??/*")))

    def hash_() -> None:
        in_processes(partial(_hash, algorithm), lengths)

    def bare() -> None:
        in_processes(partial(read, [algorithm]), paths)

    def check() -> None:
        *_, report = verify(store, workers=PROCESSES)
        assert (report.result, report.checked_bytes) == (Result.CLEAN, sum(lengths)), report

    works = [hash_, bare, check]
    for work in works:
        work()  # fills the page cache
    rounds = []
    for _ in range(ROUNDS):
        rounds.append({work: timed(work) for work in works})
        works.reverse()
    return [statistics.median(seconds[work] for seconds in rounds) for work in (hash_, bare, check)]


def main() -> None:
    """Measure; print the medians and their ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=__doc__)
    parser.add_argument("--memory", default="/dev/shm", type=Path, help="where to make the store")
    parser.add_argument("--algorithm", default="sha256", type=Algorithm, help="default: sha256")
    parser.add_argument("--blobs", default=20_000, type=int, help="the number of blobs")
    parser.add_argument("--size", default=4.0, type=float, help="the size of all blobs together, in GiB")
    options = parser.parse_args()
    lengths = sizes(options.blobs, int(options.size * GIB))
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.memory) as directory:
        hashed, bare, checked = measure(Path(directory, "store"), options.algorithm, lengths)
    size = sum(lengths) / GIB
    print(
        f"{options.algorithm.value}, {len(lengths):,} blobs, {size:.2f} GiB, {PROCESSES} processes: "
        f"hashed in the processor's cache {size / hashed:.2f} GiB/s, "
        f"files opened, read and hashed {size / bare:.2f} GiB/s ({hashed / bare:.2f} of that), "
        f"verified {size / checked:.2f} GiB/s ({hashed / checked:.2f})"
    )


if __name__ == "__main__":
    main()
