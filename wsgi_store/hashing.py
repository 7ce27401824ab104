"""Hashing a stream of bytes by several algorithms at once, large blocks in a second thread."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
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


class _Helper:
    """A thread that hashes one block at a time, for any caller that finds it free.

    A process has one: servers already run a process for each processor. The thread touches only the
    block and the hashes, so a failed upload leaves it nothing to clean up.
    """

    def __init__(self) -> None:
        self._free = Lock()
        self._blocks: SimpleQueue[tuple[Future[None], list["_Hash"], Chunk]] = SimpleQueue()
        self._thread: Thread | None = None

    @property
    def lost(self) -> bool:
        """Whether the thread stayed behind in the process that forked this one (fork(2))."""
        return self._thread is not None and not self._thread.is_alive()

    def hash(self, hashes: "list[_Hash]", block: Chunk) -> "Future[None] | None":
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
        done: Future[None] = Future()
        self._blocks.put((done, hashes, block))
        return done

    def _run(self) -> None:
        while True:
            done, hashes, block = self._blocks.get()
            try:
                try:
                    _update(hashes, block)
                finally:
                    del hashes, block  # or this frame would keep the block until the next one arrives
                    self._free.release()
            except BaseException as error:  # pylint: disable=broad-exception-caught  # raised by `result`
                done.set_exception(error)
            else:
                done.set_result(None)


_helper = _Helper()


def _current_helper() -> _Helper:
    """The helper of this process."""
    global _helper  # pylint: disable=global-statement
    if _helper.lost:
        # Two threads may both get here: each gets a helper that works, and later callers use only one.
        _helper = _Helper()
    return _helper


def _update(hashes: "Iterable[_Hash]", block: Chunk) -> None:
    for value in hashes:
        value.update(block)


class Hasher:
    """Computes the digests of a stream in one pass, and checks those that a client announced.

    A large block is hashed while the caller receives the next one. Raises DigestMismatch if two
    announced digests of one algorithm differ.
    """

    def __init__(
        self, algorithm: Algorithm, expected: Iterable[Digest] = (), names: Iterable[Algorithm] = ()
    ) -> None:
        self._expected = tuple(expected)
        self._algorithm = algorithm
        self._hashes = {one: one.new() for one in (algorithm, *names)}
        self._begun = False
        self._pending: Future[None] | None = None
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
        self._settle()
        hashes = list(self._hashes.values())
        # The first block is often the only one; then there is nothing to receive meanwhile.
        if self._begun and len(data) >= HELPER_MIN:
            self._pending = _current_helper().hash(hashes, data)
        if self._pending is None:
            _update(hashes, data)
        self._begun = True

    def _settle(self) -> None:
        """Wait until the previous block is hashed."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def finish(self) -> Digest:
        """Return the digest by `algorithm`; raises DigestMismatch if the bytes lack an announced one."""
        return self.digests()[self._algorithm]

    def digests(self) -> dict[Algorithm, Digest]:
        """Return all digests; raises DigestMismatch if the bytes lack an announced one."""
        self._settle()
        digests = {one: Digest(one, value.digest()) for one, value in self._hashes.items()}
        for digest in self._expected:
            if (actual := digests[digest.algorithm]) != digest:
                raise DigestMismatch(expected=digest, actual=actual)
        return digests


def hash_file(fd: int, algorithms: Iterable[Algorithm]) -> dict[Algorithm, Digest]:
    """Return the digests of a file, whose offset stays as it is; raises OSError."""
    hashes = {algorithm: algorithm.new() for algorithm in algorithms}
    for block in blocks(fd):
        _update(hashes.values(), block)
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
