"""A store in memory, written against the contract in wsgi_store.store.contract.

examples/test_memory_store.py holds it to the contract.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, DigestCollision, StoreError
from wsgi_store.store.contract import Added, Blob, Publication
from wsgi_store.store.staged import StagedFile

PIECE = 1 << 16


class Reader:
    """Part of the bytes of a blob, which nobody changes."""

    def __init__(self, blob: Blob, data: bytes, start: int, stop: int) -> None:
        self.blob = blob
        self.stamp = id(data)
        self._data = data
        self._at = start
        self._stop = stop

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, b"" at the end of the part."""
        stop = self._stop if size < 0 else min(self._at + size, self._stop)
        piece = self._data[self._at : stop]
        self._at += len(piece)
        return piece

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(PIECE), b"")

    def seek(self, offset: int, /) -> int:
        """Go on from this byte of the blob."""
        self._at = offset
        return offset

    def close(self) -> None:
        """Nothing is held."""


class MemoryStore:
    """Blobs in a dict; every change is made under one lock."""

    keeps_staged = False  # a staged file is copied, so there is no need to sync it
    granularity = 0.0
    read_only = False

    def __init__(self, algorithm: Algorithm, staging_directory: Path) -> None:
        self.algorithm = algorithm
        self.algorithms = (algorithm,)
        self.staging_directory = str(staging_directory)
        staging_directory.mkdir(parents=True, exist_ok=True)
        self.blobs: dict[Digest, bytes] = {}
        self._modified: dict[Digest, float] = {}
        self._quarantine: dict[Digest, Blob] = {}
        self._notes: dict[str, bytes] = {}
        self._lock = Lock()
        self._made = time.time()

    def check(self) -> None:
        """Memory is always there."""

    def refresh(self) -> tuple[Algorithm, ...]:
        """It never changes."""
        return self.algorithms

    def made(self) -> float:
        """When the process made it."""
        return self._made

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob."""
        with self._lock:
            return self._stat(digest)

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> Reader:
        """Open a part of a blob; its bytes outlive its removal."""
        with self._lock:
            blob, data = self._stat(digest), self.blobs[digest]
        stop = blob.size if length is None else min(start + length, blob.size)
        return Reader(blob, data, start, stop)

    def add(self, staged: StagedFile, under: Digest | None = None) -> Publication:
        """Copy a staged file, unless the same bytes are there."""
        del under  # there are no further names
        data = os.pread(staged.fd, os.fstat(staged.fd).st_size, 0)
        digest = staged.digest(self.algorithm)
        with self._lock:
            added = self._added(digest, data)
            if added is not Added.HELD:
                self.blobs[digest] = data
                self._quarantine.pop(digest, None)
            self._touch(digest)
        return Publication(added, (digest,))

    def add_all(self, staged: Sequence[StagedFile]) -> list[Publication | StoreError]:
        """Copy staged files; nothing in memory is faster for several at once."""
        outcomes: list[Publication | StoreError] = []
        for one in staged:
            try:
                outcomes.append(self.add(one))
            except StoreError as error:
                outcomes.append(error)
        return outcomes

    def sizes(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """The sizes of those blobs that are there."""
        return {digest: len(self.blobs[digest]) for digest in digests if digest in self.blobs}

    def renew(self, digest: Digest, size: int) -> Publication | None:
        """Make a blob of this size count as added now."""
        with self._lock:
            data = self.blobs.get(digest)
            if data is None or len(data) != size:
                return None
            self._touch(digest)
        return Publication(Added.HELD, (digest,))

    def renew_all(self, blobs: Mapping[Digest, int]) -> set[Digest]:
        """Make blobs of these sizes count as added now."""
        return {digest for digest, size in blobs.items() if self.renew(digest, size)}

    def _touch(self, digest: Digest) -> None:
        self._modified[digest] = time.time()

    def remove(self, digest: Digest, check: Callable[[Blob], object] | None = None) -> Blob:
        """Remove a blob that `check` does not keep."""
        with self._lock:
            blob = self._stat(digest)
            if check is not None:
                check(blob)
            del self.blobs[digest], self._modified[digest]
        return blob

    def expire(self, digest: Digest, modified: float) -> bool:
        """Remove a blob that was not added since."""
        with self._lock:
            if self._modified.get(digest) != modified:
                return False
            del self.blobs[digest], self._modified[digest]
        return True

    def quarantine(self, digest: Digest) -> bool:
        """Take a blob out of service whose bytes have another digest."""
        with self._lock:
            blob = self._stat(digest)
            if self._is_whole(digest):
                return False
            del self.blobs[digest], self._modified[digest]
            self._quarantine[digest] = Blob(digest, blob.size, time.time())
        return True

    def quarantined(self) -> Iterator[Blob]:
        """Yield the blobs in quarantine."""
        with self._lock:
            kept = sorted(self._quarantine.values(), key=lambda blob: blob.digest.raw)
        return iter(kept)

    def discard(self, digest: Digest) -> None:
        """Forget what was taken out of service."""
        with self._lock:
            if self._quarantine.pop(digest, None) is None:
                raise BlobNotFound(hash=digest.hex)

    def load_note(self, name: str) -> bytes | None:
        """Read a note."""
        return self._notes.get(name)

    def update_note(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Change a note while nobody else does."""
        with self._lock:
            self._notes[name] = change(self._notes.get(name))

    def iterate(self, after: Digest | None = None, algorithm: Algorithm | None = None) -> Iterator[Blob]:
        """The blobs there are now, in ascending order."""
        del algorithm  # there is only one
        with self._lock:
            blobs = sorted(map(self._stat, self.blobs), key=lambda blob: blob.digest.raw)
        return (blob for blob in blobs if after is None or blob.digest.raw > after.raw)

    def _stat(self, digest: Digest) -> Blob:
        try:
            return Blob(digest, len(self.blobs[digest]), self._modified[digest])
        except KeyError:
            raise BlobNotFound(hash=digest.hex) from None

    def _is_whole(self, digest: Digest) -> bool:
        value = digest.algorithm.new()
        value.update(self.blobs[digest])
        return value.digest() == digest.raw

    def _added(self, digest: Digest, data: bytes) -> Added:
        if digest not in self.blobs:
            return Added.HEALED if digest in self._quarantine else Added.CREATED
        held = self.blobs[digest]
        if len(held) == len(data) and (digest.algorithm.collision_resistant or held == data):
            return Added.HELD
        if not digest.algorithm.collision_resistant and self._is_whole(digest):
            raise DigestCollision(hash=digest.hex)
        return Added.HEALED
