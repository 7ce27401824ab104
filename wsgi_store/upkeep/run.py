"""A run over the blobs of a store, which reports its state step by step and may end at any time."""

import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, Self, TypeVar

from wsgi_store.errors import StoreError, StoreUnavailable
from wsgi_store.upkeep.plan import TUNING, Done, Plan, Tuning
from wsgi_store.upkeep.report import Report
from wsgi_store.upkeep.workers import Running, Work, Workers

R = TypeVar("R", bound=Report)


class Run(Generic[R]):
    """A run: iterating over it reads the blobs and yields reports."""

    def __init__(self, steps: Generator[None, None, None], report: R) -> None:
        self._steps = steps
        self._report = report

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        next(self._steps)
        return self.report

    def close(self) -> None:
        """End the run; what was done so far is saved."""
        self._steps.close()

    @property
    def report(self) -> R:
        """A report on the run as it is now, also after it was closed or interrupted."""
        return self._report.snapshot()


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a run does at once, and how fast."""

    rate: int | None = None
    """The limit of the bytes read per second."""
    workers: int | None = None
    """The number of blobs read at once; by default that of usable processors."""
    tuning: Tuning = TUNING

    @property
    def number(self) -> int:
        """The number of workers."""
        return self.workers or len(os.sched_getaffinity(0))


def through(
    plan: Plan, work: Work, report: Report, save: Callable[[Done], object], effort: Effort
) -> Generator[None, None, None]:
    """Do the work of a plan, bringing `report` up to date before each step.

    `save` gets what was done since its last call, from time to time and at the end, however it comes: it
    returns nothing and raises StoreError if that could not be saved. Raises StoreError.
    """
    batches = plan.first()
    begun = list(islice(batches, effort.tuning.processes_from))
    many = len(begun) == effort.tuning.processes_from
    unsaved: Done = []
    last_save = time.monotonic()
    running = Running(Workers(work, effort.number, effort.rate, many=many))
    try:
        with running.workers:
            for batch in chain(begun, batches):
                running.add(batch)
            report.counted = True
            yield
            batches = plan.rest()
            while True:
                for batch in islice(batches, max(0, 4 * effort.number - len(running))):
                    running.add(batch)
                if not running:
                    break
                done = running.pop()
                if done:
                    unsaved.append(done)
                    report.add(done[1])
                report.reading_bytes = running.workers.under_way(done[1] if done else None)
                late = time.monotonic() > last_save + effort.tuning.save_interval
                if done and (late or len(unsaved) >= effort.tuning.save_batches):
                    _save(save, report, unsaved)
                    last_save = time.monotonic()
                yield
    except BrokenExecutor:
        raise StoreUnavailable("a worker process was killed while reading blobs") from None
    finally:
        report.reading_bytes = 0
        for rest in running.rest():
            unsaved.append(rest)
            report.add(rest[1])
        _save(save, report, unsaved)


def _save(save: Callable[[Done], object], report: Report, unsaved: Done) -> None:
    # A store on a read-only disk is read all the same; the next run starts elsewhere.
    try:
        save(unsaved)
        report.unnoted = None
    except StoreError as error:
        report.unnoted = error.message
    unsaved.clear()
