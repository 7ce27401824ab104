"""Verifying a store: hash what it holds, move what is damaged to quarantine, say how much was seen."""

import enum
import os
import random
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from itertools import chain, islice
from queue import Empty, SimpleQueue

from wsgi_store.digest import Digest
from wsgi_store.errors import StoreError, StoreUnavailable
from wsgi_store.store.contract import Blob, Store
from wsgi_store.upkeep.check import TOLD, TUNING, Checked, Checkers, Tuning
from wsgi_store.upkeep.ledger import NEVER, Part, Verified


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
    reading_bytes: int = 0
    """What was read of blobs that are not in `checked_bytes` yet."""
    counted: bool = False
    """Whether the totals and `oldest` are of the whole store, and not of a part of it."""
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
    unnoted: str | None = None
    """Why what was verified could not be written down in the store; the next run does not go on from here."""

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

    raws: list[bytes]  # their digests, which pass to a process in a tenth of the time as bytes
    after: str
    upto: str


def verify(  # pylint: disable=too-many-arguments,too-many-locals
    store: Store,
    *,
    budget: int | None = None,
    sample: float | None = None,
    rate: int | None = None,
    workers: int | None = None,
    tuning: Tuning = TUNING,
) -> Generator[Report, None, None]:
    """Hash the blobs of a store, those first that were not verified for longest.

    Yields one report again and again: at once, when the store has been counted, then several times a
    second, however large a blob is, and last when it is complete. `budget` ends the run with the blob
    that brings the bytes read to so many; the next run goes on behind it. `sample`, a share between 0
    and 1, reads only so many blobs, drawn by lot; that is not remembered. `rate` is a limit in bytes a
    second, `workers` the number of blobs read at once, by default that of the processors this
    process may use, `tuning` how the work is divided.

    It may run beside a server, and be ended at any time: close the generator, or interrupt it.
    What was verified till then is remembered, and what was found is in the report. What could not
    be read is tried again by every run until it can be. Raises StoreError when the store cannot be
    listed, or a worker was killed.
    """
    report = Report()
    yield report
    started = time.time()
    workers = workers or len(os.sched_getaffinity(0))
    plan = _Plan(store, report, started, budget, sample, tuning)
    batches = plan.first()
    begun = list(islice(batches, tuning.processes_from))
    done: list[tuple[Batch, Checked]] = []
    last_save = time.monotonic()
    running = _Running(Checkers(store, workers, rate, many=len(begun) == tuning.processes_from))
    try:
        with running.checkers:
            for batch in chain(begun, batches):
                running.add(batch)
            report.counted = True
            yield report
            batches = plan.rest()
            while True:
                for batch in islice(batches, max(0, 4 * workers - len(running))):
                    running.add(batch)
                if not running:
                    break
                ended = running.pop()
                if ended:
                    done.append(ended)
                    report.take(ended[1])
                report.reading_bytes = running.checkers.under_way(ended[1] if ended else None)
                if ended and time.monotonic() > last_save + tuning.save_interval:
                    _remember(store, report, done, None if sample else started, tuning.max_unreadable)
                    last_save = time.monotonic()
                yield report
    except BrokenExecutor:
        raise StoreUnavailable("a process that was reading blobs has been killed") from None
    finally:
        report.reading_bytes = 0
        for ended in running.ended():
            done.append(ended)
            report.take(ended[1])
        _remember(store, report, done, None if sample else started, tuning.max_unreadable)
    report.oldest = plan.oldest_after
    if report.oldest is not None:
        report.oldest = min([report.oldest, *(_added(store, digest) for digest in report.unreadable)])
    report.complete = True
    yield report


class _Plan:
    """Which blobs a run checks, in which order; counts the store on the way."""

    def __init__(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        store: Store,
        report: Report,
        started: float,
        budget: int | None,
        sample: float | None,
        tuning: Tuning,
    ) -> None:
        verified = Verified.load(store)
        self._store = store
        self._report = report
        self._started = started
        self._budget = budget
        self._sample = sample
        self._tuning = tuning
        self._planned = 0
        self._rest = verified.oldest_first()
        self._again = {digest.raw for digest in verified.unreadable}
        self.oldest_after: float | None = None
        """What `oldest` will be when everything was checked; nothing where there are no blobs."""

    def first(self) -> Iterator[Batch]:
        """Count the store; yields what comes first already meanwhile."""
        # Whatever else there is time for: what could not be read is not forgotten.
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
        """Yield what comes then."""
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
            # Also where there are no blobs any more: what is added there comes later.
            yield Batch(raws, after, part.upto)


class _Running:
    """Batches that are being checked."""

    def __init__(self, checkers: Checkers) -> None:
        self.checkers = checkers
        self._batches: dict[Future[Checked], Batch] = {}
        # Waiting for any of so many futures would look at all of them each time.
        self._finished: SimpleQueue[Future[Checked]] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: Batch) -> None:
        """Have a batch checked."""
        future = self.checkers.submit(batch.raws)
        self._batches[future] = batch
        future.add_done_callback(self._finished.put)

    def pop(self) -> tuple[Batch, Checked] | None:
        """Wait for one, and return it with what became of it; None when none ends for a while."""
        try:
            future = self._finished.get(timeout=TOLD)
        except Empty:
            return None
        checked = future.result()
        return self._batches.pop(future), checked

    def ended(self) -> Iterator[tuple[Batch, Checked]]:
        """Yield those that were ended before anybody waited for them, as far as they had come."""
        for future, batch in self._batches.items():
            if future.done() and not future.cancelled() and not future.exception():
                checked = future.result()
                if raws := batch.raws[: checked.seen]:
                    upto = batch.upto if raws == batch.raws else batch.upto and raws[-1].hex()
                    yield Batch(raws, batch.after, upto), checked


def _remember(
    store: Store, report: Report, done: list[tuple[Batch, Checked]], started: float | None, most: int
) -> None:
    def add(verified: Verified) -> None:
        for batch, checked in done:
            verified.blobs += checked.blobs
            verified.bytes += checked.bytes
            verified.corrupt += len(checked.corrupt)
            read = set(batch.raws)
            verified.unreadable = {digest for digest in verified.unreadable if digest.raw not in read}
            verified.unreadable |= set(checked.unreadable)
            # With too many of them the part stays as it was, and is read again as a whole.
            if started is not None and len(verified.unreadable) <= most:
                verified.mark(batch.after, batch.upto, started)
        verified.unreadable = set(sorted(verified.unreadable, key=lambda digest: digest.raw)[:most])

    # A disk that cannot be written is verified all the same; the next run begins elsewhere.
    try:
        Verified.update(store, add)
        report.unnoted = None
    except StoreError as error:
        report.unnoted = error.message
    done.clear()


def _added(store: Store, digest: Digest) -> float:
    """When a blob that cannot be read was added, as far as that can be told."""
    try:
        return store.stat(digest).modified
    except StoreError:
        return NEVER
