"""Limits on how much a process sends to an object store at once."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.bucket.uplink import BYTES_AT_ONCE, PARTS_AT_ONCE, Uplink

LONG = 20.0
SHORT = 0.3


class Sender:
    """Sends on an uplink in a thread of its own until it is told that everything got through."""

    def __init__(self, pool: ThreadPoolExecutor, way: AbstractContextManager[object]) -> None:
        self.begun = threading.Event()
        self._through = threading.Event()
        self._sent: Future[None] = pool.submit(self._send, way)

    def _send(self, way: AbstractContextManager[object]) -> None:
        with way:
            self.begun.set()
            assert self._through.wait(LONG)

    def get_through(self) -> None:
        """Make the engine answer."""
        self._through.set()
        self._sent.result(LONG)


@pytest.fixture(name="pool")
def fixture_pool() -> Iterator[ThreadPoolExecutor]:
    """Threads to send in."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@given(st.lists(st.integers(0, 2 * BYTES_AT_ONCE), min_size=1, max_size=24))
def test_no_more_than_it_carries(sizes: list[int]) -> None:
    """Every upload gets its turn, and together they keep to the limit."""
    uplink = Uplink(LONG)
    lock = threading.Lock()
    sending: list[int] = []
    seen: list[tuple[int, ...]] = []

    def send(size: int) -> None:
        with uplink.room(size):
            with lock:
                sending.append(size)
                seen.append(tuple(sending))
            time.sleep(0)
            with lock:
                sending.remove(size)

    with ThreadPoolExecutor(len(sizes)) as pool:
        list(pool.map(send, sizes))
    assert len(seen) == len(sizes)
    for together in seen:
        # An upload as large as all the room or larger goes alone, except beside empty ones.
        assert sum(together) <= BYTES_AT_ONCE or sum(size > 0 for size in together) == 1


def test_small_ones_do_not_overtake(pool: ThreadPoolExecutor) -> None:
    """Small uploads do not overtake a large one."""
    uplink = Uplink(LONG)
    first = Sender(pool, uplink.room(BYTES_AT_ONCE - 1))
    assert first.begun.wait(LONG)
    large = Sender(pool, uplink.room(2))
    assert not large.begun.wait(SHORT)
    small = Sender(pool, uplink.room(1))
    assert not small.begun.wait(SHORT)
    first.get_through()
    assert large.begun.wait(LONG)
    assert small.begun.wait(LONG)
    large.get_through()
    small.get_through()


def test_nothing_gets_through(pool: ThreadPoolExecutor) -> None:
    """While nothing gets through, a waiting upload fails in time, and the next one gets its turn."""
    uplink = Uplink(SHORT)
    first = Sender(pool, uplink.room(BYTES_AT_ONCE))
    assert first.begun.wait(LONG)
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable, match="timed out waiting to send"), uplink.room(1):
        pytest.fail("there is no room")
    assert time.monotonic() - begin >= SHORT
    first.get_through()
    with uplink.room(BYTES_AT_ONCE):
        pass


def test_what_fails_did_not_get_through(pool: ThreadPoolExecutor) -> None:
    """A failed upload frees its room but does not extend the wait of others."""
    uplink = Uplink(SHORT)
    with ExitStack() as stack:
        stack.enter_context(uplink.room(BYTES_AT_ONCE - 1))
        with pytest.raises(KeyError), uplink.room(1):
            raise KeyError
        with pytest.raises(StoreUnavailable), uplink.room(2):
            pytest.fail("there is no room")
    last = Sender(pool, uplink.room(BYTES_AT_ONCE))
    assert last.begun.wait(LONG)
    last.get_through()


def test_others_get_through(pool: ThreadPoolExecutor) -> None:
    """An upload keeps waiting as long as others get through."""
    uplink = Uplink(2.0)
    first, second = (Sender(pool, uplink.room(BYTES_AT_ONCE // 2)) for _ in range(2))
    assert first.begun.wait(LONG) and second.begun.wait(LONG)
    last = Sender(pool, uplink.room(BYTES_AT_ONCE))
    for one in (first, second):
        assert not last.begun.wait(1.2)
        one.get_through()
    assert last.begun.wait(LONG)
    last.get_through()


def test_parts_while_others_send() -> None:
    """A large file sends several parts at once when alone, fewer beside others, and always at least one."""
    uplink = Uplink(LONG)
    with ExitStack() as stack:
        counts = [stack.enter_context(uplink.parts(whole=True)) for _ in range(40)]
        assert counts[0] == PARTS_AT_ONCE
        assert set(counts[PARTS_AT_ONCE - 1 :]) == {1}
        assert sum(counts) <= 40 + 2 * PARTS_AT_ONCE
    with uplink.parts(whole=True) as alone:
        assert alone == PARTS_AT_ONCE


def parts(uplink: Uplink, failure: Exception | None = None) -> int:
    """The number of parts of a large file sent at once; then it fails or gets through."""
    with suppress(type(failure) if failure else ()), uplink.parts(whole=True) as count:
        if failure is not None:
            raise failure
    return count


def test_less_after_a_failure() -> None:
    """A failure halves the number of parts at once, down to one; successes slowly raise it again."""
    uplink = Uplink(0.0)  # no time limit, so that each failure counts separately
    failure = StoreUnavailable("too slow")
    assert [parts(uplink, failure) for _ in range(4)] == [4, 2, 1, 1]
    for _ in range(20):
        parts(uplink, failure)
    counts = [parts(uplink) for _ in range(16)]
    assert counts == sorted(counts)
    assert (counts[0], counts[3], parts(uplink)) == (1, 1, PARTS_AT_ONCE)


def test_what_fails_together() -> None:
    """Failures within one time limit count as one."""
    uplink = Uplink(LONG)
    failure = StoreUnavailable("too slow")
    for _ in range(8):
        parts(uplink, failure)
        with suppress(StoreUnavailable), uplink.room(1):
            raise failure
    assert parts(uplink) == PARTS_AT_ONCE // 2


def narrowed(timeout: float) -> Uplink:
    """An uplink that failures have reduced to one part."""
    uplink = Uplink(timeout)
    parts(uplink, StoreUnavailable("too slow"))
    time.sleep(timeout)
    parts(uplink, StoreUnavailable("too slow"))
    return uplink


def test_large_ones_take_turns(pool: ThreadPoolExecutor) -> None:
    """A reduced uplink sends one large file at a time, beside files still being received and small ones."""
    uplink = narrowed(4.0)
    with uplink.parts(whole=False) as count:
        assert count == 1
        first = Sender(pool, uplink.parts(whole=True))
        assert first.begun.wait(LONG)
        second = Sender(pool, uplink.parts(whole=True))
        assert not second.begun.wait(SHORT)
        with uplink.room(1), uplink.parts(whole=False):
            pass
        first.get_through()
        assert second.begun.wait(LONG)
        second.get_through()


def test_a_turn_that_does_not_come(pool: ThreadPoolExecutor) -> None:
    """An upload waiting for its turn fails after a time limit in which not even a part got through."""
    uplink = narrowed(2.0)
    first = Sender(pool, uplink.parts(whole=True))
    assert first.begun.wait(LONG)
    begin = time.monotonic()
    last = Sender(pool, uplink.parts(whole=True))
    assert not last.begun.wait(0.5)
    uplink.got_through()
    with pytest.raises(StoreUnavailable, match="timed out waiting to send"):
        last.get_through()
    assert time.monotonic() - begin >= 2.5
    first.get_through()
    with uplink.parts(whole=True):
        pass


def test_a_client_that_gives_up_is_no_failure() -> None:
    """An upload dropped for another reason does not count as a failure of the connection."""
    uplink = Uplink(LONG)
    for _ in range(4):
        parts(uplink, KeyError())
    assert parts(uplink) == PARTS_AT_ONCE


def test_less_room_after_a_failure(pool: ThreadPoolExecutor) -> None:
    """A failure halves the bytes sent at once in single requests, but one request always goes."""
    uplink = Uplink(LONG)
    with pytest.raises(StoreUnavailable), uplink.room(1):
        raise StoreUnavailable("too slow")
    first = Sender(pool, uplink.room(BYTES_AT_ONCE // 2))
    assert first.begun.wait(LONG)
    second = Sender(pool, uplink.room(BYTES_AT_ONCE // 4))
    assert not second.begun.wait(SHORT)
    first.get_through()
    assert second.begun.wait(LONG)
    second.get_through()
