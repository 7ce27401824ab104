"""A bucket kept in order for years: healing, quarantine and collecting beside uploads and removals."""

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
    """Upload `data`; tells what became of it."""
    return put(staging, data).added


def all_at_once(*calls: Callable[[], object]) -> list[object]:
    """Make calls at the same time; returns what they return, or the BlobNotFound that they raise."""

    def outcome(future: Future[object]) -> object:
        error = future.exception()
        if error is not None and not isinstance(error, BlobNotFound):
            raise error
        return error or future.result()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [outcome(future) for future in [pool.submit(call) for call in calls]]


def test_large_blobs_are_healed_once(root: Path, store: Store, staging: Staging) -> None:
    """Of uploads in parts that find a blob cut exactly one heals it."""
    digest = put(staging, LARGE).digest
    KIND.damage(root, digest, LARGE[:-1])
    added = all_at_once(*[partial(upload, staging, LARGE)] * 3)
    assert sorted(str(one) for one in added) == ["Added.HEALED", "Added.HELD", "Added.HELD"]
    assert content(store, digest) == LARGE


def test_a_large_blob_is_renewed(root: Path, store: Store, staging: Staging) -> None:
    """An old blob of several parts that an upload finds held gets a new time, while others read it."""
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
    """Bits that flip below the engine, which goes on telling the tag of the bytes as they were."""
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
    """What lies in the bucket, past the store."""
    return Bucket(KIND.url(root), Remote(str(root)))


def kept(root: Path, digest: Digest) -> bytes | None:
    """The bytes in quarantine."""
    try:
        return bytes(obstore.get(bucket(root).client, f".quarantine/{digest.hex}").bytes())
    except FileNotFoundError:
        return None


def test_quarantine_beside_removals_and_uploads(root: Path, store: Store, staging: Staging) -> None:
    """No good blob is moved away, and none is lost that was not removed, whatever comes at once."""
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
    """A blob whose upload was acknowledged is there, whether it expired before or was renewed."""
    blobs = [DATA + bytes([number]) for number in range(48)]
    for data in blobs:
        put(staging, data)
    KIND.age(root, digest_of(store.algorithm, blobs[-1]))
    looked = {blob.digest: blob.modified for blob in store.iterate()}
    outcomes = []
    for number, data in enumerate(blobs):

        def expire(digest: Digest = digest_of(store.algorithm, data), pause: float = number / 3000) -> bool:
            time.sleep(pause)  # before the upload, amid it and after it
            return store.expire(digest, looked[digest])

        # In the first round and in the last one after the other, so that both were seen for certain.
        if number == 0:
            outcomes.append((expire(), upload(staging, data)))
        elif number == len(blobs) - 1:
            outcomes.append((upload(staging, data), expire())[::-1])
        else:
            outcomes.append(tuple(all_at_once(expire, partial(upload, staging, data))))
        assert content(store, digest_of(store.algorithm, data)) == data
    assert set(outcomes) == {(True, Added.CREATED), (False, Added.HELD)}


def test_a_lock_that_is_held_too_long(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is deleted by who was so slow that another one may have its lock and have acknowledged."""
    store = KIND.open(root, Algorithm.SHA256)
    slow = ObjectStore(KIND.url(root), Algorithm.SHA256, Remote(str(root), timeout=0.5))
    slow.granularity = GRANULARITY
    digest = put(Staging(store), DATA).digest
    KIND.age(root, digest)
    then = store.stat(digest).modified
    delete = ObjectStore._delete  # pylint: disable=protected-access

    def late(self: ObjectStore, key: str, until: float) -> None:
        time.sleep(0.6)
        assert put(Staging(slow_too), DATA).added is Added.HELD
        delete(self, key, until)

    slow_too = ObjectStore(KIND.url(root), Algorithm.SHA256, Remote(str(root), timeout=0.5))
    slow_too.granularity = GRANULARITY
    monkeypatch.setattr(ObjectStore, "_delete", late)
    for remove in (lambda: slow.expire(digest, then), lambda: slow.remove(digest)):
        with pytest.raises(StoreUnavailable, match="too slow"):
            remove()
        assert content(store, digest) == DATA


def test_a_lock_that_was_taken_over(root: Path, store: Store) -> None:
    """Who held a lock too long leaves that of the next holder alone."""
    assert not list(store.iterate())
    slow, following = (Bucket(KIND.url(root), Remote(str(root), timeout=0.5)) for _ in range(2))
    with ExitStack() as held:
        held.enter_context(locked(slow, "name"))
        with locked(following, "name"):
            held.close()
            assert obstore.head(following.client, ".locks/name")
    with pytest.raises(FileNotFoundError):
        obstore.head(following.client, ".locks/name")


def test_collect(root: Path, store: Store, staging: Staging) -> None:
    """Blobs go by age or the oldest first, a renewed one last, and what is young stays whatever is asked."""
    digests = []
    for number in range(6):
        digests.append(put(staging, bytes([number]) * 100).digest)
        time.sleep(KIND.tick)
    assert usage(store) == Usage(6, 600)
    assert list(manifest(store)) == [f"{one.hex}  {one.hex[:2]}/{one.hex}" for one in sorted_by_hash(digests)]
    store.granularity = 600  # however long the above took, all of them are young
    assert not list(collect(store, max_bytes=0))
    store.granularity = GRANULARITY
    KIND.age(root, digests[-1])
    assert put(staging, bytes(100)).added is Added.HELD  # the oldest one
    oldest = [Collected(Kind.BLOB, 100, one) for one in digests[1:]]
    for dry_run in (True, False):
        assert list(collect(store, max_bytes=400, dry_run=dry_run)) == oldest[:2]
    for dry_run in (True, False):
        # Just less than the age of this one: until the next has it there is as long as a tick.
        age = time.time() - store.stat(digests[3]).modified - 0.1
        assert list(collect(store, older=age, dry_run=dry_run)) == oldest[2:3]
    put(staging, bytes(100))  # it has to be young still
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
    """A blob that was copied to quarantine and then not deleted is moved or healed at the next attempt."""
    KIND.open(root, Algorithm.SHA256)
    store = ObjectStore(KIND.url(root), Algorithm.SHA256, Remote(str(root), timeout=0.5))
    digest = put(Staging(store), DATA).digest
    KIND.damage(root, digest, b"")

    def fail(*_: object) -> None:
        raise StoreUnavailable("the way to the engine is lost")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "_delete", fail)
        with pytest.raises(StoreUnavailable):
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
    """An upload heals what another process moved to quarantine a moment ago, whatever was seen before."""
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
    """A small upload is one request, and a deletion four, with those for its lock."""
    store = KIND.open(root, Algorithm.SHA256)
    store.seen = 60.0
    staging = Staging(store)
    put(staging, b"first")  # which also looks whether there is anything in quarantine
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
    assert asked == {"put": 1}
    store.remove(digest)
    assert asked == {"put": 2, "get": 1, "delete": 2}
