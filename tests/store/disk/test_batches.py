"""Batches on a disk: others who come in between, failing calls, full disks and too few descriptors."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.crossing import crossed
from tests.support.faults import disk
from tests.support.kinds import LocalKind, content, digest_of, neighbours
from tests.support.limits import no_more_descriptors
from tests.support.rounds import Round, race
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StorageFull, StoreError, StoreUnavailable, WSGIStoreError
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Added, Durability, Store
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import COLLIDING

MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256
NAMED = Marker(SHA256, (MD5, SHA1))
# Some of them in one directory, more than are synced one after another.
FILES = [b"one", b"two", b"three", *neighbours(MD5, 3)]


def batch(staging: Staging, files: Sequence[bytes] = FILES) -> list[Receipt | WSGIStoreError]:
    """Upload files in one batch."""
    return staging.receive_all(([data], ()) for data in files)


def receipts(outcomes: Sequence[Receipt | WSGIStoreError]) -> list[Receipt]:
    """The files that were stored."""
    return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]


def held(store: Store) -> set[bytes]:
    """The contents of a store, each checked."""
    found = {blob.digest: content(store, blob.digest) for blob in store.iterate()}
    assert all(digest_of(digest.algorithm, data) == digest for digest, data in found.items())
    return set(found.values())


@pytest.fixture(name="store")
def fixture_store(kind: LocalKind, tmp_path: Path) -> Iterator[LocalStore]:
    """An empty store; whatever a test does, no staged file and no descriptor may be left."""
    store = kind.open(tmp_path / "store", MD5)
    assert isinstance(store, LocalStore)
    yield store
    assert not os.listdir(store.staging_directory)


@pytest.fixture(name="staging")
def fixture_staging(kind: LocalKind, store: LocalStore) -> Staging:
    """The staging of the store."""
    return kind.staging(store)


@pytest.mark.races
def test_batches_of_the_same_files_meet(memory: Path) -> None:
    """Batches that meet each other, uploads, removals and sweeps are linearisable for each blob."""
    files = [b"one", b"two", COLLIDING[0]]

    def one_round(one: Round) -> None:
        algorithms = one.process().store.algorithms
        first = one.process()
        if one.choice.random() < 0.5:
            first.upload_all(files[:2])
        batches = [one.choice.sample(files, len(files)) for _ in range(2)]
        done: list[Any] = one.run(
            *(partial(one.process().upload_all, order) for order in batches),
            partial(one.process().remove, b"one", one.choice.choice(algorithms)),
            partial(one.process().upload, b"two"),
            one.process().sweep,
            killing=0.3,
        )
        for order, outcomes in zip(batches, done, strict=False):
            for data, receipt in zip(order, outcomes or (), strict=False):
                assert receipt.names == tuple(digest_of(algorithm, data) for algorithm in algorithms)
        for data in files:
            one.judge(data, algorithms)

    race(memory, [NAMED, Marker(MD5, (SHA1,))], one_round)


@pytest.mark.parametrize("times", [1, 3])
def test_a_shard_is_removed_meanwhile(store: LocalStore, staging: Staging, times: int) -> None:
    """A directory that is removed between two files of a batch is made again, and loses none of them."""
    data = neighbours(MD5, 3)
    shard = Path(store.root, "ab")

    def remove() -> None:
        if not os.listdir(shard):
            shard.rmdir()

    with crossed(os, "link", lambda *_: True, remove, times) as seen:
        assert [receipt.added for receipt in receipts(batch(staging, data))] == [Added.CREATED] * 3
    assert seen
    assert held(store) == set(data)


def test_a_shard_is_removed_for_ever(store: LocalStore, staging: Staging) -> None:
    """Files whose directory is removed again and again are refused, and the others are stored."""
    lost = neighbours(MD5, 2)
    shard = Path(store.root, "ab")

    def is_in_it(_: str, name: str) -> bool:
        return name.startswith("ab")

    with crossed(os, "link", is_in_it, lambda: shutil.rmtree(shard, ignore_errors=True), 1000):
        outcomes = batch(staging, [b"one", lost[0], b"two", lost[1]])
    assert [type(outcome) for outcome in outcomes] == [Receipt, StoreUnavailable, Receipt, StoreUnavailable]
    assert "kept being removed" in str(outcomes[1])
    assert held(store) == {b"one", b"two"}


CALLS = ["open", "write", "fstat", "fsync", "posix_fadvise", "utime", "link", "mkdir", "listdir", "close"]


@pytest.mark.races
@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize("before", [(), FILES[-2:]], ids=["new", "some held"])
def test_each_call_fails_once(
    tmp_path: Path, kind: LocalKind, function: str, code: int, before: Sequence[bytes]
) -> None:
    """Whichever call fails: files with a receipt are there, and the others can be sent again."""
    real: Callable[..., Any] = getattr(os, function)
    for number in range(1000):
        store = kind.open(tmp_path / str(number), MD5)
        staging = kind.staging(store)
        batch(staging, before)
        calls = 0

        def fail(*arguments: Any, at: int = number, **options: Any) -> Any:
            nonlocal calls
            # NFS reports write errors when a file that was written is closed.
            if function == "close" and "/.staging/" not in os.readlink(f"/proc/self/fd/{arguments[0]}"):
                return real(*arguments)
            calls += 1
            result = real(*arguments, **options) if function == "close" or calls != at + 1 else None
            if calls == at + 1:
                raise OSError(code, os.strerror(code))
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, function, fail)
            outcomes = batch(staging)
        stored = {receipt.digest for receipt in receipts(outcomes)}
        assert stored <= {blob.digest for blob in store.iterate()}
        failures = [outcome for outcome in outcomes if not isinstance(outcome, Receipt)]
        assert all(isinstance(failure, StoreError) for failure in failures)
        if kind.nameless:
            assert not os.listdir(store.staging_directory)
        staging = kind.staging(store)  # sweeps what could not be removed
        assert not os.listdir(store.staging_directory)
        assert len(receipts(batch(staging))) == len(FILES)
        assert held(store) == set(FILES)
        if calls <= number:
            break
    assert number


def test_a_directory_that_cannot_be_synced(
    store: LocalStore, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files in it are not acknowledged, and those in other directories are."""
    batch(staging, [b"one", *neighbours(MD5, 1)])
    real = os.fsync

    def fail(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}") == f"{store.root}/ab":
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fail)
    lost = neighbours(MD5, 3)
    outcomes = batch(staging, [b"two", *lost, b"three"])
    assert [isinstance(outcome, Receipt) for outcome in outcomes] == [True, False, False, False, True]
    assert all("Input/output error" in str(failure) for failure in outcomes[1:4])


def test_a_held_file_that_cannot_be_synced(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that stands for an uploaded one and cannot be synced fails that one alone."""
    first, second = neighbours(MD5, 2)
    batch(staging, [first, second])
    real = os.fsync

    def fail(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(digest_of(MD5, first).hex):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fail)
    outcomes = batch(staging, [b"one", first, second, b"two", b"three"])
    assert [isinstance(outcome, Receipt) for outcome in outcomes] == [True, False, True, True, True]


def test_no_thread_can_be_started(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads are limited, files are synced all the same."""
    synced: list[int] = []
    real = os.fsync

    def sync(fd: int) -> None:
        real(fd)
        synced.append(fd)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr("threading.Thread.start", refuse)
    assert len(receipts(batch(staging))) == len(FILES)
    shards = {digest_of(MD5, data).hex[:2] for data in FILES}
    assert len(synced) == len(FILES) + 1 + len(shards)


def test_a_disk_that_gets_full(tmp_path: Path, kind: LocalKind) -> None:
    """On a full disk the files that fitted are stored, the next one is refused, and no more are taken."""
    with disk("tmpfs", tmp_path / "disk", 2 << 20):
        store = kind.open(tmp_path / "disk" / "store", SHA256)
        staging = kind.staging(store)
        files = iter([bytes([number]) * 100_000 for number in range(60)])
        outcomes = batch(staging, files)  # type: ignore[arg-type]  # an iterator, to see what is left
        assert len(outcomes) > 10
        assert isinstance(outcomes[-1], StorageFull)
        stored = receipts(outcomes)
        assert len(stored) == len(outcomes) - 1
        assert {receipt.digest for receipt in stored} == {blob.digest for blob in store.iterate()}
        assert len(list(files)) == 60 - len(outcomes)
        assert not os.listdir(store.staging_directory)
        store.remove(stored[0].digest)
        assert len(receipts(batch(staging, [bytes([0]) * 100_000]))) == 1


@pytest.mark.races
@pytest.mark.parametrize("durability", [Durability.FULL, Durability.NONE])
@pytest.mark.parametrize("spare", [*range(12), 15, 20, 30, 50])
def test_few_descriptors(tmp_path: Path, kind: LocalKind, spare: int, durability: Durability) -> None:
    """With few descriptors files are published earlier; a file is refused only if there are hardly any."""
    store = kind.open(tmp_path / "store", SHA256, durability)
    staging = kind.staging(store, durability)
    files = [b"%d" % number for number in range(100)]
    batch(staging, files[50:60])
    with no_more_descriptors(spare):
        outcomes = batch(staging, files)
    stored = {receipt.digest for receipt in receipts(outcomes)}
    assert stored <= {blob.digest for blob in store.iterate()}
    if spare >= 12:
        assert len(stored) == len(files)
    failures = [outcome for outcome in outcomes if not isinstance(outcome, Receipt)]
    assert all("Too many open files" in str(failure) for failure in failures)
    assert not os.listdir(store.staging_directory)
    assert len(receipts(batch(staging, files))) == len(files)


def test_a_name_that_is_anothers(tmp_path: Path) -> None:
    """Of two files of a batch with one further name, the second one lacks that name."""
    one = Round(tmp_path, 0, NAMED)
    process = one.process()
    receipts_ = process.upload_all(COLLIDING)
    assert [receipt.ambiguous for receipt in receipts_] == [(), (MD5,)]
    assert receipts_[1].names == (digest_of(SHA256, COLLIDING[1]), digest_of(SHA1, COLLIDING[1]))
    assert process.holds(COLLIDING[0], MD5)
    one.settled(COLLIDING[1], [SHA256, SHA1])
