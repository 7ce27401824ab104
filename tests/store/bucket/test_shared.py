"""One answer for all threads that ask the same at once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from tests.support.servers import until
from wsgi_store.store.bucket.shared import Shared

THREADS = 16


def in_threads(function: Callable[[], int], threads: int) -> list[int]:
    """Call a function in so many threads at once."""
    with ThreadPoolExecutor(threads) as pool:
        return [future.result(20) for future in [pool.submit(function) for _ in range(threads)]]


def test_each_gets_what_it_could_have_found_itself() -> None:
    """The result of a call is never older than the question, and calls are far fewer than questions."""
    now, calls = count(), count()

    def look() -> int:
        next(calls)
        seen = next(now)
        time.sleep(0.001)
        return seen

    shared = Shared(look)

    def ask() -> int:
        for _ in range(50):
            asked = next(now)
            assert shared() > asked
        return 0

    in_threads(ask, THREADS)
    assert next(calls) < THREADS * 50 / 4


def test_those_that_wait_share_the_next_call() -> None:
    """While a call is under way, whoever asks waits for the next one, which all of them share."""
    begun, go, calls = threading.Event(), threading.Event(), count()

    def call() -> int:
        number = next(calls)
        begun.set()
        assert go.wait(20)
        return number

    shared = Shared(call)
    asking = count()

    def ask() -> int:
        next(asking)
        return shared()

    with ThreadPoolExecutor(THREADS) as pool:
        first = pool.submit(shared)
        assert begun.wait(20)
        others = [pool.submit(ask) for _ in range(THREADS - 1)]
        until(lambda: repr(asking) == f"count({THREADS - 1})", "all to ask")
        time.sleep(0.05)
        go.set()
        assert first.result(20) == 0
        assert {other.result(20) for other in others} == {1}
    assert shared() == 2


def test_a_failure_is_that_of_those_who_waited_for_it() -> None:
    """All who share a call get its failure, and the next call is not affected."""
    failing = [True]

    def call() -> int:
        time.sleep(0.01)
        if failing:
            raise OSError("broken")
        return 1

    shared = Shared(call)

    def ask() -> int:
        with pytest.raises(OSError, match="broken"):
            shared()
        return 0

    in_threads(ask, 4)
    failing.clear()
    assert in_threads(shared, 4) == [1] * 4
