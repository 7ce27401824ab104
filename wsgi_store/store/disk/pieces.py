"""Keeps the hashes of pieces beside the blobs, in `.pieces/ab/abcdef…`.

A record is right for ever, since it was made from bytes that have the name: whether the blob is removed or
comes back changes nothing. So it is never looked after, only swept when its blob is gone.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress

from wsgi_store.digest import Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.filesystem import ABSENT, NAME, Directory, make_directory, read_file, set_mode, write_all
from wsgi_store.store.disk.reader import LocalReader
from wsgi_store.store.pieces import PieceHashes, length_for
from wsgi_store.store.staged import StagedFile

DIRECTORY = ".pieces"


def hashed(reader: LocalReader) -> PieceHashes:
    """Hash the pieces of a whole blob; raises StoreUnavailable if its bytes do not have its name."""
    blob = reader.blob
    name, length = blob.names[0], length_for(blob.size)
    whole = name.algorithm.new()
    digests = bytearray()
    for start in range(0, blob.size, length):
        piece = hashlib.sha256()
        left = min(length, blob.size - start)
        while left:
            data = reader.read(min(left, 1 << 20))
            whole.update(data)
            piece.update(data)
            left -= len(data)
        digests += piece.digest()
    if whole.digest() != name.raw:
        raise StoreUnavailable("the blob is damaged", hash=blob.digest.hex)
    return PieceHashes(blob.size, length, bytes(digests))


def load(root: str, name: Digest, size: int) -> PieceHashes | None:
    """Return the record of a blob; None if there is none that is whole. Raises OSError."""
    with suppress(ValueError, *ABSENT):
        return PieceHashes.from_bytes(read_file(_path(root, name.hex)), size)
    return None


def keep(root: str, staging: str, name: Digest, pieces: PieceHashes) -> None:
    """Write the record of a blob in one step; raises OSError."""
    directory = os.path.dirname(_path(root, name.hex))
    for path in (os.path.dirname(directory), directory):
        make_directory(path)
    with StagedFile.named(staging) as draft, Directory(directory, NAME) as shard:
        # Nothing is synced: a record that a power failure damaged is made again.
        write_all(draft.fd, pieces.to_bytes())
        set_mode(draft.fd, 0o644)
        draft.rename(name.hex, shard.fd)


def forget(root: str, hash_: str) -> None:
    """Remove the record of a blob, if there is one."""
    with suppress(*ABSENT):
        os.unlink(_path(root, hash_))


def records(root: str) -> Iterator[tuple[str, int]]:
    """Yield the name and the size of each record; raises OSError."""
    for shard in _listed(os.path.join(root, DIRECTORY)):
        for name in _listed(os.path.join(root, DIRECTORY, shard)):
            with suppress(*ABSENT):
                yield name, os.lstat(os.path.join(root, DIRECTORY, shard, name)).st_size


def _listed(path: str) -> list[str]:
    with suppress(*ABSENT):
        return sorted(os.listdir(path))
    return []


def _path(root: str, hash_: str) -> str:
    return os.path.join(root, DIRECTORY, hash_[:2], hash_)
