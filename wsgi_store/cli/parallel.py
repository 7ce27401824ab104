"""Many things done at a time, and told in their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# So many things for each thread are handed over ahead, so that none of them waits for more.
AHEAD = 16
# Of things that are done so many may wait for one that is not, and stands before them.
BACKLOG = 100_000
SOON = 0.1  # seconds after which what is done is told


class Job(NamedTuple, Generic[T, R]):
    """A thing, and what will have come of it."""

    thing: T
    outcome: "Future[R]"


def in_parallel(
    work: Callable[[T], R], things: Iterable[T], threads: int, backlog: int = BACKLOG
) -> Iterator[list[Job[T, R]]]:
    """Work on so many things at a time, and not far ahead; yields those that are done, in their order."""
    pool = ThreadPoolExecutor(threads)
    untold: deque[Job[T, R]] = deque()
    running: list[Future[R]] = []
    try:
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
    except BaseException:
        # Who was interrupted does not wait for what is under way.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _pause(running: "list[Future[R]]") -> "list[Future[R]]":
    """Wait until more is done; returns what is not."""
    # Of small files half are done by then: to be woken for each of them takes as long as to read and
    # hash it.
    if running:
        wait([running[len(running) // 2]], SOON)
    return [outcome for outcome in running if not outcome.done()]


def _done(untold: deque[Job[T, R]]) -> list[Job[T, R]]:
    """Take the jobs that are done off the front."""
    done = []
    while untold and untold[0].outcome.done():
        done.append(untold.popleft())
    return done
