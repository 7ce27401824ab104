"""The hashes of a blob's pieces: by them a client finds out which part of a download is wrong."""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

LENGTH = 1 << 20
# Of larger blobs the pieces are longer, so that no list needs much memory.
MOST = 16384
HEAD = struct.Struct(">8sQQ")
MAGIC = b"pieces 1"
SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class PieceHashes:
    """The SHA-256 of each piece of a blob; the last piece may be shorter. All lengths are in bytes."""

    size: int
    length: int
    digests: bytes
    """Those of all pieces, one behind the other."""

    def __iter__(self) -> Iterator[bytes]:
        return (self.digests[start : start + SIZE] for start in range(0, len(self.digests), SIZE))

    def to_bytes(self) -> bytes:
        """Return a record, which ends with a SHA-256 of all the rest."""
        data = HEAD.pack(MAGIC, self.size, self.length) + self.digests
        return data + hashlib.sha256(data).digest()

    @classmethod
    def from_bytes(cls, data: bytes, size: int) -> Self:
        """Read the record of a blob of this size; raises ValueError if it is not as it was written."""
        body, check = data[:-SIZE], data[-SIZE:]
        if len(body) < HEAD.size or hashlib.sha256(body).digest() != check:
            raise ValueError("damaged")
        magic, whole, length = HEAD.unpack_from(body)
        digests = body[HEAD.size :]
        if (magic, whole, length) != (MAGIC, size, length_for(size)) or len(digests) != count(size) * SIZE:
            raise ValueError("of another blob, or of another version")
        return cls(size, length, digests)


class PieceHasher:
    """Hashes the pieces of a blob of this size while its bytes are read in order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._length = self._left = length_for(size)
        self._piece = hashlib.sha256()
        self._digests = bytearray()

    def update(self, data: "memoryview | bytes") -> None:
        """Take the next bytes."""
        rest = memoryview(data)
        while len(rest) >= self._left:
            self._piece.update(rest[: self._left])
            self._digests += self._piece.digest()
            rest = rest[self._left :]
            self._left, self._piece = self._length, hashlib.sha256()
        if rest:
            self._piece.update(rest)
            self._left -= len(rest)

    def finish(self) -> PieceHashes:
        """Return the hashes after the last byte."""
        if self._left < self._length:
            self._digests += self._piece.digest()
        return PieceHashes(self._size, self._length, bytes(self._digests))


def length_for(size: int) -> int:
    """Return how long the pieces of a blob of this size are."""
    length = LENGTH
    while size > length * MOST:
        length *= 2
    return length


def count(size: int) -> int:
    """Return how many pieces a blob of this size has."""
    return -(-size // length_for(size))
