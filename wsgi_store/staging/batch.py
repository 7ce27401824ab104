"""Several files of one request: received one after another, then synced and published together."""

import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import (
    DigestCollision,
    DigestMismatch,
    StoreError,
    StoreUnavailable,
    TooLarge,
    WSGIStoreError,
)
from wsgi_store.filesystem import TOO_MANY_OPEN
from wsgi_store.hashing import Hasher
from wsgi_store.staging.filling import SPACE_INTERVAL, Filling
from wsgi_store.staging.receipt import Receipt
from wsgi_store.store.contract import Store
from wsgi_store.store.staged import StagedFile

# Files that may wait open, and their bytes.
FILES = 256
BYTES = 64 << 20
# The part of the files that a process may have open which a batch may take, and the fewest. Clients that
# stand still keep theirs open: 32 of them must leave room for others.
SHARE = 64
FEWEST = 8
# Bytes that the smallest file takes on most disks.
BLOCK = 4096
# Descriptors kept for publishing, in case other requests take the last ones meanwhile.
SPARE = 8


class Batch:
    """Files that were received whole and wait to be published.

    Leaving this context manager drops those that still wait.
    """

    def __init__(self, filling: Filling, store: Store, max_size: int | None) -> None:
        self._filling = filling
        self._store = store
        self._max_size = max_size
        self._most = FILES
        self._count = 0
        self._outcomes: dict[int, Receipt | WSGIStoreError] = {}  # by the number of the file
        self._waiting: dict[int, tuple[StagedFile, int]] = {}  # with the size in bytes
        self._bytes = 0
        self._unchecked = SPACE_INTERVAL
        self._spare: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free_spare()
        for staged, _ in self._waiting.values():
            with suppress(StoreError):  # nobody was promised anything
                staged.close()

    def receive(self, chunks: Iterable[Chunk], expected: Iterable[Digest]) -> bool:
        """Receive one more file, after publishing the others if many wait.

        Returns False if the store has failed, so that it can take no more. Raises what `chunks` raises.
        """
        number, self._count = self._count, self._count + 1
        source = _Source(chunks)
        try:
            if number == 1:  # one file alone needs no limit
                self._most = _most_waiting()
            if len(self._waiting) >= self._most or self._bytes >= BYTES:
                self._make_way()
            staged, size = self._received(source, expected)
        except (TooLarge, DigestMismatch, StoreError) as error:
            if error is source.failure:
                raise
            self._outcomes[number] = error
            return not isinstance(error, StoreError)
        self._waiting[number] = staged, size
        self._bytes += size
        if len(self._waiting) == 2:
            self._take_spare()
        return True

    def finish(self) -> list[Receipt | WSGIStoreError]:
        """Publish the files that still wait; returns what became of each file, in the order they came."""
        self._publish()
        return [self._outcomes[number] for number in range(self._count)]

    def _publish(self) -> None:
        self._free_spare()
        sealed: dict[int, StagedFile] = {}
        failures = self._filling.seal_all(self._waiting.values())
        for (number, (staged, _)), failure in zip(self._waiting.items(), failures, strict=True):
            if failure is None:
                sealed[number] = staged
            else:
                self._outcomes[number] = failure
        added = self._store.add_all(list(sealed.values())) if sealed else []
        for number, outcome in zip(sealed, added, strict=True):
            _, size = self._waiting[number]
            self._outcomes[number] = outcome if isinstance(outcome, StoreError) else Receipt.of(outcome, size)
        while self._waiting:
            number, (staged, _) = self._waiting.popitem()
            try:
                staged.close()
            except StoreError as error:
                self._outcomes[number] = error
        self._bytes = 0

    def _make_way(self) -> None:
        """Publish the files that wait; raises the StoreError that others would meet, too."""
        numbers = list(self._waiting)
        self._publish()
        for outcome in (self._outcomes[number] for number in numbers):
            if isinstance(outcome, StoreError) and not isinstance(outcome, DigestCollision):
                raise outcome

    def _received(self, source: "_Source", expected: Iterable[Digest]) -> tuple[StagedFile, int]:
        if self._unchecked >= SPACE_INTERVAL:
            self._filling.admit(0, self._max_size)
            self._unchecked = 0
        algorithm, *names = self._store.algorithms
        hasher = Hasher(algorithm, expected, names)
        staged = self._created()
        try:
            size = self._filling.fill(staged, source, hasher.update, max_size=self._max_size)
            staged.digests = hasher.digests()
        except BaseException:
            staged.close()
            raise
        self._unchecked += max(size, BLOCK)
        return staged, size

    def _created(self) -> StagedFile:
        try:
            return self._filling.create()
        except StoreUnavailable as error:
            match error.__cause__:
                case OSError(errno=number) if self._waiting and number in TOO_MANY_OPEN:
                    pass
                case _:
                    raise
        self._make_way()
        return self._filling.create()

    def _take_spare(self) -> None:
        with suppress(OSError):
            while len(self._spare) < SPARE:
                self._spare.append(os.eventfd(0))  # any descriptor would do

    def _free_spare(self) -> None:
        while self._spare:
            os.close(self._spare.pop())


def _most_waiting() -> int:
    """Return how many files may wait open: few where the process may open few (getrlimit(2))."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FILES if limit == resource.RLIM_INFINITY else min(FILES, max(FEWEST, limit // SHARE))


class _Source:
    """The chunks of a file, and whether a failure is theirs."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = chunks
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[Chunk]:
        try:
            for chunk in self._chunks:  # pylint: disable=use-yield-from  # that would close them
                yield chunk
        except Exception as error:
            self.failure = error
            raise
