"""The listing of a local store: when it may reuse what it read of a directory, and when not."""

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from tests.support.kinds import neighbours, put
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability
from wsgi_store.store.disk.store import LocalStore

# More than one tick of the clock with which the kernel stamps files (10 ms at most), in nanoseconds.
STEP = 50 * 10**6
BLOBS = 6


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> LocalStore:
    """An empty store that syncs nothing."""
    return LocalStore(str(tmp_path / "store"), Algorithm.MD5, Durability.NONE)


@pytest.fixture(name="staging")
def fixture_staging(store: LocalStore) -> Staging:
    """The staging of the store."""
    return Staging(store, durability=Durability.NONE)


@pytest.fixture(name="settled")
def fixture_settled(store: LocalStore, staging: Staging) -> list[Digest]:
    """Blobs of one shard that has not changed for long enough and is cached."""
    store.listing.settled = STEP
    digests = [put(staging, data).digest for data in neighbours(Algorithm.MD5, BLOBS + 1)[:-1]]
    time.sleep(2 * STEP / 1e9)
    assert listed(store) == digests
    return digests


def listed(store: LocalStore, after: Digest | None = None) -> list[Digest]:
    """The digests a store lists."""
    return [blob.digest for blob in store.iterate(after)]


def pages(store: LocalStore) -> Iterator[list[Digest]]:
    """The digests two by two, as a client reads them page by page."""
    after = None
    while page := [blob.digest for blob in islice(store.iterate(after), 2)]:
        yield page
        after = page[-1]


def test_a_shard_is_read_once_for_all_its_pages(store: LocalStore, settled: list[Digest]) -> None:
    """The directory of a shard is read once for all pages of a listing."""
    real = os.listdir
    read = set()

    def listdir(fd: int) -> list[str]:
        read.add(os.readlink(f"/proc/self/fd/{fd}"))
        return real(fd)

    with mock.patch("os.listdir", listdir):
        assert sum(pages(store), []) == settled
    assert read == {store.root}


def test_a_shard_that_changed_is_read_again(
    store: LocalStore, staging: Staging, settled: list[Digest]
) -> None:
    """Added and removed blobs are seen even if a copying program resets the directory's time."""
    shard = os.path.join(store.root, settled[0].hex[:2])
    before = os.stat(shard)
    added = put(staging, neighbours(Algorithm.MD5, BLOBS + 1)[-1]).digest
    assert added not in settled
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert listed(store) == sorted([*settled, added], key=str)
    store.remove(settled[1])
    assert listed(store) == sorted([settled[0], *settled[2:], added], key=str)


def test_a_shard_in_the_place_of_another(store: LocalStore, settled: list[Digest]) -> None:
    """A directory put in the place of another, as by a mount, is read anew."""
    shard = os.path.join(store.root, settled[0].hex[:2])
    os.rename(shard, f"{shard}.old")
    assert not listed(store)
    os.mkdir(shard)
    assert not listed(store)


def test_a_change_within_one_step_of_the_clock(store: LocalStore, staging: Staging) -> None:
    """A directory changed right after it was listed is read again, though its time is the same."""
    real = os.fstat

    def coarse(fd: int) -> SimpleNamespace:
        """Give the times of a file system that counts whole seconds, as many did."""
        status = real(fd)
        names = ("st_mode", "st_dev", "st_ino", "st_size", "st_mtime")
        fields = {name: getattr(status, name) for name in names}
        return SimpleNamespace(**fields, st_ctime_ns=status.st_ctime_ns // 10**9 * 10**9)

    expected: list[Digest] = []
    for data in neighbours(Algorithm.MD5, 20):
        expected.append(put(staging, data).digest)
        with mock.patch("os.fstat", coarse):
            found = listed(store)
        assert found == expected
