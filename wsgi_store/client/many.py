"""Uploads of many files: small ones are collected in memory, and sent by few requests."""

import errno
import io
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Lock, Semaphore
from typing import Any, Generic, TypeVar

from wsgi_store.client.batch import Batch, Batches, Outcome
from wsgi_store.client.held import Held
from wsgi_store.client.single import Singles
from wsgi_store.client.source import Progress, check_end, open_path, prepare, reading
from wsgi_store.client.upload import Uploader

S = TypeVar("S")

# Bytes of the largest file that is collected.
SMALL = 256 << 10
# Files and bytes of one batch, which is one question. The first batch is smaller, and each one larger than
# the one before: a few files go at once, and for many a server lists a bucket instead of looking for each.
FIRST_FILES = 256
FILES = 2048
BYTES = 8 << 20
# Batches that are under way: more only take memory.
BATCHES = 2
# Files whose outcome waits for that of an earlier one.
BACKLOG = 16_384


@dataclass(frozen=True, slots=True)
class Sent(Generic[S]):
    """What became of a file of `Client.put_many`."""

    source: S
    outcome: Outcome
    """The upload, or the exception that `put` would have raised."""
    status: os.stat_result | None = None
    """What fstat(2) told about the open file, before it was read; None if it was not opened here."""
    changed: bool = False
    """Whether size or times of the file changed while it was read: its bytes may be a mixture."""


class _Waiting(Generic[S]):
    """A file without an outcome, or whose outcome waits for those before it."""

    __slots__ = ("changed", "file", "outcome", "source", "status", "work")

    def __init__(self, source: S) -> None:
        self.source = source
        self.outcome: Outcome | None = None
        self.status: os.stat_result | None = None
        self.changed = False
        self.file: io.FileIO | None = None
        """The open file, if it is not small."""
        self.work: Future[None] | None = None
        """Sends it."""

    def look_again(self, fd: int) -> None:
        """Notice whether the file changed since it was opened."""
        before, after = self.status, os.fstat(fd)
        assert before is not None
        self.changed = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
            after.st_size,
            after.st_mtime_ns,
            after.st_ctime_ns,
        )


class Total:
    """Counts the bytes of many transfers; threads may share it."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = Lock()
        self._done = 0

    def add(self, size: int) -> None:
        """Tell that more bytes are done."""
        if self._progress is not None:
            with self._lock:
                self._done += size
                self._progress(self._done)

    def part(self) -> Progress | None:
        """Return the progress of one transfer."""
        if self._progress is None:
            return None
        before = 0

        def tell(done: int) -> None:
            nonlocal before
            self.add(done - before)
            before = done

        return tell


class Sending(Generic[S]):
    """Uploads files; iterating over it sends them and gives what became of each, in their order."""

    def __init__(  # pylint: disable=too-many-arguments
        self,
        uploader: Uploader,
        sources: Iterable[S],
        *,
        opener: Callable[[Any], int] = open_path,
        force: bool,
        dry_run: bool,
        jobs: int,
        hashing: Progress | None,
        progress: Progress | None,
    ) -> None:
        held = Held(uploader.transport, uploader.kept, renew=not dry_run)
        self._pool = ThreadPoolExecutor(jobs)
        self._singles = Singles(uploader, held, force=force, dry_run=dry_run)
        self._batches = Batches(uploader, held, self._pool, force=force, dry_run=dry_run)
        self._kept = uploader.kept
        self._sources = sources
        self._opener = opener
        self._hashing = Total(hashing)
        self._progress = Total(progress)
        self._room = Semaphore(jobs)
        # These threads wait for the other ones, which make the requests.
        self._batch_pool = ThreadPoolExecutor(BATCHES)
        self._room_for_batches = Semaphore(BATCHES)
        self._waiting: deque[_Waiting[S]] = deque()
        self._collected: list[_Waiting[S]] = []
        self._batch: Batch | None = None
        self._enough = FIRST_FILES

    def __iter__(self) -> Iterator[Sent[S]]:
        for group in self.groups():
            yield from group

    def groups(self) -> Iterator[list[Sent[S]]]:
        """Yield what became of the files in lists, each as soon as it is known, for who prints them."""
        try:
            for source in self._sources:
                self._take(source)
                if len(self._waiting) >= BACKLOG:
                    self._await_first()
                if self._waiting[0].outcome is not None:
                    yield self._known()
            while self._waiting:
                self._await_first()
                yield self._known()
        except BaseException:
            # Ctrl-C must not wait for what is under way.
            for pool in (self._batch_pool, self._pool):
                pool.shutdown(wait=False, cancel_futures=True)
            for one in self._waiting:
                if one.file is not None and one.work is not None and one.work.cancelled():
                    one.file.close()
            raise
        self._batch_pool.shutdown()
        self._pool.shutdown()

    def _take(self, source: S) -> None:
        """Open a file, and read it if it is small, before the next one is looked for."""
        one = _Waiting(source)
        self._waiting.append(one)
        try:
            if isinstance(source, (str, os.PathLike)):
                data = self._open(one)
            else:
                data = _in_memory(source)
        except OSError as error:
            one.outcome = error
            return
        if data is None:
            self._begin(self._pool, self._room, self._send_alone, [one])
            return
        batch = self._batch = self._batch or Batch(self._kept)
        batch.add(data)
        self._collected.append(one)
        if batch.files >= self._enough or batch.size >= BYTES:
            self._enough = min(2 * self._enough, FILES)
            self._send_collected()

    def _open(self, one: _Waiting[S]) -> bytes | None:
        """Open a file; returns all its bytes if it is small. Raises OSError."""
        fd = self._opener(one.source)
        try:
            one.status = os.fstat(fd)
            if stat.S_ISDIR(one.status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), one.source)
            if stat.S_ISREG(one.status.st_mode) and one.status.st_size <= SMALL:
                data = _read(fd, one.status.st_size)
                one.look_again(fd)
                if data is not None:
                    return data
            one.file = io.FileIO(fd)
            fd = -1
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def _send_collected(self) -> None:
        if self._batch is not None:
            work = partial(self._send_batch, self._batch)
            collected, self._collected, self._batch = self._collected, [], None
            self._begin(self._batch_pool, self._room_for_batches, work, collected)

    def _begin(
        self,
        pool: ThreadPoolExecutor,
        room: Semaphore,
        work: Callable[[list[_Waiting[S]]], None],
        files: list[_Waiting[S]],
    ) -> None:
        """Let another thread send files, as soon as there is room."""
        room.acquire()  # pylint: disable=consider-using-with  # released by the other thread
        future = pool.submit(work, files)
        future.add_done_callback(lambda _: room.release())
        for one in files:
            one.work = future

    def _send_batch(self, batch: Batch, files: list[_Waiting[S]]) -> None:
        outcomes = self._batches.send(batch)
        self._progress.add(batch.size)
        for one, outcome in zip(files, outcomes, strict=True):
            one.outcome = outcome

    def _send_alone(self, files: list[_Waiting[S]]) -> None:
        (one,) = files
        source: Any = one.source
        outcome: Outcome
        try:
            with reading(source) if one.file is None else one.file as file:
                if one.file is not None:
                    prepare(one.file, source)
                elif hasattr(file, "fileno"):
                    check_end(file, getattr(file, "name", ""))
                outcome = self._singles.send(file, self._hashing.part(), self._progress.part())
                if one.file is not None:
                    one.look_again(one.file.fileno())
        except Exception as error:  # pylint: disable=broad-exception-caught  # of an iterable: any
            outcome = error
        one.outcome = outcome

    def _await_first(self) -> None:
        """Wait until the outcome of the first file is known."""
        first = self._waiting[0]
        if first.work is None and first.outcome is None:
            self._send_collected()
        if first.work is not None:
            first.work.result()

    def _known(self) -> list[Sent[S]]:
        """Remove and return the files at the front whose outcome is known."""
        known = []
        while self._waiting and (outcome := self._waiting[0].outcome) is not None:
            one = self._waiting.popleft()
            known.append(Sent(one.source, outcome, one.status, one.changed))
        return known


def _in_memory(source: object) -> bytes | None:
    """Return the bytes of a small buffer; None for anything else."""
    try:
        view = memoryview(source)  # type: ignore[arg-type]
    except TypeError:
        return None
    with view:
        return view.tobytes() if view.nbytes <= SMALL else None


def _read(fd: int, size: int) -> bytes | None:
    """Read a file of about so many bytes to its end; returns None if it is not small, its offset at 0."""
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    # It has grown or shrunk, or is one of those in /proc that claim to be empty.
    while len(data) <= SMALL:
        more = os.read(fd, SMALL)
        if not more:
            return data
        data += more
    os.lseek(fd, 0, os.SEEK_SET)
    return None
