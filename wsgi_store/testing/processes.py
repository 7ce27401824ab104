"""The contract of a store shared by processes, as in a pre-fork server."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, ClassVar

from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound, WrongStore
from wsgi_store.store.contract import Durability
from wsgi_store.testing.helpers import content, digest_of, put
from wsgi_store.testing.kind import StoreKind

# New processes instead of forks, because this one has threads.
CONTEXT = multiprocessing.get_context("spawn")
PROCESSES = 4
SECONDS = 60


@dataclass
class Worker:
    """The work of one process on the store of `root`; all processes start together at `barrier`."""

    barrier: Barrier
    kind: StoreKind
    root: Path

    def uploads(self) -> list[bool]:
        """Add the same blobs as every other process, in the same order."""
        store = self.kind.open(self.root, Algorithm.MD5)
        staging = self.kind.staging(store)
        self.barrier.wait(SECONDS)
        return [put(staging, f"blob {number}".encode()).created for number in range(100)]

    def churn(self) -> list[int]:
        """Add and remove the same few blobs as every other process; returns additions minus removals."""
        store = self.kind.open(self.root, Algorithm.MD5, Durability.NONE)
        staging = self.kind.staging(store, Durability.NONE)
        balance = [0] * 3
        self.barrier.wait(SECONDS)
        for turn in range(60 if self.kind.slow else 600):
            data = f"blob {turn % 3}".encode()
            balance[turn % 3] += put(staging, data).created
            try:
                assert content(store, digest_of(Algorithm.MD5, data)) == data
                store.remove(digest_of(Algorithm.MD5, data))
                balance[turn % 3] -= 1
            except BlobNotFound:
                pass
        return balance

    def claims(self) -> list[Algorithm | None]:
        """Open new stores at the same moment as the others; returns the algorithms, None if refused."""
        opened: list[Algorithm | None] = []
        for number in range(10 if self.kind.slow else 50):
            turn = self.barrier.wait(SECONDS)
            algorithm = (Algorithm.MD5, Algorithm.SHA256)[turn % 2]
            try:
                self.kind.open(self.root / str(number) / "store", algorithm)
                opened.append(algorithm)
            except WrongStore:
                opened.append(None)
        return opened


WORKER: list[Worker] = []  # the worker of this process


def _begin(barrier: Barrier, kind: StoreKind, root: Path) -> None:
    WORKER.append(Worker(barrier, kind, root))


def _work(name: str) -> object:
    work: Callable[[], object] = getattr(WORKER[0], name)
    return work()


def run(barrier: Barrier, kind: StoreKind, root: Path, name: str) -> list[tuple[Any, ...]]:
    """Run a method of Worker in several processes; returns their results turn by turn."""
    kind.open(root.parent / "first", Algorithm.MD5)  # starts everything that this kind needs
    with ProcessPoolExecutor(PROCESSES, CONTEXT, initializer=_begin, initargs=(barrier, kind, root)) as pool:
        answers: Iterator[Any] = pool.map(_work, [name] * PROCESSES, timeout=SECONDS)
        return list(zip(*answers, strict=True))


class Processes:
    """Several processes that use one store at once."""

    barrier: ClassVar[Barrier]

    @classmethod
    def setup_class(cls) -> None:
        """Make one barrier for all tests, because multiprocessing never frees the memory it shares."""
        cls.barrier = CONTEXT.Barrier(PROCESSES)

    def test_processes_that_add_the_same_bytes(self, kind: StoreKind, tmp_path: Path) -> None:
        """When several processes upload the same blobs at once, exactly one creates each blob."""
        answers = run(self.barrier, kind, tmp_path / "store", "uploads")
        assert [sum(created) for created in answers] == [1] * 100
        assert len(list(kind.open(tmp_path / "store", Algorithm.MD5).iterate())) == 100

    def test_processes_that_add_and_remove(self, kind: StoreKind, tmp_path: Path) -> None:
        """After concurrent additions and removals, a blob is there if it was added once more than removed."""
        answers = run(self.barrier, kind, tmp_path / "store", "churn")
        store = kind.open(tmp_path / "store", Algorithm.MD5)
        held = {blob.digest for blob in store.iterate()}
        for number, balance in enumerate(map(sum, answers)):
            assert balance == (digest_of(Algorithm.MD5, f"blob {number}".encode()) in held)

    def test_processes_that_open_a_new_store(self, kind: StoreKind, tmp_path: Path) -> None:
        """When processes open a new store at once with different algorithms, one algorithm wins."""
        answers = run(self.barrier, kind, tmp_path, "claims")
        for number, opened in enumerate(answers):
            winner = {algorithm for algorithm in opened if algorithm is not None}
            assert len(winner) == 1
            assert opened.count(None) == PROCESSES / 2
            kind.open(tmp_path / str(number) / "store", winner.pop())
