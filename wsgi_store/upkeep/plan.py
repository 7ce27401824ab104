"""The plan of a run of verify: which blobs it checks, and in which order."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from wsgi_store.store.contract import Blob, Store
from wsgi_store.upkeep.check import Tuning
from wsgi_store.upkeep.ledger import Ledger, Part
from wsgi_store.upkeep.report import Report


@dataclass(frozen=True, slots=True)
class Batch:
    """Blobs that one worker checks, and the range of digests that is verified by that."""

    raws: list[bytes]  # digests as bytes, which pickle much faster
    after: str
    upto: str


class Plan:
    """Which blobs a run checks, and in which order; counts the store on the way."""

    def __init__(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        store: Store,
        report: Report,
        started: float,
        budget: int | None,
        sample: float | None,
        tuning: Tuning,
    ) -> None:
        ledger = Ledger.load(store)
        self._store = store
        self._report = report
        self._started = started
        self._budget = budget
        self._sample = sample
        self._tuning = tuning
        self._planned = 0
        self._rest = ledger.oldest_first()
        self._again = {digest.raw for digest in ledger.unreadable}
        self.oldest_after: float | None = None
        """What `oldest` will be when everything was checked; None if there are no blobs."""

    def first(self) -> Iterator[Batch]:
        """Count the store; yields the first batches meanwhile."""
        # Unreadable blobs come first: every run tries them, even one with a small budget.
        yield Batch(sorted(self._again), "", "")
        ahead = self._tuning.ahead
        parts, self._rest = self._rest, []
        for part in parts:
            counted = self._counted(part)
            if ahead > 0:
                for batch in self._batches(part, counted):
                    yield batch
                    part = Part(batch.upto, part.upto, part.time)
                    ahead -= len(batch.raws)
                    if ahead <= 0:
                        break
            deque(counted, maxlen=0)
            if part.after < part.upto:
                self._rest.append(part)

    def rest(self) -> Iterator[Batch]:
        """Yield the batches that follow, when the store has been counted."""
        for part in self._rest:
            yield from self._batches(part, part.blobs(self._store))

    def _spent(self) -> bool:
        return self._budget is not None and self._planned >= self._budget

    def _counted(self, part: Part) -> Iterator[Blob]:
        report = self._report
        for blob in part.blobs(self._store):
            again = blob.digest.raw in self._again
            when = blob.modified if again else max(part.time, blob.modified)
            checked = self._sample is None and (self._budget is None or report.total_bytes < self._budget)
            after = self._started if checked or again else when
            self.oldest_after = after if self.oldest_after is None else min(after, self.oldest_after)
            report.oldest = when if report.oldest is None else min(when, report.oldest)
            report.total_blobs += 1
            report.total_bytes += blob.size
            yield blob

    def _batches(self, part: Part, blobs: Iterator[Blob]) -> Iterator[Batch]:
        after = part.after
        raws: list[bytes] = []
        size = 0
        if self._spent():
            return
        for blob in blobs:
            raw = blob.digest.raw
            if raw in self._again or (self._sample is not None and random.random() >= self._sample):
                continue
            if self._spent():
                if raws:
                    yield Batch(raws, after, raws[-1].hex())
                return
            raws.append(raw)
            size += blob.size
            self._planned += blob.size
            if size >= self._tuning.batch_bytes or len(raws) >= self._tuning.batch_blobs:
                yield Batch(raws, after, raw.hex())
                after, raws, size = raw.hex(), [], 0
        if after < part.upto:
            # Also a range without blobs is verified: what is added to it later is hashed then.
            yield Batch(raws, after, part.upto)
