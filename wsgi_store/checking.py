"""Checking blobs many at a time: by processes where files are local and many, else by threads."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import connection
from types import TracebackType
from typing import Protocol, Self

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, StoreError, StoreUnavailable
from wsgi_store.pagecache import blocks
from wsgi_store.stores import Store

# What a worker is given at once: enough that handing it over takes no time beside it.
BATCH_BYTES = 16 << 20
BATCH_BLOBS = 256
# Below this a thread is done before a process has begun.
PROCESSES_FROM = 256 << 20


class Stop(Protocol):
    """An event of threading or of multiprocessing."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def set(self) -> None:
        """Make all stop."""

    def wait(self, timeout: float, /) -> bool:
        """Wait so many seconds, or until all are to stop."""


class Stopped(Exception):
    """The run was ended while a blob was read."""


@dataclass
class Checked:
    """What became of a batch of blobs."""

    blobs: int = 0
    bytes: int = 0
    gone: int = 0
    corrupt: list[Digest] = field(default_factory=list)
    unmoved: dict[Digest, str] = field(default_factory=dict)
    unreadable: dict[Digest, str] = field(default_factory=dict)


@dataclass
class Checker:
    """Checks batches, at most at `rate` bytes a second."""

    store: Store
    stop: Stop
    rate: float | None

    def check(self, digests: list[Digest]) -> Checked:
        """Hash these blobs and move what is damaged to quarantine; raises Stopped."""
        checked = Checked()
        pace = Pace(self.stop, self.rate)
        for digest in digests:
            try:
                size, actual, modified = self._hash(digest, pace)
                if actual != digest.raw:
                    self._quarantine(digest, modified, checked)
            except BlobNotFound:
                checked.gone += 1
            except StoreError as error:
                checked.unreadable[digest] = error.message
            else:
                checked.blobs += 1
                checked.bytes += size
        return checked

    def _hash(self, digest: Digest, pace: "Pace") -> tuple[int, bytes, float]:
        reader = self.store.open(digest)  # pylint: disable=assignment-from-no-return
        size = 0
        hashed = digest.algorithm.new()
        try:
            for block in blocks(reader):
                hashed.update(block)
                size += len(block)
                pace.keep(len(block))
        finally:
            reader.close()
        return size, hashed.digest(), reader.blob.modified

    def _quarantine(self, digest: Digest, modified: float, checked: Checked) -> None:
        try:
            moved = self.store.quarantine(digest)  # pylint: disable=assignment-from-no-return
        except BlobNotFound:
            raise
        except StoreError as error:
            checked.unmoved[digest] = error.message
        else:
            if not moved:
                if self.store.stat(digest).modified == modified:
                    raise StoreUnavailable("it reads differently each time")
                return  # healed meanwhile
        checked.corrupt.append(digest)


@dataclass
class Pace:
    """Waits where bytes come faster than they may."""

    stop: Stop
    rate: float | None
    due: float = field(default_factory=time.monotonic)

    def keep(self, size: int) -> None:
        """Wait as long as so many bytes should have taken; raises Stopped."""
        if self.rate is not None:
            self.due += size / self.rate
            self.stop.wait(max(0.0, self.due - time.monotonic()))
        if self.stop.is_set():
            raise Stopped


class Checkers:
    """Workers that check batches as long as this is used as a context manager.

    Hashing lets other threads run, but opening and reading many small files does so too seldom:
    from a size on, the files of a local store are read by processes.
    """

    def __init__(self, store: Store, workers: int, rate: int | None, size: int) -> None:
        share = rate / workers if rate else None
        local = store.local_path(Digest(store.algorithm, bytes(store.algorithm.size))) is not None
        self._stop: Stop
        self._executor: Executor
        self._check: Callable[[list[Digest]], Checked]
        if local and workers > 1 and size >= PROCESSES_FROM:
            context = multiprocessing.get_context("spawn")  # this process may have threads
            self._stop = context.Event()
            checker = Checker(store, self._stop, share)
            self._executor = ProcessPoolExecutor(workers, context, _begin, (checker,))
            self._check = _check
        else:
            self._stop = threading.Event()
            self._executor = ThreadPoolExecutor(workers)
            self._check = Checker(store, self._stop, share).check

    def submit(self, digests: list[Digest]) -> "Future[Checked]":
        """Have a batch checked."""
        return self._executor.submit(self._check, digests)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()  # nothing runs any more unless the run was ended early
        self._executor.shutdown(cancel_futures=True)


_checker: list[Checker] = []  # the one of a process that does nothing else


def _begin(checker: Checker) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one who asked tells the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _checker.append(checker)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)  # it was killed, and nobody will ask for more


def _check(digests: list[Digest]) -> Checked:
    return _checker[0].check(digests)
