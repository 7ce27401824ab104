"""Parallel work: a slow task does not hold up the others, and waiting does not poll."""

import time
from collections.abc import Iterator
from threading import Event

import pytest

from wsgi_store.cli import parallel
from wsgi_store.cli.parallel import in_parallel


@pytest.fixture(name="waits")
def fixture_waits(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The outcomes waited for so far."""
    seen: list[object] = []
    wait = parallel.wait

    def counted(outcomes: list[object], seconds: float) -> object:
        seen.extend(outcomes)
        return wait(outcomes, seconds)  # type: ignore[arg-type]

    monkeypatch.setattr(parallel, "wait", counted)
    return seen


@pytest.mark.parametrize("place", [0, 1000, 1999])
def test_one_that_takes_long(waits: list[object], place: int) -> None:
    """While one task is slow, the others complete and are reported after it, without busy waiting."""
    small, done = Event(), []

    def work(number: int) -> int:
        if number == place:
            assert small.wait(20)
            time.sleep(0.5)
        done.append(number)
        if len(done) == 1999:
            small.set()
        return number

    told = [job.outcome.result() for jobs in in_parallel(work, range(2000), 4) for job in jobs]
    assert told == list(range(2000))
    assert done[-1] == place
    # Half a second takes five waits; before it, each wait covers some dozens of tasks.
    assert len(waits) < 400


def test_not_far_ahead() -> None:
    """Inputs are read only slightly ahead of the workers."""
    asked = []

    def things() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    go = Event()
    jobs = in_parallel(lambda _: go.wait(20), things(), 2)
    assert next(jobs) == []
    assert len(asked) == parallel.AHEAD * 2
    go.set()
    assert sum(map(len, jobs)) == 1000


def test_no_more_behind_one_than_memory_takes() -> None:
    """The number of completed tasks waiting behind a slow one is limited."""
    go, asked = Event(), []

    def work(number: int) -> None:
        if not number:
            go.wait(20)

    def things() -> Iterator[int]:
        for number in range(200):
            asked.append(number)
            yield number

    jobs = in_parallel(work, things(), 4, backlog=50)
    for _ in range(5):
        next(jobs)
    assert len(asked) == 50
    go.set()
    assert sum(map(len, jobs)) == 200
