"""Hashing bytes while they arrive, large blocks in a second thread."""

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


# Blocks of so many bytes and more take longer to hash than to hand over to another thread.
LARGE = 256 << 10


class _Helper:
    """A thread that hashes one block at a time for whoever finds it free.

    One in a process: servers have a process for each processor. It touches nothing but the
    block and the hashes, so whatever becomes of the upload leaves it nothing to clean up.
    """

    def __init__(self) -> None:
        self._free = Lock()
        self._blocks: SimpleQueue[tuple[Future[None], list["_Hash"], Chunk]] = SimpleQueue()
        self._started = False

    def hash(self, hashes: "list[_Hash]", block: Chunk) -> "Future[None] | None":
        """Begin to hash a block; None when it is busy, or no thread can be had."""
        # pylint: disable-next=consider-using-with  # released where the block is done with
        if not self._free.acquire(blocking=False):
            return None
        if not self._started:
            try:
                Thread(target=self._run, name="wsgi_store-hash", daemon=True).start()
            except RuntimeError:
                self._free.release()
                return None
            self._started = True
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
                    del hashes, block  # which would otherwise be kept until the next one comes
                    self._free.release()
            except BaseException as error:  # pylint: disable=broad-exception-caught  # raised by `result`
                done.set_exception(error)
            else:
                done.set_result(None)


_helper = _Helper()


def _forget_helper() -> None:
    """Threads are not copied by fork(2)."""
    global _helper  # pylint: disable=global-statement
    _helper = _Helper()


os.register_at_fork(after_in_child=_forget_helper)


def _update(hashes: "Iterable[_Hash]", block: Chunk) -> None:
    for value in hashes:
        value.update(block)


class Hasher:
    """Hashes once for a store's algorithm and every algorithm a client announced.

    Large blocks are hashed while the next one is received. Raises DigestMismatch when two
    digests of one algorithm were announced that differ.
    """

    def __init__(self, algorithm: Algorithm, expected: Iterable[Digest] = ()) -> None:
        self._expected = tuple(expected)
        self._main = algorithm.new()
        self._algorithm = algorithm
        self._hashes = {algorithm: self._main}
        self._begun = False
        self._pending: Future[None] | None = None
        announced: dict[Algorithm, Digest] = {}
        for digest in self._expected:
            first = announced.setdefault(digest.algorithm, digest)
            if first != digest:
                # No bytes can have both: nobody needs to send any.
                raise DigestMismatch(expected=first, actual=digest)
            if digest.algorithm not in self._hashes:
                self._hashes[digest.algorithm] = digest.algorithm.new()

    def update(self, data: Chunk) -> None:
        """Take more bytes in; they must stay as they are until the next call of any method."""
        self._settle()
        hashes = list(self._hashes.values())
        # Not the first block: it is often the only one, and there is nothing to receive meanwhile.
        if self._begun and len(data) >= LARGE:
            self._pending = _helper.hash(hashes, data)
        if self._pending is None:
            _update(hashes, data)
        self._begun = True

    def _settle(self) -> None:
        """Wait for the block before."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def finish(self) -> Digest:
        """Return the digest; raises DigestMismatch if an announced one differs."""
        self._settle()
        for digest in self._expected:
            actual = Digest(digest.algorithm, self._hashes[digest.algorithm].digest())
            if actual != digest:
                raise DigestMismatch(expected=digest, actual=actual)
        return Digest(self._algorithm, self._main.digest())


def checked(chunks: Iterable[Chunk], expected: list[Digest]) -> Iterator[Chunk]:
    """Pass `chunks` on; raises DigestMismatch at their end if they lack an expected digest."""
    if not expected:
        yield from chunks
        return
    hasher = Hasher(expected[0].algorithm, expected)
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk
    hasher.finish()
