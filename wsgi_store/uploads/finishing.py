"""Storing the file of an upload whose last byte was received."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import replace
from threading import Lock, Thread

from wsgi_store.digest import Digest
from wsgi_store.errors import DigestMismatch, UploadLocked, UploadNotFound
from wsgi_store.filesystem import disk_errors
from wsgi_store.hashing import BLOCK_SIZE
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Added
from wsgi_store.uploads.following import RunningHash
from wsgi_store.uploads.part import Part, end_of

Publishing = AbstractContextManager[object] | None
# Seconds that a request waits for a thread that stores its file.
PATIENCE = 1.0
# Failures that are kept for the next request about their uploads.
KEPT = 100


def finish(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    staging: Staging,
    folder: int,
    part: Part,
    expected: Iterable[Digest],
    follower: RunningHash,
    publishing: Publishing,
    promise: str,
) -> Receipt:
    """Store the complete file of an upload whose last part is held.

    `follower` has the hashes of part 0. The file may use the room of its `promise`. Raises DigestMismatch if
    it lacks an expected digest, and what `Staging.publish` raises.
    """
    if part.number:
        # A process that was fenced off may still write to the parts.
        blocks = _counted(folder, part)
        return staging.receive(
            blocks, length=part.offset, expected=expected, ticket=publishing, promise=promise
        )
    follower.catch_up(part.fd, part.size)
    part.digests = follower.digests()
    for digest in expected:
        # It may have been announced after the hashing began.
        if (actual := part.digest(digest.algorithm)) != digest:
            raise DigestMismatch(expected=digest, actual=actual)
    # A killed request may have published it.
    published = part.is_published
    receipt = staging.publish(part, part.size, publishing)
    return replace(receipt, added=Added.CREATED) if published else receipt


def _counted(folder: int, last: Part) -> Iterator[bytes]:
    """Yield the bytes of all parts that count; raises StoreError."""
    for number in range(last.number + 1):
        with disk_errors("cannot read the upload"):
            end = last.size if number == last.number else end_of(number, folder) or 0
            try:
                opened = Part(folder, number, 0)
            except FileNotFoundError:  # it was removed meanwhile
                raise UploadNotFound from None
            with opened as part:
                offset = 0
                while offset < end:
                    block = os.pread(part.fd, min(BLOCK_SIZE, end - offset), offset)
                    if not block:
                        raise OSError("a part is shorter than expected")
                    yield block
                    offset += len(block)


class Background:
    """Stores files in threads of this process, because their requests might time out.

    A thread ends with its process, as if that had been killed: another request stores the file then.
    """

    def __init__(self, *, threads: bool) -> None:
        self._threads = threads
        self._lock = Lock()
        self._works: dict[str, Future[Receipt]] = {}

    def store(self, key: str, work: Callable[[], Receipt]) -> Receipt:
        """Store a file; raises UploadLocked if that takes longer than a second, and what `work` raises."""
        future: Future[Receipt] = Future()
        run = copy_context().run
        with self._lock:
            for ended in [key for key, one in self._works.items() if one.done()][:-KEPT]:
                del self._works[ended]
            self._works[key] = future
        thread = Thread(target=run, args=(_run, work, future), name="wsgi_store-finish", daemon=True)
        try:
            if not self._threads:
                raise RuntimeError("threads do not run between requests")
            thread.start()
        except RuntimeError:  # or there are too many
            run(_run, work, future)
        receipt = self.wait(key)
        assert receipt is not None
        return receipt

    def wait(self, key: str) -> Receipt | None:
        """Wait for a file that is being stored; None if none is. Raises what `store` raises."""
        with self._lock:
            future = self._works.get(key)
        if future is None:
            return None
        if not wait([future], PATIENCE).done:
            raise UploadLocked("the file is complete and is being stored")
        with self._lock:
            self._works.pop(key, None)
        return future.result()


def _run(work: Callable[[], Receipt], future: "Future[Receipt]") -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # pylint: disable=broad-exception-caught  # raised by `Background.wait`
        future.set_exception(error)
