"""Checking blobs in parallel: by processes for many local files, otherwise by threads."""

import multiprocessing
import os
import signal
import struct
import threading
import time
from array import array
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, StoreError, StoreUnavailable
from wsgi_store.store.abilities import LocalPaths
from wsgi_store.store.contract import Store
from wsgi_store.upkeep.pagecache import Blocks

# Seconds between two reports of a worker on a blob that it is reading.
REPORT_INTERVAL = 0.25


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a run divides its work, and how much of it the ledger names."""

    batch_blobs: int = 512
    """Blobs in a batch for one worker: so many that handing it over takes little of the time."""
    batch_bytes: int = 32 << 20
    """The bytes of blobs that complete a batch."""
    processes_from: int = 8
    """The least number of batches for processes: with fewer, threads are done before they have started."""
    ahead: int = 100_000
    """Blobs that are handed out while the store is still being counted."""
    save_interval: float = 60.0
    """Seconds after which the ledger is saved, in case the run is killed."""
    max_unreadable: int = 1000
    """Unreadable blobs that the ledger names one by one."""


TUNING = Tuning()


class Stopped(Exception):
    """The run ended while a blob was being read."""


@dataclass
class BatchReport:
    """The outcome of checking a batch of blobs."""

    blobs: int = 0
    bytes: int = 0
    gone: int = 0
    corrupt: list[Digest] = field(default_factory=list)
    unmoved: dict[Digest, str] = field(default_factory=dict)
    unreadable: dict[Digest, str] = field(default_factory=dict)
    reported: int = 0
    """The bytes that were reported while they were read."""

    @property
    def reached(self) -> int:
        """How many blobs were tried, from the first on: fewer than all if the run ended meanwhile."""
        return self.blobs + self.gone + len(self.unreadable)


@dataclass
class Checker:
    """Checks batches, at most at `rate` bytes a second, and reports its progress meanwhile."""

    store: Store
    stop: threading.Event
    rate: float | None
    reports: Connection

    def check(self, raws: list[bytes]) -> BatchReport:
        """Hash the blobs of these digests until stopped, and move damaged ones to quarantine."""
        report = BatchReport()
        pace = Pace(self.stop, self.rate)
        progress = Progress(self.reports)
        blocks = Blocks()
        for raw in raws:
            digest = Digest(self.store.algorithm, raw)
            try:
                size, actual, modified = self._hash(digest, pace, progress, blocks)
                if actual != digest.raw:
                    self._quarantine(digest, modified, report)
            except Stopped:
                break  # the report still names what was moved
            except BlobNotFound:
                report.gone += 1
            except StoreError as error:
                report.unreadable[digest] = error.message
            else:
                report.blobs += 1
                report.bytes += size
        report.reported = progress.reported
        return report

    def _hash(
        self, digest: Digest, pace: "Pace", progress: "Progress", blocks: Blocks
    ) -> tuple[int, bytes, float]:
        reader = self.store.open(digest)  # pylint: disable=assignment-from-no-return
        size = 0
        hashed = digest.algorithm.new()
        try:
            for block in blocks.of(reader):
                hashed.update(block)
                size += len(block)
                progress.add(len(block))
                pace.keep(len(block))
        finally:
            reader.close()
        return size, hashed.digest(), reader.blob.modified

    def _quarantine(self, digest: Digest, modified: float, report: BatchReport) -> None:
        try:
            moved = self.store.quarantine(digest)  # pylint: disable=assignment-from-no-return
        except BlobNotFound:
            raise
        except StoreError as error:
            report.unmoved[digest] = error.message
        else:
            if not moved:
                if self.store.stat(digest).modified == modified:
                    raise StoreUnavailable("two reads returned different bytes")
                return  # an upload healed it meanwhile
        report.corrupt.append(digest)


@dataclass
class Pace:
    """Slows reading down to a rate."""

    stop: threading.Event
    rate: float | None
    due: float = field(default_factory=time.monotonic)

    def keep(self, size: int) -> None:
        """Wait until `size` bytes may have been read; raises Stopped."""
        if self.rate is not None:
            self.due += size / self.rate
            self.stop.wait(max(0.0, self.due - time.monotonic()))
        if self.stop.is_set():
            raise Stopped


@dataclass
class Progress:
    """Reports through a pipe how many bytes were read, every REPORT_INTERVAL.

    It does not wait if the pipe is full, and takes no lock that a killed process would leave locked: so
    few bytes are written atomically or not at all (pipe(7)).
    """

    pipe: Connection
    reported: int = 0
    _unreported: int = 0
    _due: float = field(default_factory=lambda: time.monotonic() + REPORT_INTERVAL)

    def add(self, size: int) -> None:
        """Count `size` more bytes."""
        self._unreported += size
        if (now := time.monotonic()) < self._due:
            return
        self._due = now + REPORT_INTERVAL
        with suppress(OSError):  # the pipe is full, or its reader is gone
            os.write(self.pipe.fileno(), struct.pack("q", self._unreported))
            self.reported += self._unreported
            self._unreported = 0


class Checkers:
    """Workers that check batches while this is used as a context manager.

    Hashing releases the GIL, but opening and reading many small files holds it most of the time: with
    `many` batches, processes read the files of a local store.
    """

    def __init__(self, store: Store, workers: int, rate: int | None, *, many: bool) -> None:
        share = rate / workers if rate else None
        local = isinstance(store, LocalPaths)
        self._check: Callable[[list[bytes]], BatchReport]
        self._executor: Executor
        self._stop: Callable[[], None]
        self._read = 0
        with ExitStack() as stack:
            self._reports, reports = (stack.enter_context(end) for end in multiprocessing.Pipe(duplex=False))
            os.set_blocking(self._reports.fileno(), False)
            os.set_blocking(reports.fileno(), False)
            if not (
                local and workers > 1 and many and self._have_processes(stack, workers, store, share, reports)
            ):
                stop = threading.Event()
                self._stop = stop.set
                self._executor = ThreadPoolExecutor(workers)
                self._check = Checker(store, stop, share, reports).check
            self._closing = stack.pop_all()

    def _have_processes(self, stack: ExitStack, workers: int, *given: Any) -> bool:
        # Forking is faster than importing everything anew, but unsafe in a process that has threads.
        context = multiprocessing.get_context("fork" if _alone() else "spawn")
        # Not an event: a process that is killed while it waits for one leaves it locked.
        ours, theirs = (stack.enter_context(end) for end in context.Pipe(duplex=False))
        try:
            self._executor = ProcessPoolExecutor(workers, context, _begin, (*given, ours))
        except OSError:
            return False  # the locks of a pool need /dev/shm
        self._stop = partial(theirs.send_bytes, b"stop")
        self._check = _check
        return True

    def submit(self, raws: list[bytes]) -> "Future[BatchReport]":
        """Start to check the blobs of these digests."""
        return self._executor.submit(self._check, raws)

    def under_way(self, finished: BatchReport | None) -> int:
        """Return the bytes read of unfinished batches; `finished` has been one of them until now."""
        with suppress(BlockingIOError):
            while data := os.read(self._reports.fileno(), 1 << 12):
                self._read += sum(array("q", data))
        if finished:
            self._read -= finished.reported
        return self._read

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._closing:
            self._stop()  # something still runs if the run ended early
            self._executor.shutdown(cancel_futures=True)


def _alone() -> bool:
    """Whether this process has one thread, counting those that Python does not know of."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False  # /proc is not mounted


_checker: list[Checker] = []  # of a process of the pool


def _begin(store: Store, rate: float | None, reports: Connection, stop: Connection) -> None:
    # Ctrl-C, timeout(1) and systemd signal all processes at once. A worker that died of it would lose its
    # report, so the process that runs the pool stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_await_pool, daemon=True).start()
    stopped = threading.Event()
    threading.Thread(target=_await_end, args=(stop, stopped), daemon=True).start()
    _checker.append(Checker(store, stopped, rate, reports))


def _await_pool() -> None:
    """End when the pool says so, which it does if one of its processes was killed.

    A killed process may hold the lock of the pool's queue, for which this one would wait for ever.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(1)


def _await_end(stop: Connection, stopped: threading.Event) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    if parent.sentinel not in connection.wait([parent.sentinel, stop]):
        stopped.set()
        connection.wait([parent.sentinel])
    os._exit(1)  # the parent was killed, and no more batches will come


def _check(raws: list[bytes]) -> BatchReport:
    return _checker[0].check(raws)
