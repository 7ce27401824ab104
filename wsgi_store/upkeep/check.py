"""Checking blobs many at a time: by processes where files are local and many, else by threads."""

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

# How often a worker tells how far it is, and who waits for it looks: seconds.
TOLD = 0.25


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a run divides its work, and how much of it is remembered."""

    batch_blobs: int = 512
    """What a worker is given at once: enough that handing it over takes little time beside reading it."""
    batch_bytes: int = 32 << 20
    processes_from: int = 8
    """With fewer batches a thread is done before a process has begun."""
    ahead: int = 100_000
    """So many blobs are handed out while the store is still being counted."""
    save_interval: float = 60.0
    """How often what was verified is written down, for a run that is killed: seconds."""
    max_unreadable: int = 1000
    """More unreadable blobs are not remembered one by one."""


TUNING = Tuning()


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
    told: int = 0
    """The bytes that were told of while they were read."""

    @property
    def seen(self) -> int:
        """How many of them, in their order: fewer than there are where the run was ended meanwhile."""
        return self.blobs + self.gone + len(self.unreadable)


@dataclass
class Checker:
    """Checks batches, at most at `rate` bytes a second, and tells meanwhile how far it is."""

    store: Store
    stop: threading.Event
    rate: float | None
    told: Connection

    def check(self, raws: list[bytes]) -> Checked:
        """Hash the blobs of these digests, until told to stop, and move what is damaged to quarantine."""
        checked = Checked()
        pace = Pace(self.stop, self.rate)
        progress = Progress(self.told)
        blocks = Blocks()
        for raw in raws:
            digest = Digest(self.store.algorithm, raw)
            try:
                size, actual, modified = self._hash(digest, pace, progress, blocks)
                if actual != digest.raw:
                    self._quarantine(digest, modified, checked)
            except Stopped:
                break  # what was moved till then is told
            except BlobNotFound:
                checked.gone += 1
            except StoreError as error:
                checked.unreadable[digest] = error.message
            else:
                checked.blobs += 1
                checked.bytes += size
        checked.told = progress.told
        return checked

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

    stop: threading.Event
    rate: float | None
    due: float = field(default_factory=time.monotonic)

    def keep(self, size: int) -> None:
        """Wait as long as so many bytes should have taken; raises Stopped."""
        if self.rate is not None:
            self.due += size / self.rate
            self.stop.wait(max(0.0, self.due - time.monotonic()))
        if self.stop.is_set():
            raise Stopped


@dataclass
class Progress:
    """Tells through a pipe of the bytes that are read, now and then.

    It neither waits, however full the pipe is, nor needs a lock, which a process that is killed would
    leave locked: the kernel writes so few bytes at once or not at all (pipe(7)).
    """

    pipe: Connection
    told: int = 0
    _untold: int = 0
    _due: float = field(default_factory=lambda: time.monotonic() + TOLD)

    def add(self, size: int) -> None:
        """So many bytes more were read."""
        self._untold += size
        if (now := time.monotonic()) < self._due:
            return
        self._due = now + TOLD
        with suppress(OSError):  # it is full, or nobody reads it any more
            os.write(self.pipe.fileno(), struct.pack("q", self._untold))
            self.told += self._untold
            self._untold = 0


class Checkers:
    """Workers that check batches as long as this is used as a context manager.

    Hashing lets other threads run, but opening and reading many small files does so too seldom:
    where there are `many` batches, the files of a local store are read by processes.
    """

    def __init__(self, store: Store, workers: int, rate: int | None, *, many: bool) -> None:
        share = rate / workers if rate else None
        local = isinstance(store, LocalPaths)
        self._check: Callable[[list[bytes]], Checked]
        self._executor: Executor
        self._stop: Callable[[], None]
        self._read = 0
        with ExitStack() as stack:
            self._told, told = (stack.enter_context(end) for end in multiprocessing.Pipe(duplex=False))
            os.set_blocking(self._told.fileno(), False)
            os.set_blocking(told.fileno(), False)
            if not (
                local and workers > 1 and many and self._have_processes(stack, workers, store, share, told)
            ):
                stop = threading.Event()
                self._stop = stop.set
                self._executor = ThreadPoolExecutor(workers)
                self._check = Checker(store, stop, share, told).check
            self._closing = stack.pop_all()

    def _have_processes(self, stack: ExitStack, workers: int, *given: Any) -> bool:
        # A process that has threads must not be forked, and importing everything anew takes
        # as long as hashing some hundred megabytes.
        context = multiprocessing.get_context("fork" if _alone() else "spawn")
        # Not an event: a process that is killed while it asks one leaves it locked.
        ours, theirs = (stack.enter_context(end) for end in context.Pipe(duplex=False))
        try:
            self._executor = ProcessPoolExecutor(workers, context, _begin, (*given, ours))
        except OSError:
            return False  # their locks need /dev/shm
        self._stop = partial(theirs.send_bytes, b"stop")
        self._check = _check
        return True

    def submit(self, raws: list[bytes]) -> "Future[Checked]":
        """Have the blobs of these digests checked."""
        return self._executor.submit(self._check, raws)

    def under_way(self, taken: Checked | None) -> int:
        """The bytes read of all batches but those that were taken, of which this may be one more."""
        with suppress(BlockingIOError):
            while told := os.read(self._told.fileno(), 1 << 12):
                self._read += sum(array("q", told))
        if taken:
            self._read -= taken.told
        return self._read

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._closing:
            self._stop()  # nothing runs any more unless the run was ended early
            self._executor.shutdown(cancel_futures=True)


def _alone() -> bool:
    """Whether this process has no other threads, those included that Python does not know of."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False  # it cannot be told where /proc is not mounted


_checker: list[Checker] = []  # the one of a process that does nothing else


def _begin(store: Store, rate: float | None, told: Connection, stop: Connection) -> None:
    # Ctrl-C, timeout(1) and systemd end all processes at once. Here that would lose what was found: the
    # one who asked tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_await_pool, daemon=True).start()
    stopped = threading.Event()
    threading.Thread(target=_await_end, args=(stop, stopped), daemon=True).start()
    _checker.append(Checker(store, stopped, rate, told))


def _await_pool() -> None:
    """End when the pool says so, which it does when one of its processes was killed.

    That one may have held the lock of what they share, for which this one would wait for ever.
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
    os._exit(1)  # it was killed, and nobody will ask for more


def _check(raws: list[bytes]) -> Checked:
    return _checker[0].check(raws)
