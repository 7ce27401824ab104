"""Verifying a store: hash its blobs, move damaged ones to quarantine, and report what was checked."""

import time
from collections.abc import Generator

from wsgi_store.digest import Digest
from wsgi_store.errors import StoreError, Unsupported
from wsgi_store.store.abilities import Names, Pieces
from wsgi_store.store.contract import Blob, Store
from wsgi_store.upkeep.check import Check
from wsgi_store.upkeep.ledger import Ledger, keep, marker_of
from wsgi_store.upkeep.naming import Naming, lead_right
from wsgi_store.upkeep.plan import TUNING, Done, Plan, Tuning
from wsgi_store.upkeep.ranges import NEVER, Part, Ranges, oldest_first
from wsgi_store.upkeep.report import Report
from wsgi_store.upkeep.run import Effort, Run, through
from wsgi_store.upkeep.seen import Seen, Sums


def verify(  # pylint: disable=too-many-arguments
    store: Store,
    *,
    budget: int | None = None,
    sample: float | None = None,
    rate: int | None = None,
    workers: int | None = None,
    pieces: bool = False,
    tuning: Tuning = TUNING,
) -> Run[Report]:
    """Hash the blobs of a store, starting with those that have gone longest without verification.

    The first report comes at once, the second when the store has been counted, then several a second,
    and the last when the run is complete. `budget` ends the run with the blob that brings the bytes read
    to that many; the next run continues behind it. `sample`, a share between 0 and 1, reads that share
    of the blobs, drawn at random, and is not remembered. `rate` limits the bytes read per second.
    `workers` is the number of blobs read at once, by default the number of usable processors; with
    `pieces` the hashes of the pieces of large blobs are kept (`.pieces/`, for `GET /<hash>.meta4`); `tuning`
    sets how the work is divided. Raises Unsupported for `pieces` if the store keeps none.

    Blobs get the names that they lack. A run over the whole store, without `budget` and `sample`, also
    finds names that lead to a wrong blob, unless the store is being migrated.

    A run may go on beside a server and end at any time: close or interrupt it. What was checked so far is
    remembered and reported. Every run tries unreadable blobs again until it can read them. Iterating
    raises StoreError if the store cannot be listed, or if a worker was killed.
    """
    report = Report()
    keeping = store if pieces and isinstance(store, Pieces) and not store.read_only else None
    if pieces and keeping is None:
        raise Unsupported("this store keeps no hashes of pieces: it is not a directory, or only read")
    check = Check(store, pieces=keeping)
    return Run(_steps(check, report, budget, sample, Effort(rate, workers, tuning)), report)


def _steps(
    check: Check, report: Report, budget: int | None, sample: float | None, effort: Effort
) -> Generator[None, None, None]:
    """Do the run, bringing `report` up to date before each step."""
    yield
    started = time.time()
    store = check.store
    store.refresh()
    marker = marker_of(store)
    naming = sums = None
    if isinstance(store, Names) and marker.names and not store.read_only:
        naming = Naming(store, store, marker.algorithms)
        if budget is None and sample is None and marker.migrating is None:
            naming.seen = Seen(marker.algorithms, started)
            sums = Sums(naming.seen)
    plan = _Plan(store, report, started, budget, sample, effort.tuning)

    def save(done: Done) -> None:
        if sums is not None:
            for _, checked in done:
                sums.add(checked.seen)
        keep(store, done, None if sample else started, effort.tuning.max_unreadable)

    check.naming = naming
    yield from through(plan, check, report, save, effort)
    if naming is not None and sums is not None and report.failure is None:
        yield from _mend(naming, sums, report)
    report.oldest = plan.oldest_after
    if report.oldest is not None:
        report.oldest = min([report.oldest, *(_added(store, digest) for digest in report.unreadable)])
    report.complete = True
    yield


class _Plan(Plan):
    """All blobs, those first that have gone longest without verification."""

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
        parts = ledger.parts()
        known = {part.algorithm for part in parts}
        for algorithm in store.algorithms:
            if algorithm not in known:
                # Files under a further name: copied here, for they get their primary name at once.
                parts += Ranges(algorithm).parts()
        first = sorted(ledger.unreadable, key=lambda digest: digest.raw)
        super().__init__(
            store, oldest_first(parts), report, tuning, budget=budget, sample=sample, first=first
        )
        self._started = started
        self._all = sample is None
        self._budgeted = budget
        self._again = {digest.raw for digest in first}
        self.oldest_after: float | None = None
        """What `oldest` will be when everything was checked; None if there are no blobs."""

    def _count(self, part: Part, blob: Blob) -> None:
        report = self._report
        again = blob.digest.raw in self._again
        when = blob.modified if again else max(part.time, blob.modified)
        checked = self._all and (self._budgeted is None or report.total_bytes < self._budgeted)
        after = self._started if checked or again else when
        self.oldest_after = after if self.oldest_after is None else min(after, self.oldest_after)
        report.oldest = when if report.oldest is None else min(when, report.oldest)
        super()._count(part, blob)


def _mend(naming: Naming, sums: Sums, report: Report) -> Generator[None, None, None]:
    """Remove the names that lead to a wrong blob; raises StoreError."""
    for pair in sums.doubtful(naming.store, naming.names):
        if pair is None:
            yield
            continue
        name, primary = pair
        try:
            wrong = not lead_right(naming.store, name)
        except StoreError:
            continue  # gone, or the blob is one of those that could not be read
        if wrong and naming.names.remove_link(name, primary):
            report.misnamed[name] = f"led to {primary.hex}, removed"


def _added(store: Store, digest: Digest) -> float:
    """When a blob that cannot be read was added, NEVER if that is unknown."""
    try:
        return store.stat(digest).modified
    except StoreError:
        return NEVER
