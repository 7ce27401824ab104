"""Hashing a stream of bytes by several algorithms at once, large blocks in other threads."""

import os
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from wsgi_store.digest import Algorithm, Chunk, Digest
from wsgi_store.errors import DigestMismatch

if TYPE_CHECKING:
    from hashlib import _Hash


# Bytes. Hashing a smaller block takes less time than handing it to another thread.
HELPER_MIN = 256 << 10
# Bytes of a file that are read at once.
BLOCK_SIZE = 1 << 20


class _Pending:
    """A block that a helper hashes.

    Not a Future: the condition in it takes and releases several locks for each block.
    """

    def __init__(self, value: "_Hash", block: Chunk) -> None:
        self._work: tuple["_Hash", Chunk] | None = (value, block)
        self._error: BaseException | None = None
        self._ended = Lock()
        self._ended.acquire()  # pylint: disable=consider-using-with  # until `end`

    def hash(self) -> None:
        """Hash the block, and forget it."""
        assert self._work is not None
        value, block = self._work
        try:
            value.update(block)
        except BaseException as error:  # pylint: disable=broad-exception-caught  # raised by `wait`
            self._error = error
        self._work = None

    def end(self) -> None:
        """Let `wait` return."""
        self._ended.release()

    def wait(self) -> None:
        """Wait until the block is hashed; raises what hashing it raised."""
        with self._ended:
            if self._error is not None:
                raise self._error


class _Helper:
    """A thread that hashes one block at a time, for any caller that finds it free.

    A process has one for each algorithm: servers already run a process for each processor. The thread
    touches only the block and the hash, so a failed upload leaves it nothing to clean up.
    """

    def __init__(self) -> None:
        self._free = Lock()
        self._blocks: SimpleQueue[_Pending] = SimpleQueue()
        self._thread: Thread | None = None

    @property
    def lost(self) -> bool:
        """Whether the thread stayed behind in the process that forked this one (fork(2))."""
        return self._thread is not None and not self._thread.is_alive()

    def hash(self, value: "_Hash", block: Chunk) -> _Pending | None:
        """Start to hash a block; returns None if the thread is busy or cannot be started."""
        # pylint: disable-next=consider-using-with  # the thread releases it after the block
        if not self._free.acquire(blocking=False):
            return None
        if self._thread is None:
            thread = Thread(target=self._run, name="wsgi_store-hash", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                self._free.release()
                return None
            self._thread = thread
        pending = _Pending(value, block)
        self._blocks.put(pending)
        return pending

    def _run(self) -> None:
        while True:
            pending = self._blocks.get()
            pending.hash()
            self._free.release()
            pending.end()


_helpers: dict[Algorithm, _Helper] = {}


def _helper_for(algorithm: Algorithm) -> _Helper:
    """The helper of this process for an algorithm."""
    helper = _helpers.get(algorithm)
    if helper is None or helper.lost:
        # Two threads may both get here: each gets a helper that works, and later callers use only one.
        helper = _helpers[algorithm] = _Helper()
    return helper


class Hasher:
    """Computes the digests of a stream in one pass, and checks those that a client announced.

    A large block is hashed by all algorithms at once, while the caller receives the next one. Raises
    DigestMismatch if two announced digests of one algorithm differ.
    """

    def __init__(
        self, algorithm: Algorithm, expected: Iterable[Digest] = (), names: Iterable[Algorithm] = ()
    ) -> None:
        self._expected = tuple(expected)
        self._algorithm = algorithm
        self._hashes = {one: one.new() for one in (algorithm, *names)}
        self._begun = False
        self._pending: list[_Pending] = []
        announced: dict[Algorithm, Digest] = {}
        for digest in self._expected:
            first = announced.setdefault(digest.algorithm, digest)
            if first != digest:
                # No bytes have both digests, so the client need not send any.
                raise DigestMismatch(expected=first, actual=digest)
            if digest.algorithm not in self._hashes:
                self._hashes[digest.algorithm] = digest.algorithm.new()

    def update(self, data: Chunk) -> None:
        """Hash more bytes; the caller leaves them unchanged until it calls another method."""
        self.settle()
        # The first block is often the only one; then there is nothing to receive meanwhile.
        aside = self._begun and len(data) >= HELPER_MIN
        for algorithm, value in self._hashes.items():
            pending = _helper_for(algorithm).hash(value, data) if aside else None
            if pending is None:
                value.update(data)
            else:
                self._pending.append(pending)
        self._begun = True

    def settle(self) -> None:
        """Wait until everything is hashed; then the caller may change it."""
        while self._pending:
            self._pending.pop().wait()

    def finish(self) -> Digest:
        """Return the digest by `algorithm`; raises DigestMismatch if the bytes lack an announced one."""
        return self.digests()[self._algorithm]

    def digests(self) -> dict[Algorithm, Digest]:
        """Return all digests; raises DigestMismatch if the bytes lack an announced one."""
        self.settle()
        digests = {one: Digest(one, value.digest()) for one, value in self._hashes.items()}
        for digest in self._expected:
            if (actual := digests[digest.algorithm]) != digest:
                raise DigestMismatch(expected=digest, actual=actual)
        return digests


def hash_file(fd: int, algorithms: Iterable[Algorithm]) -> dict[Algorithm, Digest]:
    """Return the digests of a file, whose offset stays as it is; raises OSError."""
    hashes = {algorithm: algorithm.new() for algorithm in algorithms}
    for block in blocks(fd):
        for value in hashes.values():
            value.update(block)
    return {algorithm: Digest(algorithm, value.digest()) for algorithm, value in hashes.items()}


def blocks(fd: int) -> Iterator[bytes]:
    """Yield the bytes of a file, whose offset stays as it is; raises OSError."""
    offset = 0
    while block := os.pread(fd, BLOCK_SIZE, offset):
        yield block
        offset += len(block)


def checked(chunks: Iterable[Chunk], expected: list[Digest]) -> Iterator[Chunk]:
    """Pass on `chunks`; raises DigestMismatch at their end if the bytes lack an expected digest."""
    if not expected:
        yield from chunks
        return
    hasher = Hasher(expected[0].algorithm, expected)
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk
    hasher.finish()
