"""The ledger of a store: when each range of digests was last verified, and the counts of all runs."""

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import StoreError
from wsgi_store.store.contract import Blob, Store

NOTE = ".verified.json"
# Bounds the size of the note. A part too many is merged with the neighbour that was verified at the most
# similar time; the earlier time counts for both.
MAX_PARTS = 256
NEVER = 0.0
COUNTS = ("blobs", "bytes", "corrupt")


@dataclass(frozen=True, slots=True)
class Part:
    """The digests behind `after` up to `upto`, in hex, and when they were verified."""

    after: str  # empty for the first part
    upto: str
    time: float  # seconds since the epoch, or NEVER

    def blobs(self, store: Store) -> Iterator[Blob]:
        """Yield the blobs of this part in ascending order; raises StoreError.

        A blob that cannot be described has the size 0 and the time NEVER: reading it will say why.
        """
        last = bytes.fromhex(self.upto)
        for blob in _all(store, store.algorithm.parse(self.after) if self.after else None):
            if blob.digest.raw > last:
                break
            yield blob


def _all(store: Store, after: Digest | None) -> Iterator[Blob]:
    while True:
        try:
            yield from store.iterate(after)
            return
        except StoreError as error:
            if "hash" not in error.evidence:
                raise
            after = store.algorithm.parse(str(error.evidence["hash"]))
        yield Blob(after, 0, NEVER)


class Ledger:
    """When each digest was last verified, as parts that cover all possible digests.

    A blob that was added after its part was verified counts as verified when it was added, because its
    bytes were hashed then. `blobs`, `bytes` and `corrupt` are the sums over all runs: what they verified
    and what they found.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.unreadable: set[Digest] = set()
        """Blobs that could not be read when their part was verified; the next run tries them first."""
        self.blobs = self.bytes = self.corrupt = 0
        self._last = "f" * (2 * algorithm.size)
        self._ends = [(self._last, NEVER)]

    @classmethod
    def load(cls, store: Store) -> Self:
        """Read the ledger of a store, an empty one if there is none or if it is malformed.

        Raises StoreError.
        """
        return cls._parse(store.algorithm, store.load_note(NOTE))

    @classmethod
    def update(cls, store: Store, change: Callable[[Self], None]) -> None:
        """Change the ledger of a store while no other run does; raises StoreError."""

        def changed(data: bytes | None) -> bytes:
            ledger = cls._parse(store.algorithm, data)
            change(ledger)
            return ledger.as_note()

        store.update_note(NOTE, changed)

    @classmethod
    def _parse(cls, algorithm: Algorithm, data: bytes | None) -> Self:
        ledger = cls(algorithm)
        try:
            note = json.loads(data or b"{}")
            ends = [(str(end), _past(float(when))) for end, when in note["parts"]]
            unreadable = {algorithm.parse(name) for name in note["unreadable"]}
            counts = [int(note[name]) for name in COUNTS]
            if not all(0 <= count <= sys.maxsize for count in counts):
                return ledger
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return ledger
        names = [end for end, _ in ends]
        fits = all(_is_hash(name, algorithm) for name in names) and names == sorted(set(names))
        if fits and names[-1:] == [ledger._last]:
            ledger._ends = ends
            ledger.unreadable = unreadable
            ledger.blobs, ledger.bytes, ledger.corrupt = counts
        return ledger

    def as_note(self) -> bytes:
        """Return the note that `load` reads."""
        note = {"parts": self._ends, "unreadable": sorted(digest.hex for digest in self.unreadable)}
        return json.dumps(note | {name: getattr(self, name) for name in COUNTS}).encode()

    @property
    def oldest(self) -> float:
        """When the part that is due was verified, NEVER if a blob could not be read."""
        return NEVER if self.unreadable else min(when for _, when in self._ends)

    def parts(self) -> list[Part]:
        """All parts, in ascending order."""
        starts = ["", *(end for end, _ in self._ends)]
        return [Part(start, end, when) for start, (end, when) in zip(starts, self._ends, strict=False)]

    def oldest_first(self) -> list[Part]:
        """All parts in the order in which to verify them; starts at random if none was verified."""
        parts = self.parts()
        if all(part.time == NEVER for part in parts):
            middle = secrets.token_hex(len(self._last) // 2)
            if middle != self._last:
                return [Part(middle, self._last, NEVER), Part("", middle, NEVER)]
        return sorted(parts, key=lambda part: part.time)

    def mark(self, after: str, upto: str, when: float) -> None:
        """Record that the digests behind `after` up to `upto` were verified."""
        ends: list[tuple[str, float]] = []
        for part in self.parts():
            if part.upto <= after or part.after >= upto:
                ends.append((part.upto, part.time))
                continue
            if part.after < after:
                ends.append((after, part.time))
            if part.upto >= upto:
                ends.append((upto, when))
            if part.upto > upto:
                ends.append((part.upto, part.time))
        self._ends = _merged(ends)


def _merged(ends: list[tuple[str, float]]) -> list[tuple[str, float]]:
    while len(ends) > 1:
        gap, at = min((abs(ends[at][1] - ends[at + 1][1]), at) for at in range(len(ends) - 1))
        if gap and len(ends) <= MAX_PARTS:
            break
        ends[at : at + 2] = [(ends[at + 1][0], min(ends[at][1], ends[at + 1][1]))]
    return ends


def _past(when: float) -> float:
    # A time in the future came from a wrong clock: that part is verified again.
    return when if 0 <= when <= time.time() else NEVER


def _is_hash(text: str, algorithm: Algorithm) -> bool:
    try:
        return algorithm.parse(text).hex == text
    except ValueError:
        return False
