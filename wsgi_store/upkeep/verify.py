"""Verifying a store: hash its blobs, move damaged ones to quarantine, and report what was checked."""

import os
import time
from collections.abc import Generator, Iterator
from concurrent.futures import BrokenExecutor, Future
from itertools import chain, islice
from queue import Empty, SimpleQueue
from typing import Self

from wsgi_store.digest import Digest
from wsgi_store.errors import StoreError, StoreUnavailable
from wsgi_store.store.contract import Store
from wsgi_store.upkeep.check import REPORT_INTERVAL, TUNING, BatchReport, Checkers, Tuning
from wsgi_store.upkeep.ledger import NEVER, Ledger
from wsgi_store.upkeep.plan import Batch, Plan
from wsgi_store.upkeep.report import Report


class Verification:
    """A run of `verify`: iterating over it checks the blobs and yields reports."""

    def __init__(self, steps: Generator[None, None, None], report: Report) -> None:
        self._steps = steps
        self._report = report

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Report:
        next(self._steps)
        return self.report

    def close(self) -> None:
        """End the run; what was checked so far is saved."""
        self._steps.close()

    @property
    def report(self) -> Report:
        """A report on the run as it is now, also after it was closed or interrupted."""
        return self._report.snapshot()


def verify(  # pylint: disable=too-many-arguments
    store: Store,
    *,
    budget: int | None = None,
    sample: float | None = None,
    rate: int | None = None,
    workers: int | None = None,
    tuning: Tuning = TUNING,
) -> Verification:
    """Hash the blobs of a store, starting with those that have gone longest without verification.

    The first report comes at once, the second when the store has been counted, then several a second,
    and the last when the run is complete. `budget` ends the run with the blob that brings the bytes read
    to that many; the next run continues behind it. `sample`, a share between 0 and 1, reads that share
    of the blobs, drawn at random, and is not remembered. `rate` limits the bytes read per second.
    `workers` is the number of blobs read at once, by default the number of usable processors;
    `tuning` sets how the work is divided.

    A run may go on beside a server and end at any time: close or interrupt it. What was checked so far is
    remembered and reported. Every run tries unreadable blobs again until it can read them. Iterating
    raises StoreError if the store cannot be listed, or if a worker was killed.
    """
    report = Report()
    return Verification(_steps(store, report, budget, sample, rate, workers, tuning), report)


def _steps(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    store: Store,
    report: Report,
    budget: int | None,
    sample: float | None,
    rate: int | None,
    workers: int | None,
    tuning: Tuning,
) -> Generator[None, None, None]:
    """Do the run, bringing `report` up to date before each step."""
    yield
    started = time.time()
    workers = workers or len(os.sched_getaffinity(0))
    plan = Plan(store, report, started, budget, sample, tuning)
    batches = plan.first()
    begun = list(islice(batches, tuning.processes_from))
    unsaved: list[tuple[Batch, BatchReport]] = []
    last_save = time.monotonic()
    running = _Running(Checkers(store, workers, rate, many=len(begun) == tuning.processes_from))
    try:
        with running.checkers:
            for batch in chain(begun, batches):
                running.add(batch)
            report.counted = True
            yield
            batches = plan.rest()
            while True:
                for batch in islice(batches, max(0, 4 * workers - len(running))):
                    running.add(batch)
                if not running:
                    break
                checked = running.pop()
                if checked:
                    unsaved.append(checked)
                    report.add(checked[1])
                report.reading_bytes = running.checkers.under_way(checked[1] if checked else None)
                if checked and time.monotonic() > last_save + tuning.save_interval:
                    _save(store, report, unsaved, None if sample else started, tuning.max_unreadable)
                    last_save = time.monotonic()
                yield
    except BrokenExecutor:
        raise StoreUnavailable("a worker process was killed while reading blobs") from None
    finally:
        report.reading_bytes = 0
        for checked in running.rest():
            unsaved.append(checked)
            report.add(checked[1])
        _save(store, report, unsaved, None if sample else started, tuning.max_unreadable)
    report.oldest = plan.oldest_after
    if report.oldest is not None:
        report.oldest = min([report.oldest, *(_added(store, digest) for digest in report.unreadable)])
    report.complete = True
    yield


class _Running:
    """Batches that are being checked."""

    def __init__(self, checkers: Checkers) -> None:
        self.checkers = checkers
        self._batches: dict[Future[BatchReport], Batch] = {}
        # concurrent.futures.wait would look at every future each time.
        self._finished: SimpleQueue[Future[BatchReport]] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: Batch) -> None:
        """Have a batch checked."""
        future = self.checkers.submit(batch.raws)
        self._batches[future] = batch
        future.add_done_callback(self._finished.put)

    def pop(self) -> tuple[Batch, BatchReport] | None:
        """Wait for a batch and return it with its report; None if none is finished soon."""
        try:
            future = self._finished.get(timeout=REPORT_INTERVAL)
        except Empty:
            return None
        report = future.result()
        return self._batches.pop(future), report

    def rest(self) -> Iterator[tuple[Batch, BatchReport]]:
        """Yield the batches that ended before `pop` returned them, as far as they were checked."""
        for future, batch in self._batches.items():
            if future.done() and not future.cancelled() and not future.exception():
                report = future.result()
                if raws := batch.raws[: report.reached]:
                    upto = batch.upto if raws == batch.raws else batch.upto and raws[-1].hex()
                    yield Batch(raws, batch.after, upto), report


def _save(
    store: Store,
    report: Report,
    unsaved: list[tuple[Batch, BatchReport]],
    started: float | None,
    max_unreadable: int,
) -> None:
    def add(ledger: Ledger) -> None:
        for batch, checked in unsaved:
            ledger.blobs += checked.blobs
            ledger.bytes += checked.bytes
            ledger.corrupt += len(checked.corrupt)
            read = set(batch.raws)
            ledger.unreadable = {digest for digest in ledger.unreadable if digest.raw not in read}
            ledger.unreadable |= set(checked.unreadable)
            # If there are too many of them, the range stays unverified and is read again.
            if started is not None and len(ledger.unreadable) <= max_unreadable:
                ledger.mark(batch.after, batch.upto, started)
        ledger.unreadable = set(sorted(ledger.unreadable, key=lambda digest: digest.raw)[:max_unreadable])

    # A store on a read-only disk is verified all the same; the next run starts elsewhere.
    try:
        Ledger.update(store, add)
        report.unnoted = None
    except StoreError as error:
        report.unnoted = error.message
    unsaved.clear()


def _added(store: Store, digest: Digest) -> float:
    """When a blob that cannot be read was added, NEVER if that is unknown."""
    try:
        return store.stat(digest).modified
    except StoreError:
        return NEVER
