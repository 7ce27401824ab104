"""Readiness: checked at most once per second, by one thread at a time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.calling import call
from tests.support.clock import Clock, stopped
from wsgi_store import readiness as module
from wsgi_store.errors import StoreUnavailable
from wsgi_store.readiness import REMEMBERED, Readiness
from wsgi_store.staging import Staging
from wsgi_store.web.application import Application


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that ages a remembered outcome."""
    return stopped(module, monkeypatch)


def test_an_outcome_is_remembered_for_a_second(clock: Clock) -> None:
    """A success or failure is reused for one second; each failure raises a new exception."""
    looks: list[int] = []
    outcome: list[StoreUnavailable] = []

    def look() -> None:
        looks.append(1)
        if outcome:
            raise outcome[0]

    ready = Readiness(look)
    for _ in range(3):
        ready.require()
    assert len(looks) == 1
    failure = StoreUnavailable("no room", needed=1)
    failure.__cause__ = OSError("why")
    outcome.append(failure)
    ready.require()
    clock.past += REMEMBERED
    told = []
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="^no room$") as caught:
            ready.require()
        assert (caught.value.evidence, str(caught.value.__cause__)) == ({"needed": 1}, "why")
        told.append(caught.value)
    assert (len(looks), len(set(map(id, told)))) == (2, 3)
    outcome.clear()
    clock.past += REMEMBERED
    ready.require()
    assert len(looks) == 3


def test_one_looks_and_the_others_wait() -> None:
    """Simultaneous requests share one check and its outcome."""
    begun, end = threading.Event(), threading.Event()
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        begun.set()
        assert end.wait(20)
        raise StoreUnavailable("broken")

    def told(ready: Readiness) -> str:
        try:
            ready.require()
        except StoreUnavailable as error:
            return error.message
        return ""

    ready = Readiness(look)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(told, ready)
        assert begun.wait(20)
        others = [pool.submit(told, ready) for _ in range(7)]
        end.set()
        assert {first.result(), *(other.result() for other in others)} == {"broken"}
    assert len(looks) == 1


def test_a_look_that_does_not_end() -> None:
    """While a check hangs, other requests get an error after a limited time."""
    begun, end = threading.Event(), threading.Event()

    def look() -> None:
        begun.set()
        assert end.wait(20)

    ready = Readiness(look)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ready.require)
        try:
            assert begun.wait(20)
            since = time.monotonic()
            with pytest.raises(StoreUnavailable, match="not responding"):
                ready.require()
            assert time.monotonic() - since < 10
        finally:
            end.set()
        first.result()
    ready.require()


def test_what_is_no_failure_of_the_store_is_not_remembered(clock: Clock) -> None:
    """An exception that is not a store error is not remembered."""
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        raise ValueError("a bug")

    ready = Readiness(look)
    for _ in range(2):
        with pytest.raises(ValueError, match="a bug"):
            ready.require()
    assert len(looks) == 2 and clock.past == 0.0


def test_anybody_may_ask(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often /readyz is requested, the disk is written at most once per second."""
    real: Callable[[Staging], None] = Staging.check
    looks: list[int] = []
    monkeypatch.setattr(
        application.backend.staging.readiness,
        "_check",
        lambda: (looks.append(1), real(application.backend.staging)),
    )
    for method in ("GET", "HEAD") * 10:
        assert call(application, method, "/readyz").status == 200
    assert len(looks) <= 2
