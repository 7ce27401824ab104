"""Hashing an upload while it arrives, in whatever pieces and by whichever processes."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock

from wsgi_store.digest import Algorithm, Chunk, Digest
from wsgi_store.hashing import BLOCK_SIZE, Hasher

# Bytes of the file that are read to catch up, for each byte that is received.
CATCHING_UP = 4
# Uploads whose hashes this process keeps between two requests; a hash takes a few hundred bytes.
KEPT = 1000


class RunningHash:
    """The hashes of the first `position` bytes of an upload."""

    def __init__(self, algorithms: Iterable[Algorithm], expected: Iterable[Digest]) -> None:
        first, *others = algorithms
        self._hasher = Hasher(first, expected, others)
        self.position = 0

    def following(self, fd: int, offset: int) -> Callable[[Chunk], None]:
        """Return a function that hashes bytes which are about to be written at the end of a file.

        Bytes that were written before are read. The caller leaves them unchanged until it calls the function
        or a method again. The function raises OSError.
        """

        def update(data: Chunk) -> None:
            nonlocal offset
            self.catch_up(fd, offset, CATCHING_UP * len(data))
            if self.position == offset:
                self._hasher.update(data)
                self.position += len(data)
            offset += len(data)

        return update

    def catch_up(self, fd: int, end: int, most: int | None = None) -> None:
        """Hash the bytes of the file up to `end`, or `most` of them; raises OSError."""
        if most is not None:
            end = min(end, self.position + most)
        while self.position < end:
            block = os.pread(fd, min(BLOCK_SIZE, end - self.position), self.position)
            if not block:
                raise OSError("the file is shorter than expected")
            self._hasher.update(block)
            self.position += len(block)

    def digests(self) -> dict[Algorithm, Digest]:
        """Return the digests; raises DigestMismatch if the bytes lack an expected one."""
        return self._hasher.digests()


class HashCache:
    """The followers of this process that no request is using, by the keys of their parts."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[bytes, RunningHash] = OrderedDict()

    def take(self, key: bytes) -> RunningHash | None:
        """Return a follower, for one request alone."""
        with self._lock:
            return self._kept.pop(key, None)

    def keep(self, key: bytes, follower: RunningHash) -> None:
        """Keep a follower for the next request."""
        with self._lock:
            self._kept[key] = follower
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
