"""Works on many things at once and reports them in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from typing import Generic, NamedTuple, TypeVar

from wsgi_store.threads import pool_of

T = TypeVar("T")
R = TypeVar("R")

# Things per thread that are queued ahead, so that no thread runs out of work.
AHEAD = 16
# Seconds after which finished work is reported.
SOON = 0.1


class Job(NamedTuple, Generic[T, R]):
    """A thing to work on, and its outcome."""

    thing: T
    outcome: "Future[R]"


def in_parallel(
    work: Callable[[T], R], things: Iterable[T], threads: int, *, backlog: int = 100_000
) -> Iterator[list[Job[T, R]]]:
    """Call `work` on things in so many threads; yields finished jobs in the order of the things.

    At most `backlog` finished jobs wait in memory for an earlier one.
    """
    untold: deque[Job[T, R]] = deque()
    running: list[Future[R]] = []
    # Ctrl-C does not wait for running work either.
    with pool_of(threads, "wsgi_store-command") as pool:
        for thing in things:
            job = Job(thing, pool.submit(work, thing))
            untold.append(job)
            running.append(job.outcome)
            while len(running) >= AHEAD * threads or len(untold) >= backlog:
                running = _pause(running)
                yield _done(untold)
        while untold:
            running = _pause(running)
            yield _done(untold)


def _pause(running: "list[Future[R]]") -> "list[Future[R]]":
    """Wait until more work is done; return what is still running."""
    # Waiting for the one in the middle wakes this thread seldom: a wake-up costs as much as a small file.
    if running:
        wait([running[len(running) // 2]], SOON)
    return [outcome for outcome in running if not outcome.done()]


def _done(untold: deque[Job[T, R]]) -> list[Job[T, R]]:
    """Remove the finished jobs from the front."""
    done = []
    while untold and untold[0].outcome.done():
        done.append(untold.popleft())
    return done
