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
        if (
            magic != MAGIC
            or whole != size
            or length != length_for(size)
            or len(digests) != SIZE * -(-size // length)
        ):
            raise ValueError("of another kind")
        return cls(size, length, digests)


def length_for(size: int) -> int:
    """Return how long the pieces of a blob of this size are."""
    length = LENGTH
    while size > length * MOST:
        length *= 2
    return length
