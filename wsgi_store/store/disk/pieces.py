"""Keeps the hashes of pieces beside the blobs, in `.pieces/ab/abcdef…` by their primary names.

A record is right as long as its name stands for the same bytes. Where that is for ever nobody looks after it:
it is swept when its blob is gone, and serves again if that comes back. A name by md5 or sha1 may come back
for other bytes, so there the record goes with the blob.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, Busy, StoreUnavailable
from wsgi_store.filesystem import (
    ABSENT,
    NAME,
    Directory,
    disk_errors,
    make_directory,
    read_file,
    set_mode,
    write_all,
)
from wsgi_store.store.contract import Blob
from wsgi_store.store.disk.listing import digest_of
from wsgi_store.store.disk.names import stat_file
from wsgi_store.store.disk.reader import READ_SIZE, LocalReader
from wsgi_store.store.disk.tree import Tree
from wsgi_store.store.pieces import LENGTH, PieceHasher, PieceHashes
from wsgi_store.store.staged import StagedFile

DIRECTORY = ".pieces"
# Seconds that a request waits for another one that hashes the same blob.
PATIENCE = 5.0


class PieceKeeping:
    """The ability Pieces of a store on a disk."""

    root: str
    staging_directory: str
    read_only: bool
    _tree: Tree

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> LocalReader:
        """Open a part of a blob."""
        raise NotImplementedError

    def pieces(self, digest: Digest) -> PieceHashes:
        """Return the hashes of the pieces of a blob, and keep them.

        Raises BlobNotFound, StoreUnavailable if the blob is damaged, and Busy.
        """
        with disk_errors("cannot hash the pieces of the blob"), closing(self.open(digest)) as reader:
            if (found := self.kept_pieces(reader.blob)) is not None:
                return found
            if self.read_only or reader.blob.size <= LENGTH:
                return hashed(reader)
            with _alone(reader):
                if (found := self.kept_pieces(reader.blob)) is None:
                    found = hashed(reader)
                    self.keep_pieces(reader.blob, reader.stamp, found)
            return found

    def kept_pieces(self, blob: Blob) -> PieceHashes | None:
        """Return what is kept for a blob; None if nothing is, or if it is damaged."""
        if blob.size <= LENGTH:
            return None
        with disk_errors("cannot read the hashes of pieces"), suppress(ValueError, *ABSENT):
            return PieceHashes.from_bytes(read_file(self._record(blob.names[0].hex)), blob.size)
        return None

    def keep_pieces(self, blob: Blob, stamp: object, pieces: PieceHashes) -> None:
        """Keep the hashes of a blob's pieces, if the disk has room for them.

        `stamp` is that of the reader by which they were made.
        """
        name = blob.names[0]
        with suppress(OSError):  # such as a disk that is full: they can be made again
            self._write(name.hex, pieces.to_bytes())
        if not name.algorithm.collision_resistant and self._stamp(name) != stamp:
            self.forget_pieces(name)

    def forget_pieces(self, name: Digest) -> None:
        """Remove what is kept under a primary name that may come back for other bytes."""
        if not name.algorithm.collision_resistant:
            with suppress(OSError):
                os.unlink(self._record(name.hex))

    def sweep_pieces(self, *, remove: bool) -> Iterator[int]:
        """Yield the sizes in bytes of what is kept for blobs that are gone, after removing each."""
        algorithms = self._tree.marker.refresh().algorithms
        for hash_ in self._records():
            with disk_errors("cannot sweep the hashes of pieces"), suppress(*ABSENT):
                if any(self._is_primary(digest) for one in algorithms if (digest := digest_of(one, hash_))):
                    continue
                size = os.lstat(self._record(hash_)).st_size
                if remove:
                    os.unlink(self._record(hash_))
                yield size

    def _write(self, hash_: str, data: bytes) -> None:
        """Write a record in one step; raises OSError."""
        shard = os.path.dirname(self._record(hash_))
        for path in (os.path.dirname(shard), shard):
            make_directory(path)
        with StagedFile.named(self.staging_directory) as draft, Directory(shard, NAME) as directory:
            # Nothing is synced: a record that a power failure damages is made again.
            write_all(draft.fd, data)
            set_mode(draft.fd, 0o644)
            draft.rename(hash_, directory.fd)

    def _records(self) -> Iterator[str]:
        place = os.path.join(self.root, DIRECTORY)
        for shard in _listed(place):
            yield from _listed(os.path.join(place, shard))

    def _record(self, hash_: str) -> str:
        return os.path.join(self.root, DIRECTORY, hash_[:2], hash_)

    def _is_primary(self, digest: Digest) -> bool:
        with suppress(BlobNotFound):
            return self._tree.find(digest, stat_file)[1] == digest
        return False

    def _stamp(self, name: Digest) -> object:
        with suppress(BlobNotFound), closing(self.open(name)) as reader:
            return reader.stamp
        return None


def hashed(reader: LocalReader) -> PieceHashes:
    """Hash the pieces of a whole blob; raises StoreUnavailable if its bytes do not have its name."""
    name = reader.blob.names[0]
    whole, pieces = name.algorithm.new(), PieceHasher(reader.blob.size)
    while data := reader.read(READ_SIZE):
        whole.update(data)
        pieces.update(data)
    if whole.digest() != name.raw:
        raise StoreUnavailable("the blob is damaged: verify the store", hash=reader.blob.digest.hex)
    return pieces.finish()


@contextmanager
def _alone(reader: LocalReader) -> Iterator[None]:
    """Lock the file of a blob (flock(2)), so that only one request reads all of it; raises Busy."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(reader.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise Busy("the pieces of this blob are being hashed: try again") from None
            time.sleep(0.05)
        except OSError:
            break  # the file system has no locks
        else:
            break
    yield  # the lock ends with the descriptor


def _listed(path: str) -> list[str]:
    with disk_errors("cannot sweep the hashes of pieces"), suppress(*ABSENT):
        return sorted(os.listdir(path))
    return []
