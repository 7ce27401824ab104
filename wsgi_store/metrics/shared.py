"""Counters shared by the threads of a process and by the processes that use the same directory."""

import fcntl
import json
import mmap
import os
import struct
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TypeAlias

from wsgi_store.logs import logger

# Bytes in the file of a process: room for a thousand histograms. Allocated in advance, because a write
# through a mapping to a full disk kills the process (mmap(2), SIGBUS).
SIZE = 1 << 18
SUFFIX = ".counts"
# A record: the length of its key in bytes and the number of its cells; then the key, padded to a
# multiple of the cell size, and the cells. The file begins with the offset at which the last record ends.
# It is updated after the record is written, because the process may be killed, or its file read, at any time.
_END = struct.Struct("=Q")
_HEAD = struct.Struct("=II")
CELL = 8

Cells: TypeAlias = "memoryview[float]"

# Held while numbers are changed, and while this process forks.
_lock = Lock()
# The number of forks between the first process that counted and this one: anything made in another
# generation belongs to another process. Calling os.getpid() for each count would be slow. Servers that
# fork without Python's hooks, such as uWSGI, do so before the process has counted anything.
_generation = 0  # pylint: disable=invalid-name


def _in_child() -> None:
    global _generation  # pylint: disable=global-statement
    _generation += 1
    _lock.release()


@cache
def _watch_forks() -> None:
    """Register the hooks that count forks; called at the first count, not on import."""
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)


@dataclass(frozen=True, slots=True)
class Key:
    """Identifies a number or histogram by the name of its metric and its label values."""

    name: str
    labels: tuple[str, ...] = ()
    live: bool = False
    """Whether it is forgotten when its process ends."""


class Counts:
    """The counts of this process, in memory that other processes can read even after it has ended.

    Each process locks a file of its own while it runs (fcntl(2)). A new process takes over the file of one
    that has ended, so that the number of files does not keep growing.
    """

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory
        self._generation = -1  # of everything below; a forked process starts anew
        self._file: tuple[int, str] | None = None
        self._memory = memoryview(b"")
        self._cells: dict[Key, Cells] = {}

    def cells(self, key: Key, number: int) -> Cells:
        """Return the cells of a key, adding `number` zeros if it is new; the caller holds the lock."""
        self._begin()
        cells = self._cells.get(key)
        if cells is None:
            cells = self._cells[key] = self._append(key, number)
        return cells

    def _append(self, key: Key, number: int) -> Cells:
        name = json.dumps([key.name, key.labels, key.live]).encode()
        name += b" " * (-len(name) % CELL)
        (begin,) = _END.unpack_from(self._memory)
        middle = begin + _HEAD.size + len(name)
        end = middle + number * CELL
        if end > SIZE:
            # The metrics need less than this. If they ever need more, counts are lost but no request fails.
            return memoryview(bytearray(number * CELL)).cast("d")
        _HEAD.pack_into(self._memory, begin, len(name), number)
        self._memory[begin + _HEAD.size : middle] = name
        _END.pack_into(self._memory, 0, end)
        return self._memory[middle:end].cast("d")

    def _begin(self) -> None:
        """Give this process memory of its own unless it already has it."""
        if self._generation == _generation:
            return
        _watch_forks()
        if self._file is not None:
            os.close(self._file[0])  # inherited: the parent process keeps its lock
        self._generation = _generation
        self._file = None
        self._memory = memoryview(bytearray(SIZE))
        if self._directory is not None:
            try:
                self._file = fd, _ = _claim(self._directory)
                self._memory = memoryview(mmap.mmap(fd, SIZE))
            except OSError as error:
                logger.error("what this process counts is not seen by others: {}", error)
        if _END.unpack_from(self._memory) == (0,):
            _END.pack_into(self._memory, 0, _END.size)
        self._cells = dict(_records(self._memory))
        for key, cells in self._cells.items():
            if key.live:
                cells[0] = 0

    def totals(self) -> dict[Key, list[float]]:
        """Return the sums over all processes, including those that have ended."""
        with _lock:
            self._begin()
            memories = [(bytes(self._memory), True)]
        memories += self._others()
        totals: dict[Key, list[float]] = {}
        for memory, lives in memories:
            for key, cells in _records(memoryview(memory)):
                if lives or not key.live:
                    sums = totals.get(key) or [0.0] * len(cells)
                    totals[key] = [one + other for one, other in zip(sums, cells, strict=True)]
        return totals

    def _others(self) -> Iterator[tuple[bytes, bool]]:
        if self._directory is None or self._file is None:
            return
        for path in _files(self._directory):
            # Opening and closing its own file would release the lock (fcntl(2)).
            if path != self._file[1]:
                with suppress(OSError), open(path, "rb") as file:
                    lives = not _lock_file(file.fileno(), fcntl.LOCK_SH)
                    if len(memory := file.read()) == SIZE:  # otherwise it is not complete
                        yield memory, lives


def _files(directory: str) -> list[str]:
    return [os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(SUFFIX)]


def _claim(directory: str) -> tuple[int, str]:
    """Open and lock the file of a process that has ended, or a new one."""
    for path in _files(directory):
        with suppress(OSError):  # it belongs to another user
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if _lock_file(fd, fcntl.LOCK_EX) and os.fstat(fd).st_size == SIZE:
                return fd, path
            os.close(fd)
    # It gets the suffix once it is allocated and locked, so that no other process claims it.
    fd, path = tempfile.mkstemp(dir=directory)
    try:
        os.posix_fallocate(fd, 0, SIZE)
        _lock_file(fd, fcntl.LOCK_EX)
        os.rename(path, path + SUFFIX)
    except BaseException:
        os.unlink(path)
        os.close(fd)
        raise
    return fd, path + SUFFIX


def _lock_file(fd: int, kind: int) -> bool:
    """Lock a file; returns False if another process holds a lock or the file cannot be locked."""
    try:
        fcntl.lockf(fd, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _records(memory: memoryview) -> Iterator[tuple[Key, Cells]]:
    """Yield the key and the cells of each record."""
    (end,) = _END.unpack_from(memory)
    begin = _END.size
    while begin < end:
        length, number = _HEAD.unpack_from(memory, begin)
        middle = begin + _HEAD.size + length
        name, labels, live = json.loads(bytes(memory[begin + _HEAD.size : middle]))
        begin = middle + number * CELL
        yield Key(name, tuple(labels), live), memory[middle:begin].cast("d")


class Number:
    """A counter that goes up, or a gauge that also goes down."""

    __slots__ = ("_cells", "_counts", "_generation", "_key")
    size = 1

    def __init__(self, counts: Counts, key: Key) -> None:
        self._counts = counts
        self._key = key
        self._generation = -1
        self._cells: Cells = memoryview(b"").cast("d")

    def add(self, amount: float = 1) -> None:
        """Add an amount."""
        with _lock:
            if self._generation != _generation:
                self._renew()
            self._cells[0] += amount

    def _renew(self) -> None:
        self._cells = self._counts.cells(self._key, self.size)
        self._generation = _generation


class Durations(Number):
    """A histogram of durations: their sum in seconds, and the number of durations in each bucket."""

    __slots__ = ("_bounds", "size")

    def __init__(self, counts: Counts, key: Key, bounds: tuple[float, ...]) -> None:
        super().__init__(counts, key)
        self._bounds = bounds
        self.size = 2 + len(bounds)

    def add(self, amount: float = 1) -> None:
        """Count a duration in seconds."""
        with _lock:
            if self._generation != _generation:
                self._renew()
            cells = self._cells
            cells[0] += amount
            cells[bisect_left(self._bounds, amount) + 1] += 1
