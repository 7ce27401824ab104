"""Upkeep of a bucket: healing, quarantine and collecting beside uploads and removals."""

import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import obstore
import pytest

from tests.support import ceph
from tests.support.kinds import GRANULARITY, BucketKind, content, digest_of, put
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.bucket import store as bucket_store
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.lock import locked
from wsgi_store.store.bucket.store import ObjectStore
from wsgi_store.store.bucket.upload import SINGLE_PUT_MAX
from wsgi_store.store.contract import Added, Blob, Remote, Store
from wsgi_store.upkeep.collect import Collected, Kind, collect
from wsgi_store.upkeep.usage import Usage, manifest, usage

pytestmark = pytest.mark.long(75)
KIND = BucketKind()
DATA = b"some bytes"
LARGE = bytes(range(256)) * (SINGLE_PUT_MAX // 256 + 1)


@pytest.fixture(name="store")
def fixture_store(root: Path) -> Store:
    """An empty store."""
    return KIND.open(root, Algorithm.SHA256)


def upload(staging: Staging, data: bytes) -> Added:
    """Upload `data`; returns how it was added."""
    return put(staging, data).added


def all_at_once(*calls: Callable[[], object]) -> list[object]:
    """Make calls at the same time; returns their results, or the BlobNotFound that they raise."""

    def outcome(future: Future[object]) -> object:
        error = future.exception()
        if error is not None and not isinstance(error, BlobNotFound):
            raise error
        return error or future.result()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [outcome(future) for future in [pool.submit(call) for call in calls]]


def test_large_blobs_are_healed_once(root: Path, store: Store, staging: Staging) -> None:
    """Of concurrent uploads in parts that find a truncated blob exactly one heals it."""
    digest = put(staging, LARGE).digest
    KIND.damage(root, digest, LARGE[:-1])
    added = all_at_once(*[partial(upload, staging, LARGE)] * 3)
    assert sorted(str(one) for one in added) == ["Added.HEALED", "Added.HELD", "Added.HELD"]
    assert content(store, digest) == LARGE


def test_a_large_blob_is_renewed(root: Path, store: Store, staging: Staging) -> None:
    """An upload that finds an old blob of several parts renews its time while others read it."""
    digest = put(staging, LARGE).digest
    before = store.stat(digest).modified
    KIND.age(root, digest)
    with closing(store.open(digest)) as reader:
        head = reader.read(10)
        assert put(staging, LARGE).added is Added.HELD
        assert head + reader.read() == LARGE
    assert store.stat(digest).modified >= before + GRANULARITY
    assert content(store, digest) == LARGE


@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.SHA256])
def test_damage_under_the_same_tag(root: Path, algorithm: Algorithm) -> None:
    """Bits that flip below the engine are found, though the engine still reports the old ETag."""
    store = KIND.open(root, algorithm)
    staging = Staging(store)
    digest = put(staging, DATA).digest
    tag = obstore.head(bucket(root).client, f"{digest.hex[:2]}/{digest.hex}")["e_tag"]
    ceph.cluster().write_below(f"{str(root)[1:]}/{digest.hex[:2]}/{digest.hex}", b"some bytez")
    assert content(store, digest) == b"some bytez"
    assert obstore.head(bucket(root).client, f"{digest.hex[:2]}/{digest.hex}")["e_tag"] == tag
    if algorithm.collision_resistant:
        assert store.quarantine(digest) is True
        assert kept(root, digest) == b"some bytez"
    added = all_at_once(*[partial(upload, staging, DATA)] * 4)
    assert sorted(str(one) for one in added) == ["Added.HEALED", *["Added.HELD"] * 3]
    assert content(store, digest) == DATA
    assert not list(store.quarantined())


def bucket(root: Path) -> Bucket:
    """The bucket itself, bypassing the store."""
    return Bucket(KIND.url(root), Remote(str(root)))


def kept(root: Path, digest: Digest) -> bytes | None:
    """The bytes in quarantine."""
    try:
        return bytes(obstore.get(bucket(root).client, f".quarantine/{digest.hex}").bytes())
    except FileNotFoundError:
        return None


def test_quarantine_beside_removals_and_uploads(root: Path, store: Store, staging: Staging) -> None:
    """Concurrent calls quarantine no good blob, and lose none that was not removed."""
    for number in range(12):
        data = DATA + bytes([number])
        digest = put(staging, data).digest
        KIND.damage(root, digest, b"")
        moved, removed, *added = all_at_once(
            partial(store.quarantine, digest),
            partial(store.remove, digest),
            *[partial(upload, staging, data)] * 2,
        )
        assert kept(root, digest) in (None, b"")
        assert moved is not False or Added.HEALED in added or Added.CREATED in added
        try:
            assert content(store, digest) == data
        except BlobNotFound:
            assert isinstance(removed, Blob)


def test_expiring_beside_dedup_hits(root: Path, store: Store, staging: Staging) -> None:
    """An acknowledged blob is there, whether it expired before its upload or was renewed by it."""
    blobs = [DATA + bytes([number]) for number in range(48)]
    for data in blobs:
        put(staging, data)
    KIND.age(root, digest_of(store.algorithm, blobs[-1]))
    looked = {blob.digest: blob.modified for blob in store.iterate()}
    outcomes = []
    for number, data in enumerate(blobs):

        def expire(digest: Digest = digest_of(store.algorithm, data), pause: float = number / 3000) -> bool:
            time.sleep(pause)  # before, during or after the upload
            return store.expire(digest, looked[digest])

        # One after the other in the first and the last round, so that both outcomes certainly occur.
        if number == 0:
            outcomes.append((expire(), upload(staging, data)))
        elif number == len(blobs) - 1:
            outcomes.append((upload(staging, data), expire())[::-1])
        else:
            outcomes.append(tuple(all_at_once(expire, partial(upload, staging, data))))
        assert content(store, digest_of(store.algorithm, data)) == data
    assert set(outcomes) == {(True, Added.CREATED), (False, Added.HELD)}


def test_a_lock_that_is_held_too_long(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds a lock for too long deletes nothing, because another may have taken the lock."""
    store = KIND.open(root, Algorithm.SHA256)
    slow = ObjectStore(KIND.url(root), Algorithm.SHA256, Remote(str(root), timeout=0.5))
    slow.granularity = GRANULARITY
    slow.check()
    digest = put(Staging(store), DATA).digest
    KIND.age(root, digest)
    then = store.stat(digest).modified
    slow_too = ObjectStore(KIND.url(root), Algorithm.SHA256, Remote(str(root), timeout=0.5))
    slow_too.granularity = GRANULARITY
    held = slow._bucket  # pylint: disable=protected-access
    describe = held.describe

    def late(key: str) -> object:
        there = describe(key)  # the last request before the blob is removed
        time.sleep(0.6)
        assert put(Staging(slow_too), DATA).added is Added.HELD
        return there

    monkeypatch.setattr(held, "describe", late)
    for remove in (lambda: slow.expire(digest, then), lambda: slow.remove(digest)):
        with pytest.raises(StoreUnavailable, match="the lock expired before"):
            remove()
        assert content(store, digest) == DATA


def test_a_lock_that_was_taken_over(root: Path, store: Store) -> None:
    """A process that held a lock too long does not release the lock of the next holder."""
    assert not list(store.iterate())
    slow, following = (Bucket(KIND.url(root), Remote(str(root), timeout=0.5)) for _ in range(2))
    with ExitStack() as held:
        held.enter_context(locked(slow, "name"))
        with locked(following, "name"):
            held.close()
            assert obstore.head(following.client, ".locks/name")
    with pytest.raises(FileNotFoundError):
        obstore.head(following.client, ".locks/name")


@pytest.mark.races
def test_collect(root: Path, store: Store, staging: Staging) -> None:
    """Old blobs go by age or oldest first, a renewed one last; young blobs always stay."""
    digests = []
    for number in range(6):
        digests.append(put(staging, bytes([number]) * 100).digest)
        time.sleep(KIND.tick)
    assert usage(store) == Usage(6, 600)
    assert list(manifest(store)) == [f"{one.hex}  {one.hex[:2]}/{one.hex}" for one in sorted_by_hash(digests)]
    store.granularity = 600  # all of them are young, however long the steps above took
    assert not list(collect(store, max_bytes=0))
    store.granularity = GRANULARITY
    KIND.age(root, digests[-1])
    assert put(staging, bytes(100)).added is Added.HELD  # the oldest one
    oldest = [Collected(Kind.BLOB, 100, one) for one in digests[1:]]
    for dry_run in (True, False):
        assert list(collect(store, max_bytes=400, dry_run=dry_run)) == oldest[:2]
    for dry_run in (True, False):
        # Just less than the age of this blob; the next one is a tick younger.
        age = time.time() - store.stat(digests[3]).modified - 0.1
        assert list(collect(store, older=age, dry_run=dry_run)) == oldest[2:3]
    put(staging, bytes(100))  # it still has to be young
    assert sorted(list(collect(store, older=0, max_bytes=0)), key=str) == sorted(oldest[3:], key=str)
    assert [blob.digest for blob in store.iterate()] == [digests[0]]
    KIND.damage(root, digests[0], b"x")
    assert store.quarantine(digests[0])
    assert usage(store) == Usage(quarantined=1, quarantined_bytes=1)
    assert not list(collect(store, quarantined_older=60))
    time.sleep(KIND.tick)
    assert list(collect(store, quarantined_older=0)) == [Collected(Kind.QUARANTINED, 1, digests[0])]
    assert usage(store) == Usage()


def sorted_by_hash(digests: list[Digest]) -> list[Digest]:
    """Digests in the order of a listing."""
    return sorted(digests, key=lambda digest: digest.raw)


@pytest.mark.parametrize("healed", [False, True])
def test_a_move_that_is_interrupted(root: Path, monkeypatch: pytest.MonkeyPatch, *, healed: bool) -> None:
    """A blob copied to quarantine but not deleted is moved or healed at the next attempt."""
    KIND.open(root, Algorithm.SHA256)
    store = ObjectStore(KIND.url(root), Algorithm.SHA256, Remote(str(root), timeout=0.5))
    digest = put(Staging(store), DATA).digest
    KIND.damage(root, digest, b"")

    def fail(*_: object) -> None:
        raise StoreUnavailable("the way to the engine is lost")

    with monkeypatch.context() as patch:
        patch.setattr(bucket_store, "remove", fail)
        with pytest.raises(StoreUnavailable, match="the way to the engine"):
            store.quarantine(digest)
    assert store.stat(digest).size == 0
    assert kept(root, digest) == b""
    if not healed:
        assert store.quarantine(digest) is True
        with pytest.raises(BlobNotFound):
            store.stat(digest)
    assert [upload(Staging(store), DATA) for _ in range(2)] == [Added.HEALED, Added.HELD]
    assert content(store, digest) == DATA
    assert not list(store.quarantined())


def test_quarantine_by_another_process(root: Path) -> None:
    """An upload heals a blob that another process has just quarantined, despite what was seen before."""
    KIND.open(root, Algorithm.SHA256)
    here, there = (ObjectStore(KIND.url(root), Algorithm.SHA256, Remote(str(root))) for _ in range(2))
    staging = Staging(here)
    for number in range(3):
        data = DATA + bytes([number])
        digest = put(staging, data).digest
        KIND.damage(root, digest, b"")
        with ThreadPoolExecutor(1) as pool:
            moved = pool.submit(there.quarantine, digest)
            while not moved.done():
                put(staging, os.urandom(16))
        assert moved.result() is True
        assert [upload(staging, data) for _ in range(2)] == [Added.HEALED, Added.HELD]
    assert not list(here.quarantined())


def test_how_often_the_engine_is_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small upload takes two requests, and a deletion five: both read the marker, which may change."""
    store = KIND.open(root, Algorithm.SHA256)
    store.seen = 60.0
    staging = Staging(store)
    put(staging, b"first")  # which also looks whether the quarantine is empty
    asked: Counter[str] = Counter()

    def count(name: str) -> None:
        ask = getattr(obstore, name)

        def counted(*arguments: object, **options: object) -> object:
            asked[name] += 1
            return ask(*arguments, **options)

        monkeypatch.setattr(obstore, name, counted)

    for name in ("get", "head", "put", "delete", "list", "copy"):
        count(name)
    digest = put(staging, DATA).digest
    assert asked == {"put": 1, "get": 1}
    asked.clear()
    store.remove(digest)
    assert asked == {"put": 1, "get": 2, "delete": 2}
