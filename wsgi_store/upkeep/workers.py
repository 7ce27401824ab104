"""Workers that go through batches of blobs: processes for many local files, otherwise threads."""

import multiprocessing
import os
import signal
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.abilities import LocalPaths
from wsgi_store.store.contract import BlobReader, Store
from wsgi_store.store.pieces import PieceHasher
from wsgi_store.upkeep.pagecache import Blocks
from wsgi_store.upkeep.plan import Batch
from wsgi_store.upkeep.report import BatchReport

# Seconds between two reports of a worker on a blob that it is reading.
REPORT_INTERVAL = 0.25


class Stopped(Exception):
    """The run ended while a blob was being read."""


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


class Reading:
    """Reads the blobs of a batch for a worker, at its rate, and reports the progress."""

    def __init__(self, stop: threading.Event, rate: float | None, reports: Connection) -> None:
        self.progress = Progress(reports)
        self._pace = Pace(stop, rate)
        self._blocks = Blocks()

    def hash(
        self, reader: BlobReader, algorithms: Sequence[Algorithm], pieces: PieceHasher | None = None
    ) -> dict[Algorithm, Digest]:
        """Read a blob to its end and return its digests; raises StoreError, and Stopped.

        `pieces` gets all of its bytes, too.
        """
        hashes = [algorithm.new() for algorithm in algorithms]
        for block in self._blocks.of(reader):
            for hashed in hashes:
                hashed.update(block)
            if pieces is not None:
                pieces.update(block)
            self.progress.add(len(block))
            self._pace.keep(len(block))
        return {one: Digest(one, hashed.digest()) for one, hashed in zip(algorithms, hashes, strict=True)}


class Work(Protocol):
    """The work on a batch. It can be pickled for another process if its store can."""

    store: Store

    def do(self, batch: Batch, reading: Reading) -> BatchReport:
        """Work on the blobs of a batch, until stopped."""


@dataclass
class Worker:
    """Does work on batches, and reads at most `rate` bytes a second."""

    work: Work
    stop: threading.Event
    rate: float | None
    reports: Connection

    def do(self, batch: Batch) -> BatchReport:
        """Work on a batch; the report is complete also if the run ended meanwhile."""
        reading = Reading(self.stop, self.rate, self.reports)
        report = self.work.do(batch, reading)  # pylint: disable=assignment-from-no-return
        report.reported = reading.progress.reported
        return report


class Workers:
    """Workers that take batches while this is used as a context manager.

    Hashing releases the GIL, but opening and reading many small files holds it most of the time: with
    `many` batches, processes read the files of a local store.
    """

    def __init__(self, work: Work, number: int, rate: int | None, *, many: bool) -> None:
        share = rate / number if rate else None
        local = isinstance(work.store, LocalPaths)
        self._do: Callable[[Batch], BatchReport]
        self._executor: Executor
        self._stop: Callable[[], None]
        self._read = 0
        with ExitStack() as stack:
            self._reports, reports = (stack.enter_context(end) for end in multiprocessing.Pipe(duplex=False))
            os.set_blocking(self._reports.fileno(), False)
            os.set_blocking(reports.fileno(), False)
            if not (
                local and number > 1 and many and self._have_processes(stack, number, work, share, reports)
            ):
                stop = threading.Event()
                self._stop = stop.set
                self._executor = ThreadPoolExecutor(number)
                self._do = Worker(work, stop, share, reports).do
            self._closing = stack.pop_all()

    def _have_processes(self, stack: ExitStack, number: int, *given: Any) -> bool:
        # Forking is faster than importing everything anew, but unsafe in a process that has threads.
        context = multiprocessing.get_context("fork" if _alone() else "spawn")
        # Not an event: a process that is killed while it waits for one leaves it locked.
        ours, theirs = (stack.enter_context(end) for end in context.Pipe(duplex=False))
        try:
            self._executor = ProcessPoolExecutor(number, context, _begin, (*given, ours))
        except OSError:
            return False  # the locks of a pool need /dev/shm
        self._stop = partial(theirs.send_bytes, b"stop")
        self._do = _do
        return True

    def submit(self, batch: Batch) -> "Future[BatchReport]":
        """Start to work on a batch."""
        return self._executor.submit(self._do, batch)

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


class Running:
    """The batches that workers have."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._batches: dict[Future[BatchReport], Batch] = {}
        # concurrent.futures.wait would look at every future each time.
        self._finished: SimpleQueue[Future[BatchReport]] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: Batch) -> None:
        """Give a batch to the workers."""
        future = self.workers.submit(batch)
        self._batches[future] = batch
        future.add_done_callback(self._finished.put)

    def pop(self) -> tuple[Batch, BatchReport] | None:
        """Wait for a batch and return it with its report; None if none is finished soon."""
        try:
            future = self._finished.get(timeout=REPORT_INTERVAL)
        except Empty:
            return None
        report = future.result()
        return self._batches.pop(future), report

    def rest(self) -> Iterator[tuple[Batch, BatchReport]]:
        """Yield the batches that ended before `pop` returned them, as far as they were done."""
        for future, batch in self._batches.items():
            if future.done() and not future.cancelled() and not future.exception():
                report = future.result()
                if raws := batch.raws[: report.reached]:
                    upto = batch.upto if raws == batch.raws else batch.upto and raws[-1].hex()
                    yield Batch(batch.algorithm, raws, batch.after, upto), report


def _alone() -> bool:
    """Whether this process has one thread, counting those that Python does not know of."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False  # /proc is not mounted


_worker: list[Worker] = []  # of a process of the pool


def _begin(work: Work, rate: float | None, reports: Connection, stop: Connection) -> None:
    # Ctrl-C, timeout(1) and systemd signal all processes at once. A worker that died of it would lose its
    # report, so the process that runs the pool stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_await_pool, daemon=True).start()
    stopped = threading.Event()
    threading.Thread(target=_await_end, args=(stop, stopped), daemon=True).start()
    _worker.append(Worker(work, stopped, rate, reports))


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


def _do(batch: Batch) -> BatchReport:
    return _worker[0].do(batch)
