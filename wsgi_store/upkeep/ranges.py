"""Ranges of digests, and when each was last covered by a run."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreError
from wsgi_store.store.abilities import Names
from wsgi_store.store.contract import Blob, Store

# Bounds the size of a note with ranges. A part too many is merged with the neighbour that was covered at the
# most similar time; the earlier time counts for both.
MAX_PARTS = 256
NEVER = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """The digests of an algorithm behind `after` up to `upto`, in hex, and when they were covered."""

    algorithm: Algorithm
    after: str  # empty for the first part
    upto: str
    time: float  # seconds since the epoch, or NEVER

    def blobs(self, store: Store) -> Iterator[Blob]:
        """Yield the blobs whose files have these names, in ascending order; raises StoreError.

        By a further algorithm those are the blobs that lack a primary name. A blob that cannot be described
        has the size 0 and the time NEVER: reading it will say why.
        """
        last = bytes.fromhex(self.upto)
        for blob in _all(store, self.algorithm, self.after):
            if blob.digest.raw > last:
                break
            yield blob


def _all(store: Store, algorithm: Algorithm, start: str) -> Iterator[Blob]:
    after = algorithm.parse(start) if start else None
    while True:
        try:
            if algorithm is store.algorithm:
                yield from store.iterate(after, algorithm)
            elif isinstance(store, Names):
                yield from store.strays(algorithm, after)
            return
        except StoreError as error:
            if "hash" not in error.evidence:
                raise
            after = algorithm.parse(str(error.evidence["hash"]))
        yield Blob(after, 0, NEVER)


def every_blob(store: Store) -> Iterator[Blob]:
    """Yield every blob once, by its primary name if it has one; raises StoreError."""
    yield from store.iterate(algorithm=store.refresh()[0])
    if isinstance(store, Names):
        for algorithm in store.algorithms[1:]:
            yield from store.strays(algorithm)


class Ranges:
    """When each digest of an algorithm was last covered, as parts that make up all possible digests."""

    def __init__(self, algorithm: Algorithm, when: float = NEVER) -> None:
        self.algorithm = algorithm
        self._last = "f" * (2 * algorithm.size)
        self._ends = [(self._last, when)]

    @classmethod
    def of(cls, algorithm: Algorithm, noted: object) -> "Ranges | None":
        """Read what `noted` returned, from JSON; None if it does not fit. Raises ValueError and TypeError."""
        ranges = cls(algorithm)
        if not isinstance(noted, list):
            return None
        ends = [(str(end), _past(float(when))) for end, when in noted]
        names = [end for end, _ in ends]
        fits = all(_is_hash(name, algorithm) for name in names) and names == sorted(set(names))
        if not fits or names[-1:] != [ranges._last]:
            return None
        ranges._ends = ends
        return ranges

    def noted(self) -> list[tuple[str, float]]:
        """Return the ends of the parts and their times, for a note in JSON."""
        return self._ends

    @property
    def oldest(self) -> float:
        """When the part that is due was covered."""
        return min(when for _, when in self._ends)

    def parts(self) -> list[Part]:
        """All parts, in ascending order."""
        starts = ["", *(end for end, _ in self._ends)]
        return [
            Part(self.algorithm, start, end, when)
            for start, (end, when) in zip(starts, self._ends, strict=False)
        ]

    def mark(self, after: str, upto: str, when: float) -> None:
        """Record that the digests behind `after` up to `upto` were covered."""
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


def oldest_first(parts: list[Part]) -> list[Part]:
    """Return parts in the order in which to cover them; a first run starts each anywhere.

    So two runs that begin at once rarely read the same blobs.
    """
    if any(part.time != NEVER for part in parts):
        return sorted(parts, key=lambda part: part.time)
    return [half for part in parts for half in _from_the_middle(part)]


def _from_the_middle(part: Part) -> list[Part]:
    middle = secrets.token_hex(len(part.upto) // 2)
    if not part.after < middle < part.upto:
        return [part]
    return [
        Part(part.algorithm, middle, part.upto, part.time),
        Part(part.algorithm, part.after, middle, part.time),
    ]


def _merged(ends: list[tuple[str, float]]) -> list[tuple[str, float]]:
    while len(ends) > 1:
        gap, at = min((abs(ends[at][1] - ends[at + 1][1]), at) for at in range(len(ends) - 1))
        if gap and len(ends) <= MAX_PARTS:
            break
        ends[at : at + 2] = [(ends[at + 1][0], min(ends[at][1], ends[at + 1][1]))]
    return ends


def _past(when: float) -> float:
    # A time in the future came from a wrong clock: that part is covered again.
    return when if 0 <= when <= time.time() else NEVER


def _is_hash(text: str, algorithm: Algorithm) -> bool:
    try:
        return algorithm.parse(text).hex == text
    except ValueError:
        return False
