"""A store in a bucket over a line that breaks, asked without a server between."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import ceph
import pytest
from buckets import store_behind
from kinds import put
from relay import Break, Relay, Way

from wsgi_store.staging import Staging
from wsgi_store.stores import Durability

BLOCK = 1 << 18
LARGE = 20 << 20


@pytest.fixture(name="relay")
def fixture_relay() -> Iterator[Relay]:
    """The line."""
    with Relay(ceph.cluster().port) as relay:
        yield relay


def test_a_slow_reader_of_an_answer_that_breaks(relay: Relay, tmp_path: Path) -> None:
    """What breaks when its time limit is long over goes on there, for who reads on steadily."""
    timeout = 2.0
    store = store_behind(relay, tmp_path, timeout)
    data = bytes(range(256)) * (LARGE >> 8)
    digest = put(Staging(store, durability=Durability.NONE), data).digest
    relay.break_after(Break.CUT, Way.DOWN, LARGE // 2, times=1)
    with closing(store.open(digest)) as reader:
        first = reader.read(BLOCK)
        time.sleep(1.5 * timeout)
        assert first + reader.read() == data
    assert relay.breaks


def test_a_lock_whose_answer_is_lost(relay: Relay, tmp_path: Path) -> None:
    """Who has the lock already, and was not told, does not wait for itself."""
    timeout = 20.0
    store = store_behind(relay, tmp_path, timeout)
    digest = put(Staging(store, durability=Durability.NONE), b"a blob").digest
    relay.break_after(Break.CUT, Way.DOWN, 0, times=1)
    begin = time.monotonic()
    store.remove(digest)
    assert time.monotonic() - begin < timeout
    assert relay.breaks
