"""The ledger of a store: when each range of digests was last verified, and the counts of all runs."""

import json
import sys
from collections.abc import Callable
from typing import Self

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.abilities import Names
from wsgi_store.store.contract import Store
from wsgi_store.store.marker import Marker
from wsgi_store.upkeep.plan import Done
from wsgi_store.upkeep.ranges import NEVER, Part, Ranges

NOTE = ".verified.json"
COUNTS = ("blobs", "bytes", "corrupt")


def marker_of(store: Store) -> Marker:
    """Return by which algorithms a store names its blobs now; raises StoreUnavailable."""
    return store.marker() if isinstance(store, Names) else Marker(store.algorithm)


class Ledger:
    """When each digest was last verified, by algorithm: the primary one and, while migrating, the old one.

    A blob that was added after its part was verified counts as verified when it was added, because its
    bytes were hashed then. `blobs`, `bytes` and `corrupt` are the sums over all runs: what they verified
    and what they found.
    """

    def __init__(self, algorithm: Algorithm, *old: Algorithm) -> None:
        self.unreadable: set[Digest] = set()
        """Blobs that could not be read when their part was verified; the next run tries them first."""
        self.blobs = self.bytes = self.corrupt = 0
        self._ranges = [Ranges(algorithm), *map(Ranges, old)]

    @classmethod
    def load(cls, store: Store) -> Self:
        """Read the ledger of a store, an empty one if there is none or if it is malformed.

        Raises StoreError.
        """
        return cls._parse(marker_of(store), store.load_note(NOTE))

    @classmethod
    def update(cls, store: Store, change: Callable[[Self], None]) -> None:
        """Change the ledger of a store while no other run does; raises StoreError."""
        marker = marker_of(store)

        def changed(data: bytes | None) -> bytes:
            ledger = cls._parse(marker, data)
            change(ledger)
            return ledger.as_note()

        store.update_note(NOTE, changed)

    @classmethod
    def _parse(cls, marker: Marker, data: bytes | None) -> Self:
        old = () if marker.migrating is None else (marker.migrating,)
        ledger = cls(marker.algorithm, *old)
        # What has a primary name since a migration began was hashed for that, or when it was uploaded.
        if old and marker.since is not None:
            ledger._ranges[0] = Ranges(marker.algorithm, marker.since)
        try:
            note = json.loads(data or b"{}")
            noted = {note.get("algorithm"): note["parts"]} | note.get("old", {})
            known = {ranges.algorithm: ranges for ranges in ledger._ranges}
            for name, parts in noted.items():
                # Version 0.1.0 names no algorithm; then the length of the digests has to do.
                for algorithm in known if name is None else known.keys() & {Algorithm(name)}:
                    known[algorithm] = Ranges.of(algorithm, parts) or known[algorithm]
            lengths = {2 * algorithm.size: algorithm for algorithm in known}
            unreadable = {
                lengths[len(name)].parse(name) for name in note["unreadable"] if len(name) in lengths
            }
            counts = [int(note[name]) for name in COUNTS]
            if not all(0 <= count <= sys.maxsize for count in counts):
                return ledger
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return ledger
        ledger._ranges = list(known.values())
        ledger.unreadable = unreadable
        ledger.blobs, ledger.bytes, ledger.corrupt = counts
        return ledger

    def as_note(self) -> bytes:
        """Return the note that `load` reads."""
        primary, *old = self._ranges
        note: dict[str, object] = {"algorithm": primary.algorithm.value, "parts": primary.noted()}
        if old:
            note["old"] = {ranges.algorithm.value: ranges.noted() for ranges in old}
        note["unreadable"] = sorted(digest.hex for digest in self.unreadable)
        return json.dumps(note | {name: getattr(self, name) for name in COUNTS}).encode()

    @property
    def oldest(self) -> float:
        """When the part that is due was verified, NEVER if a blob could not be read."""
        return NEVER if self.unreadable else min(ranges.oldest for ranges in self._ranges)

    def parts(self) -> list[Part]:
        """All parts, those of the primary algorithm first, each in ascending order."""
        return [part for ranges in self._ranges for part in ranges.parts()]

    def mark(self, algorithm: Algorithm, after: str, upto: str, when: float) -> None:
        """Record that the digests behind `after` up to `upto` were verified."""
        for ranges in self._ranges:
            if ranges.algorithm is algorithm:
                ranges.mark(after, upto, when)


def keep(store: Store, done: Done, when: float | None, max_unreadable: int) -> None:
    """Enter batches in the ledger of a store, at `when` or only their counts; raises StoreError."""

    def add(ledger: Ledger) -> None:
        for batch, checked in done:
            ledger.blobs += checked.blobs
            ledger.bytes += checked.bytes
            ledger.corrupt += len(checked.corrupt)
            ledger.unreadable -= {Digest(batch.algorithm, raw) for raw in batch.raws}
            ledger.unreadable |= set(checked.unreadable)
            # If there are too many of them, the range stays unverified and is read again.
            if when is not None and len(ledger.unreadable) <= max_unreadable:
                ledger.mark(batch.algorithm, batch.after, batch.upto, when)
        ledger.unreadable = set(sorted(ledger.unreadable, key=lambda digest: digest.raw)[:max_unreadable])

    Ledger.update(store, add)
