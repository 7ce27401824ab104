"""A store in a bucket over a slow or broken connection, used without a server."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support import ceph
from tests.support.buckets import KIND, s3, staging_behind, store_behind
from tests.support.kinds import digest_of, put
from tests.support.relay import Break, Relay, Way
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.bucket import uplink as uplink_module
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.lock import locked
from wsgi_store.store.bucket.parts import MIN_PART_SIZE
from wsgi_store.store.bucket.uplink import PARTS_AT_ONCE
from wsgi_store.store.contract import Added, Durability, Remote

BLOCK = 1 << 18
LARGE = 20 << 20


@pytest.fixture(name="relay")
def fixture_relay() -> Iterator[Relay]:
    """The connection."""
    with Relay(ceph.cluster().port) as relay:
        yield relay


def test_a_slow_reader_of_an_answer_that_breaks(relay: Relay, tmp_path: Path) -> None:
    """A download that breaks after its time limit resumes for a client that keeps reading."""
    timeout = 2.0
    store = store_behind(relay, tmp_path, timeout)
    data = bytes(range(256)) * (LARGE >> 8)
    digest = put(Staging(store, durability=Durability.NONE), data).digest
    relay.break_after(Break.CUT, Way.DOWN, LARGE // 2, times=1)
    with closing(store.open(digest)) as reader:
        first = reader.read(BLOCK)
        time.sleep(1.5 * timeout)  # as a reader that takes long to process what it has
        assert first + reader.read() == data
    assert relay.breaks


def test_a_lock_whose_answer_is_lost(relay: Relay, tmp_path: Path) -> None:
    """A process whose lock was granted but whose answer was lost does not wait for itself."""
    timeout = 20.0
    store = store_behind(relay, tmp_path, timeout)
    digest = put(Staging(store, durability=Durability.NONE), b"a blob").digest
    relay.break_after(Break.CUT, Way.DOWN, 0, times=1)
    begin = time.monotonic()
    store.remove(digest)
    assert time.monotonic() - begin < timeout
    assert relay.breaks


@pytest.mark.races
def test_a_line_too_slow_for_four_parts(tmp_path: Path) -> None:
    """A large file gets through a slow connection on a retry, with fewer parts at once."""
    rate, timeout = 8 << 20, 3.0
    data = bytes(range(256)) * (5 * MIN_PART_SIZE >> 8)
    assert PARTS_AT_ONCE * MIN_PART_SIZE > rate * timeout
    with Relay(ceph.cluster().port, rate) as relay:
        staging = staging_behind(relay, tmp_path, timeout)
        with pytest.raises(StoreUnavailable):
            put(staging, data)
        for _ in range(4):
            with suppress(StoreUnavailable):
                assert put(staging, data).created
                return
    pytest.fail("it never got through")


@pytest.mark.races
def test_a_line_too_slow_for_a_part_of_each(tmp_path: Path) -> None:
    """Concurrent large files get through one by one on a connection that carries only one part in time."""
    rate, timeout, size = 4 << 20, 3.5, 2 * MIN_PART_SIZE + 1
    files = [bytes([number]) * size for number in range(3)]
    assert MIN_PART_SIZE < rate * timeout < 2 * MIN_PART_SIZE
    with Relay(ceph.cluster().port, rate) as relay:
        staging = staging_behind(relay, tmp_path, timeout)

        def upload(data: bytes) -> bool:
            with suppress(StoreUnavailable):
                expected = [digest_of(Algorithm.SHA256, data)]
                return staging.receive([data], length=size, expected=expected).created
            return False

        for _ in range(6):
            with ThreadPoolExecutor(len(files)) as pool:
                stored = list(pool.map(upload, files))
            files = [data for data, created in zip(files, stored, strict=True) if not created]
            if not files:
                return
    pytest.fail(f"{len(files)} never got through")


def test_more_than_a_line_carries_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent uploads succeed though all of them together take longer than the time limit of one."""
    rate, size, timeout = 16 << 20, 4 << 20, 3.0
    files = [bytes([number]) * size for number in range(16)]
    assert len(files) * size > rate * timeout
    monkeypatch.setattr(uplink_module, "BYTES_AT_ONCE", rate)
    with Relay(ceph.cluster().port, rate) as relay:
        staging = staging_behind(relay, tmp_path, timeout)
        with ThreadPoolExecutor(len(files)) as pool:
            receipts = list(pool.map(lambda data: put(staging, data), files))
    assert all(receipt.created for receipt in receipts)


def test_a_line_that_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When many uploads stall, those waiting for the others fail in time, too."""
    size, timeout = 1 << 20, 2.0
    files = [bytes([number]) * size for number in range(24)]
    monkeypatch.setattr(uplink_module, "BYTES_AT_ONCE", 3 * size)
    with Relay(ceph.cluster().port) as relay:
        staging = staging_behind(relay, tmp_path, timeout)
        staging.check()
        relay.break_after(Break.STALL, Way.UP, size // 2)

        def upload(data: bytes) -> float:
            begin = time.monotonic()
            with pytest.raises(StoreUnavailable):
                put(staging, data)
            return time.monotonic() - begin

        with ThreadPoolExecutor(len(files)) as pool:
            taken = list(pool.map(upload, files))
        assert relay.breaks
        relay.mend()
        assert put(staging, files[0]).created
    # Each fails in its own turn after one wait; one after the other they would need eight turns.
    assert max(taken) < 6 * timeout


def test_no_room_while_a_lock_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload waiting for a lock does not delay other uploads, and is then sent in one request."""
    size, timeout = 6 << 20, 10.0
    data = bytes(size)
    monkeypatch.setattr(uplink_module, "BYTES_AT_ONCE", size)
    with Relay(ceph.cluster().port) as relay, ThreadPoolExecutor(1) as pool:
        staging = staging_behind(relay, tmp_path, timeout)
        digest = put(staging, data).digest
        KIND.damage(tmp_path, digest, b"damaged")
        with locked(Bucket(KIND.url(tmp_path), Remote(str(tmp_path))), digest.hex):
            healed = pool.submit(put, staging, data)
            time.sleep(1.0)  # nothing happens, because it waits for the lock
            assert put(staging, b"another").created
            assert not healed.done()
        assert healed.result(20.0).added is Added.HEALED
    key = f"{str(tmp_path)[1:]}/{digest.hex[:2]}/{digest.hex}"
    assert "-" not in s3().head_object(Bucket=ceph.BUCKET, Key=key)["ETag"], "it went up in parts"
