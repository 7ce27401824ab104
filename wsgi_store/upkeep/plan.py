"""The plan of a run: which blobs it reads, and in which order."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import Blob, Store
from wsgi_store.upkeep.ranges import Part
from wsgi_store.upkeep.report import BatchReport, Report


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a run divides its work, and how much of it the ledger names."""

    batch_blobs: int = 512
    """Blobs in a batch for one worker: so many that handing it over takes little of the time."""
    batch_bytes: int = 32 << 20
    """The bytes of blobs that complete a batch."""
    processes_from: int = 8
    """The least number of batches for processes: with fewer, threads are done before they have started."""
    ahead: int = 100_000
    """Blobs that are handed out while the store is still being counted."""
    save_interval: float = 60.0
    """Seconds after which the progress is saved, in case the run is killed."""
    save_batches: int = 200
    """Batches after which it is saved, too: until then each is kept in memory."""
    max_unreadable: int = 1000
    """Unreadable blobs that the ledger names one by one."""


TUNING = Tuning()


@dataclass(frozen=True, slots=True)
class Batch:
    """Blobs that one worker reads, and the range of digests that is covered by that."""

    algorithm: Algorithm
    raws: list[bytes]  # digests as bytes, which pickle much faster
    after: str
    upto: str


Done = list[tuple[Batch, BatchReport]]
"""Batches that were worked on, as far as the reports say."""


class Plan:
    """Which blobs a run reads, and in which order; counts them on the way."""

    def __init__(  # pylint: disable=too-many-arguments
        self,
        store: Store,
        parts: list[Part],
        report: Report,
        tuning: Tuning,
        *,
        budget: int | None = None,
        sample: float | None = None,
        first: Sequence[Digest] = (),
        without: frozenset[Digest] = frozenset(),
    ) -> None:
        self._store = store
        self._rest = parts
        self._report = report
        self._tuning = tuning
        self._budget = budget
        self._sample = sample
        self._planned = 0
        self._first = sorted(first, key=lambda digest: digest.raw)
        self._apart = {digest.raw for digest in (*first, *without)}

    def first(self) -> Iterator[Batch]:
        """Count the blobs; yields the first batches meanwhile."""
        for algorithm in self._store.algorithms:
            if raws := [digest.raw for digest in self._first if digest.algorithm is algorithm]:
                yield Batch(algorithm, raws, "", "")
        ahead = self._tuning.ahead
        parts, self._rest = self._rest, []
        for part in parts:
            counted = self._counted(part)
            if ahead > 0:
                for batch in self._batches(part, counted):
                    yield batch
                    part = Part(part.algorithm, batch.upto, part.upto, part.time)
                    ahead -= len(batch.raws)
                    if ahead <= 0:
                        break
            deque(counted, maxlen=0)
            if part.after < part.upto:
                self._rest.append(part)

    def rest(self) -> Iterator[Batch]:
        """Yield the batches that follow, when all blobs have been counted."""
        for part in self._rest:
            yield from self._batches(part, part.blobs(self._store))

    @property
    def spent(self) -> bool:
        """Whether the budget is used up."""
        return self._budget is not None and self._planned >= self._budget

    def _counted(self, part: Part) -> Iterator[Blob]:
        for blob in part.blobs(self._store):
            self._count(part, blob)
            yield blob

    def _count(self, _: Part, blob: Blob) -> None:
        self._report.total_blobs += 1
        self._report.total_bytes += blob.size

    def _batches(self, part: Part, blobs: Iterator[Blob]) -> Iterator[Batch]:
        after = part.after
        raws: list[bytes] = []
        size = 0
        if self.spent:
            return
        # What lacks a primary name gets it shard by shard, under the lock of each.
        by_shard = part.algorithm is not self._store.algorithm
        for blob in blobs:
            raw = blob.digest.raw
            if raw in self._apart or (self._sample is not None and random.random() >= self._sample):
                continue
            if self.spent:
                if raws:
                    yield Batch(part.algorithm, raws, after, raws[-1].hex())
                return
            if by_shard and raws and raw[0] != raws[0][0]:
                yield Batch(part.algorithm, raws, after, raws[-1].hex())
                after, raws, size = raws[-1].hex(), [], 0
            raws.append(raw)
            size += blob.size
            self._planned += blob.size
            if size >= self._tuning.batch_bytes or len(raws) >= self._tuning.batch_blobs:
                yield Batch(part.algorithm, raws, after, raw.hex())
                after, raws, size = raw.hex(), [], 0
        if after < part.upto:
            # Also a range without blobs is covered: what is added to it later is hashed then.
            yield Batch(part.algorithm, raws, after, part.upto)
