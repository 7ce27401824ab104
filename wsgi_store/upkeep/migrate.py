"""Migrating a store to another algorithm, and adding and dropping further names of its blobs.

The store does what concerns the files; see `Names`. Each run may end at any time, and the next one goes on.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from wsgi_store.digest import Algorithm
from wsgi_store.errors import ReadOnly, StoreUnavailable, WrongStore
from wsgi_store.store.abilities import Names
from wsgi_store.store.contract import Blob, Store
from wsgi_store.store.marker import Marker
from wsgi_store.upkeep.changes import dropped, finished, migrating, more
from wsgi_store.upkeep.check import Check
from wsgi_store.upkeep.coverage import Coverage
from wsgi_store.upkeep.ledger import Ledger, keep
from wsgi_store.upkeep.naming import Naming
from wsgi_store.upkeep.plan import Plan
from wsgi_store.upkeep.ranges import Part, Ranges, oldest_first
from wsgi_store.upkeep.report import BatchReport, Report
from wsgi_store.upkeep.run import Effort, Run, through

# Passes over a store in which every file changes after it was read.
PATIENCE = 3


@dataclass
class Migration(Report):
    """The state of a migration; the totals are those of the files that it sets out to read."""

    already: int = 0
    """Blobs that had their primary name when the run began."""
    removed: int = 0
    """Further names that were removed."""
    ended: bool = False
    """Whether everything is done, so that no further run is needed."""
    displaced: int = 0
    """Those in `corrupt` whose primary name was taken from them: they were in `already`."""

    @property
    def there(self) -> int:
        """How many blobs the run has found."""
        return self.already + self.total_blobs

    @property
    def settled(self) -> int:
        """For how many of them it is known what became of them."""
        damaged = len(self.corrupt) - self.displaced
        done = self.already + self.adopted + self.named + self.others + self.gone
        return done + damaged + len(self.unreadable)

    @property
    def left(self) -> int:
        """How many of them it has not reached."""
        return self.there - self.settled

    def add(self, batch: BatchReport) -> None:
        """Add the report on a batch."""
        super().add(batch)
        self.displaced += batch.displaced
        # Both their names were counted, unless one of them is newer than the count.
        self.already = max(0, self.already - batch.joined)
        # The next pass finds and counts them.
        self.total_blobs -= len(batch.again)
        self.total_bytes -= sum(batch.again.values())


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may do."""

    budget: int | None = None
    """The bytes after which it ends; the next run goes on."""
    dry_run: bool = False
    """Whether it only counts."""
    effort: Effort = Effort()


def migrate(store: Store, to: Algorithm, limits: Limits = Limits()) -> Run[Migration]:
    """Give every blob a primary name by another algorithm; the old one becomes a further name.

    Each blob is read once and its old name checked; a damaged one moves to quarantine. Servers go on
    meanwhile: new uploads get the new names at once, and every old name works. The migration ends when
    a pass over the whole store has found no file under a further name.

    Iterating raises ConfigError if the store cannot have this algorithm, WrongStore if it cannot be
    migrated, ReadOnly, and StoreError.
    """
    report = Migration()
    return Run(_migrate(store, to, report, limits), report)


def add_names(store: Store, algorithms: Sequence[Algorithm], limits: Limits = Limits()) -> Run[Migration]:
    """Give every blob further names by these algorithms; new uploads have them at once.

    Otherwise like `migrate`.
    """
    report = Migration()
    return Run(_add(store, algorithms, report, limits), report)


def drop_names(store: Store, algorithms: Sequence[Algorithm], limits: Limits = Limits()) -> Run[Migration]:
    """Remove the further names by these algorithms, for good.

    Files that have only such a name get their primary name before; if one cannot be read, nothing is
    dropped. Otherwise like `migrate`.
    """
    report = Migration()
    return Run(_drop(store, algorithms, report, limits), report)


def _migrate(store: Store, to: Algorithm, report: Migration, limits: Limits) -> Generator[None, None, None]:
    change = partial(migrating, to=to, since=time.time(), made=store.made())
    names = _able(store, limits)
    marker = change(names.marker())
    yield
    if limits.dry_run:
        # Before it begins, what has a primary name is what will have an old one.
        yield from _count(store, marker.names, report)
        return
    marker = _changed(store, names, change)
    for blob in store.iterate(algorithm=to):
        report.already += blob.primary is None
    yield
    if (yield from _adopt(store, names, marker, marker.names, report, limits)):
        for _ in names.settle_names():
            yield
        # The ledger takes over since when everything was read, before the marker forgets it.
        Ledger.update(store, lambda ledger: None)
        names.change_marker(partial(finished, one=marker))
        store.refresh()
        report.ended = True
    report.complete = True
    yield


def _add(
    store: Store, algorithms: Sequence[Algorithm], report: Migration, limits: Limits
) -> Generator[None, None, None]:
    change = partial(more, algorithms=algorithms, made=store.made())
    names = _able(store, limits)
    marker = change(names.marker())
    yield
    if limits.dry_run:
        yield from _count(store, store.algorithms, report)
        return
    # First, so that no upload from now on lacks the names.
    marker = _changed(store, names, change)
    coverage = Coverage(store, marker)
    plan = Plan(store, oldest_first(coverage.missing), report, limits.effort.tuning, budget=limits.budget)
    work = Check(store, Naming(store, names, marker.algorithms))
    yield from _named(through(plan, work, report, coverage.cover, limits.effort), report)
    if not plan.spent and (yield from _adopt(store, names, marker, marker.names, report, limits)):
        coverage.forget()
        report.ended = True
    report.complete = True
    yield


def _drop(
    store: Store, algorithms: Sequence[Algorithm], report: Migration, limits: Limits
) -> Generator[None, None, None]:
    change = partial(dropped, algorithms=algorithms, made=store.made())
    names = _able(store, limits)
    before = names.marker()
    change(before)
    yield
    kept = [algorithm for algorithm in algorithms if algorithm in before.names]
    if limits.dry_run:
        report.removed = sum(1 for algorithm in kept for _ in names.links(algorithm))
        yield from _count(store, kept, report)
        return
    store.refresh()
    if (yield from _adopt(store, names, before, kept, report, limits)):
        _changed(store, names, change)
        for _ in names.sweep_names(remove=True):
            report.removed += 1
            yield
        report.ended = True
    report.complete = True
    yield


def _able(store: Store, limits: Limits) -> Names:
    """Return the ability of a store to change names; raises WrongStore and ReadOnly."""
    if not isinstance(store, Names):
        raise WrongStore("this kind of store has only one name for each blob")
    if store.read_only and not limits.dry_run:
        raise ReadOnly
    return store


def _changed(store: Store, names: Names, change: Callable[[Marker], Marker]) -> Marker:
    """Change the marker if it has to be changed, and return it; raises StorageFull and others."""
    before = names.marker()
    after = change(before)
    if after != before:
        new = len(after.names) - len(before.names)
        if new > 0:
            names.require_room(new)
        after = names.change_marker(change)
    store.refresh()
    return after


def _count(store: Store, algorithms: Sequence[Algorithm], report: Migration) -> Generator[None, None, None]:
    """Count the files that would be read."""
    for algorithm in algorithms:
        for part in Ranges(algorithm).parts():
            for blob in part.blobs(store):
                report.total_blobs += 1
                report.total_bytes += blob.size
        yield
    report.counted = report.complete = True
    yield


def _adopt(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    store: Store,
    names: Names,
    marker: Marker,
    algorithms: Sequence[Algorithm],
    report: Migration,
    limits: Limits,
) -> Generator[None, None, bool]:
    """Give all files under further names their primary names; returns whether a pass found no more.

    Raises StoreError.
    """
    work = Check(store, Naming(store, names, marker.algorithms))
    stuck = frozenset({*report.unreadable, *report.unmoved})
    idle = 0
    while idle < PATIENCE:
        started, before = time.time(), report.settled
        left = None if limits.budget is None else limits.budget - report.checked_bytes
        parts = [part for algorithm in algorithms for part in Ranges(algorithm).parts()]
        plan = _Strays(store, oldest_first(parts), report, limits.effort.tuning, budget=left, without=stuck)
        save = partial(keep, store, when=started, max_unreadable=limits.effort.tuning.max_unreadable)
        yield from _named(through(plan, work, report, save, limits.effort), report)
        if not plan.found:
            return not stuck
        if plan.spent and any(True for part in parts for _ in part.blobs(store)):
            return False
        stuck = frozenset({*report.unreadable, *report.unmoved})
        idle = 0 if report.settled > before else idle + 1
    raise StoreUnavailable("files under further names changed each time after they had been read")


def _named(steps: Generator[None, None, None], report: Migration) -> Generator[None, None, None]:
    """Go through steps as long as blobs can be named; raises StoreError."""
    with closing(steps):
        for _ in steps:
            yield
            if report.failure is not None:
                raise report.failure


class _Strays(Plan):
    """Files under further names, but those that could not be read before."""

    found = 0
    """How many there were in this pass."""

    def _count(self, part: Part, blob: Blob) -> None:
        if blob.digest.raw not in self._apart:
            self.found += 1
            super()._count(part, blob)
