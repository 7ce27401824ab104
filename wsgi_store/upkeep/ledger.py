"""Which digests of a store were last verified when, and the counts of all runs: the note they leave."""

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
# More would make the note grow; a part too many is merged with the neighbour verified at the
# most similar time, and both count as verified at the earlier one.
MAX_PARTS = 256
NEVER = 0.0
COUNTS = ("blobs", "bytes", "corrupt")


@dataclass(frozen=True, slots=True)
class Part:
    """The digests behind `after` up to `upto`, in hex, and when all of them were verified."""

    after: str  # empty: from the first one on
    upto: str
    time: float  # seconds since the epoch, NEVER where it is not known

    def blobs(self, store: Store) -> Iterator[Blob]:
        """Yield the blobs of this part in ascending order; raises StoreError.

        Those that cannot be looked at are among them, without a size and a time: whoever reads
        them is told why.
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


class Verified:
    """When which digests were verified, as parts that cover all there can be.

    A blob that was added later than its part was verified counts from then: its bytes were
    hashed when it was added.

    `blobs` and `bytes` were verified by all runs together, some again and again, and `corrupt`
    blobs found.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.unreadable: set[Digest] = set()
        """What could not be read when its part was verified; the next run tries it first."""
        self.blobs = self.bytes = self.corrupt = 0
        self._last = "f" * (2 * algorithm.size)
        self._ends = [(self._last, NEVER)]

    @classmethod
    def load(cls, store: Store) -> Self:
        """Read the note of a store; without one, or with one that makes no sense, nothing is known.

        Raises StoreError.
        """
        return cls._parse(store.algorithm, store.load_note(NOTE))

    @classmethod
    def update(cls, store: Store, change: Callable[[Self], None]) -> None:
        """Change the note of a store, one run after the other; raises StoreError."""

        def changed(data: bytes | None) -> bytes:
            verified = cls._parse(store.algorithm, data)
            change(verified)
            return verified.as_note()

        store.update_note(NOTE, changed)

    @classmethod
    def _parse(cls, algorithm: Algorithm, data: bytes | None) -> Self:
        verified = cls(algorithm)
        try:
            note = json.loads(data or b"{}")
            ends = [(str(end), _past(float(when))) for end, when in note["parts"]]
            unreadable = {algorithm.parse(name) for name in note["unreadable"]}
            counts = [int(note[name]) for name in COUNTS]
            if not all(0 <= count <= sys.maxsize for count in counts):
                return verified
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return verified
        names = [end for end, _ in ends]
        fits = all(_is_hash(name, algorithm) for name in names) and names == sorted(set(names))
        if fits and names[-1:] == [verified._last]:
            verified._ends = ends
            verified.unreadable = unreadable
            verified.blobs, verified.bytes, verified.corrupt = counts
        return verified

    def as_note(self) -> bytes:
        """What `load` reads."""
        note = {"parts": self._ends, "unreadable": sorted(digest.hex for digest in self.unreadable)}
        return json.dumps(note | {name: getattr(self, name) for name in COUNTS}).encode()

    @property
    def oldest(self) -> float:
        """When the part that was verified longest ago was, NEVER where a blob could not be read."""
        return NEVER if self.unreadable else min(when for _, when in self._ends)

    def parts(self) -> list[Part]:
        """All parts, in ascending order."""
        starts = ["", *(end for end, _ in self._ends)]
        return [Part(start, end, when) for start, (end, when) in zip(starts, self._ends, strict=False)]

    def oldest_first(self) -> list[Part]:
        """All parts in the order in which to verify them; it begins anywhere when nothing is known."""
        parts = self.parts()
        if all(part.time == NEVER for part in parts):
            middle = secrets.token_hex(len(self._last) // 2)
            if middle != self._last:
                return [Part(middle, self._last, NEVER), Part("", middle, NEVER)]
        return sorted(parts, key=lambda part: part.time)

    def mark(self, after: str, upto: str, when: float) -> None:
        """Remember that the digests behind `after` up to `upto` were verified."""
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
    # A time to come was told by a clock that was wrong: what was read then is read again.
    return when if 0 <= when <= time.time() else NEVER


def _is_hash(text: str, algorithm: Algorithm) -> bool:
    try:
        return algorithm.parse(text).hex == text
    except ValueError:
        return False
