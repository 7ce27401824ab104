"""Finding names that lead to the wrong blob, by memory that does not grow with the store."""

import secrets
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby
from struct import Struct

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreError
from wsgi_store.store.abilities import Hashed, Names
from wsgi_store.store.contract import Blob, Store

# The algorithm's place among those of the store, the group of the name, the sum of its pair.
_NOTE = Struct("<BHQ")
GROUPS = 1 << 16

Pair = tuple[Digest, Digest]


@dataclass(frozen=True, slots=True)
class Seen:
    """Sums up pairs of a further name and the primary one to which it leads.

    The pairs of a group, names with the same first two bytes, are summed up by exclusive or. A key that
    nobody knows keeps others from making links whose sum is the same.
    """

    algorithms: tuple[Algorithm, ...]
    before: float
    """Blobs added since then do not count: they may come or be added again at any time."""
    key: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def of(self, blob: Blob, hashed: Hashed) -> bytes:
        """Return the notes on the names of a blob that was read."""
        if blob.modified >= self.before:
            return b""
        primary = hashed.digests[self.algorithms[0]]
        names = [(place, hashed.digests[one]) for place, one in enumerate(self.algorithms) if place]
        return b"".join(_NOTE.pack(place, group(name), self.sum(name, primary)) for place, name in names)

    def sum(self, name: Digest, primary: Digest) -> int:
        """Return the sum of one pair."""
        hashed = blake2b(name.raw + primary.raw, digest_size=8, key=self.key, usedforsecurity=False)
        return int.from_bytes(hashed.digest(), "little")


def group(name: Digest) -> int:
    """Return the group of a name."""
    return int.from_bytes(name.raw[:2], "big")


class Sums:
    """The sums of all names that blobs should have, as a full run has read them."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._sums = [array("Q", bytes(8 * GROUPS)) for _ in seen.algorithms]

    def add(self, notes: bytearray) -> None:
        """Add notes on names that were read."""
        for place, at, value in _NOTE.iter_unpack(notes):
            self._sums[place][at] ^= value

    def doubtful(self, store: Store, names: Names) -> Iterator[Pair | None]:
        """Yield the links of groups that differ from what was read; None now and then. Raises StoreError."""
        for place, algorithm in enumerate(self._seen.algorithms):
            if place:
                for at, links in groupby(names.links(algorithm), lambda pair: group(pair[0])):
                    yield None
                    yield from self._differing(store, self._sums[place][at], list(links))

    def _differing(self, store: Store, right: int, links: list[Pair]) -> list[Pair]:
        if self._sum(links) == right:
            return []
        # Names that lead nowhere are no fault, and uploads look at the names of what they find.
        links = [pair for pair in links if self._counts(store, pair[1])]
        return links if self._sum(links) != right else []

    def _sum(self, links: list[Pair]) -> int:
        total = 0
        for name, primary in links:
            total ^= self._seen.sum(name, primary)
        return total

    def _counts(self, store: Store, primary: Digest) -> bool:
        try:
            return store.stat(primary).modified < self._seen.before
        except BlobNotFound:
            return False
        except StoreError:
            return True
