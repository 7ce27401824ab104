"""Verifying a store: hash what it holds, move what is damaged to quarantine, say how much was seen."""

import enum
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field

from wsgi_store.checking import BATCH_BLOBS, BATCH_BYTES, Checked, Checkers
from wsgi_store.digest import Digest
from wsgi_store.errors import StoreError
from wsgi_store.stores import Store
from wsgi_store.verified import Part, Verified

# How often what was verified is written down, for a run that is killed: seconds.
SAVE_INTERVAL = 60.0


class Result(enum.Enum):
    """What a run of `verify` says about the blobs that it set out to check."""

    CLEAN = "clean"
    """All of them were read, and are what their names say."""
    CORRUPT = "corrupt"
    """Some are not, whatever else happened."""
    INCOMPLETE = "incomplete"
    """Some could not be read, or the run was ended before it had seen all."""


@dataclass
class Report:
    """What is known in the course of a run; sizes in bytes, times in seconds since the epoch.

    `total_blobs` and `total_bytes` are what the store held in the beginning, `checked_blobs` and
    `checked_bytes` what of it was read whole. A blob that was removed before its turn is only in
    `gone`, and is no failure.
    """

    total_blobs: int = 0
    total_bytes: int = 0
    checked_blobs: int = 0
    checked_bytes: int = 0
    gone: int = 0
    corrupt: list[Digest] = field(default_factory=list)
    """Those whose bytes are others; they are in quarantine unless they are in `unmoved` as well."""
    unmoved: dict[Digest, str] = field(default_factory=dict)
    """Corrupt ones that could not be moved to quarantine, and why."""
    unreadable: dict[Digest, str] = field(default_factory=dict)
    """Those that could not be read to their end, and why; they stay where they are."""
    oldest: float | None = None
    """When the blob that was not verified for longest was last verified or added; None: no blobs.

    Of a run that is not complete it is what it was before, or earlier.
    """
    complete: bool = False

    @property
    def result(self) -> Result:
        """What this run may say so far."""
        if self.corrupt:
            return Result.CORRUPT
        return Result.INCOMPLETE if self.unreadable or not self.complete else Result.CLEAN

    def take(self, checked: Checked) -> None:
        """Add what became of a batch."""
        self.checked_blobs += checked.blobs
        self.checked_bytes += checked.bytes
        self.gone += checked.gone
        self.corrupt += checked.corrupt
        self.unmoved |= checked.unmoved
        self.unreadable |= checked.unreadable


@dataclass(frozen=True, slots=True)
class Batch:
    """Blobs that are checked by one worker, and the digests that are verified by it."""

    digests: list[Digest]
    after: str
    upto: str


def verify(
    store: Store,
    *,
    budget: int | None = None,
    sample: float | None = None,
    rate: int | None = None,
    workers: int | None = None,
) -> Iterator[Report]:
    """Hash the blobs of a store, those first that were not verified for longest.

    Yields one report again and again, first when the store has been counted and last when it is
    complete. `budget` ends the run with the blob that brings the bytes read to so many; the next
    run goes on behind it. `sample`, a share between 0 and 1, reads only so many blobs, drawn by
    lot; that is not remembered. `rate` is a limit in bytes a second, `workers` the number of
    blobs read at once, by default that of the processors this process may use.

    It may run beside a server, and be ended at any time: close the generator, or interrupt it.
    What was verified till then is remembered. Raises StoreError when the store cannot be listed.
    """
    started = time.time()
    workers = workers or len(os.sched_getaffinity(0))
    verified = Verified.load(store)
    parts = verified.oldest_first()
    report = Report()
    after_it = _survey(parts, store, report, started, budget if sample is None else 0)
    yield report
    done: list[Batch] = []
    last_save = time.monotonic()
    with Checkers(store, workers, rate, report.total_bytes) as checkers:
        running: dict[Future[Checked], Batch] = {}
        try:
            for batch in _batches(parts, store, budget, sample):
                running[checkers.submit(batch.digests)] = batch
                while len(running) >= 4 * workers:
                    done += _settle(running, report)
                    yield report
                    if sample is None and time.monotonic() > last_save + SAVE_INTERVAL:
                        _remember(store, done, started)
                        last_save = time.monotonic()
            while running:
                done += _settle(running, report)
                yield report
        finally:
            if sample is None:
                _remember(store, done, started)
    report.oldest = after_it
    report.complete = True
    yield report


def _survey(
    parts: list[Part], store: Store, report: Report, started: float, budget: int | None
) -> float | None:
    """Count the store; returns what `oldest` will be when the run has used its budget up."""
    before: list[float] = []
    after: list[float] = []
    for part in parts:
        oldest_seen = oldest_left = float("inf")
        for blob in part.blobs(store):
            report.total_blobs += 1
            when = max(part.time, blob.modified)
            if budget is None or report.total_bytes < budget:
                oldest_seen = min(oldest_seen, when)
            else:
                oldest_left = min(oldest_left, when)
            report.total_bytes += blob.size
        before.append(min(oldest_seen, oldest_left))
        after.append(min(oldest_left, started if oldest_seen < float("inf") else oldest_left))
    report.oldest = min(before, default=None) if report.total_blobs else None
    return min(after, default=None) if report.total_blobs else None


def _batches(parts: list[Part], store: Store, budget: int | None, sample: float | None) -> Iterator[Batch]:
    planned = 0
    for part in parts:
        after = part.after
        digests: list[Digest] = []
        size = 0
        for blob in part.blobs(store):
            if sample is not None and random.random() >= sample:
                continue
            if budget is not None and planned >= budget:
                if digests:
                    yield Batch(digests, after, digests[-1].hex)
                return
            digests.append(blob.digest)
            size += blob.size
            planned += blob.size
            if size >= BATCH_BYTES or len(digests) >= BATCH_BLOBS:
                yield Batch(digests, after, blob.digest.hex)
                after, digests, size = blob.digest.hex, [], 0
        if after < part.upto:
            # Also where there are no blobs any more: what is added there comes later.
            yield Batch(digests, after, part.upto)


def _settle(running: dict[Future[Checked], Batch], report: Report) -> list[Batch]:
    """Wait for some batches; returns them."""
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in finished:
        report.take(future.result())
    return [running.pop(future) for future in finished]


def _remember(store: Store, done: list[Batch], started: float) -> None:
    # A disk that cannot be written is verified all the same; the next run begins elsewhere.
    with suppress(StoreError):
        verified = Verified.load(store)  # anew: another run may have written meanwhile
        for batch in done:
            verified.mark(batch.after, batch.upto, started)
        verified.save(store)
    done.clear()
