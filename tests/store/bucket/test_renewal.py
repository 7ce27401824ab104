"""Renewing a blob in a bucket by a copy onto itself, while others change it."""

# pylint: disable=protected-access

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.kinds import BucketKind, content, digest_of, put
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.bucket import renewal
from wsgi_store.store.bucket.store import ObjectStore
from wsgi_store.store.bucket.version import Version, look
from wsgi_store.store.marker import Marker

KIND = BucketKind()
SHA256 = Algorithm.SHA256
DATA = b"an old blob"
DIGEST = digest_of(SHA256, DATA)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A store with a blob that is old enough to be copied."""
    store = KIND.open(tmp_path / "store", SHA256)
    assert isinstance(store, ObjectStore)
    put(Staging(store), DATA)
    KIND.age(tmp_path / "store", DIGEST)
    return store


def before_looking(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once, before the first look under the lock."""

    def late(*arguments: object) -> Version | None:
        patch.setattr(renewal, "look", look)
        act()
        return look(*arguments)  # type: ignore[arg-type]

    patch.setattr(renewal, "look", late)


def test_removed_meanwhile(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that was removed stays removed."""
    key = f"{DIGEST.hex[:2]}/{DIGEST.hex}"
    before_looking(monkeypatch, lambda: store._bucket.client.delete(key))
    assert store.renew(DIGEST, len(DATA)) is None
    assert not list(store.iterate())


def test_replaced_meanwhile(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A blob that another server renews at the same moment is not copied again."""
    before_looking(monkeypatch, lambda: KIND.damage(tmp_path / "store", DIGEST, DATA))
    assert store.renew(DIGEST, len(DATA))
    assert content(store, DIGEST) == DATA


@pytest.mark.races
def test_a_lock_that_was_lost(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that no longer holds the lock leaves the object alone, and tries again."""
    old = store.stat(DIGEST).modified
    monotonic = time.monotonic
    before_looking(
        monkeypatch, lambda: monkeypatch.setattr(renewal.time, "monotonic", lambda: monotonic() + 1000)
    )
    copies = []
    copied = renewal._copied

    def count(*arguments: object) -> bool:
        done = copied(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(renewal.time, "monotonic", monotonic)
        copies.append(done)
        return done

    monkeypatch.setattr(renewal, "_copied", count)
    assert store.renew(DIGEST, len(DATA))
    assert copies == [False, True]
    assert store.stat(DIGEST).modified > old


def test_a_bad_copy(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that answers without copying is noticed."""

    def forgotten(*_: object) -> None:
        """Copy nothing."""

    monkeypatch.setattr("wsgi_store.store.bucket.copying.Copier._whole", forgotten)
    with pytest.raises(StoreUnavailable, match="did not copy"):
        store.renew(DIGEST, len(DATA))


def test_other_engines(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload has to send its bytes to stores whose copies keep the time of the object."""
    monkeypatch.setattr(store._bucket, "scheme", "gs")
    assert store.renew(DIGEST, len(DATA)) is None
    put(Staging(store), DATA)
    assert store.renew(DIGEST, len(DATA))


def test_a_store_that_is_being_migrated(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob whose primary name the migration has not given yet gets it from an upload of its bytes."""
    put(Staging(store), DATA)
    refreshed = store._bucket.refresh()
    after = replace(refreshed, algorithm=Algorithm.SHA512, names=(SHA256,), migrating=SHA256)

    def refresh() -> Marker:
        store._bucket.last = after
        return after

    monkeypatch.setattr(store._bucket, "refresh", refresh)
    assert store.renew(DIGEST, len(DATA)) is None


def test_a_blob_that_always_changes(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After many rounds the request fails, and nothing is acknowledged."""
    monkeypatch.setattr(renewal, "_copied", lambda *_: False)
    with pytest.raises(StoreUnavailable, match="kept being replaced"):
        store.renew(DIGEST, len(DATA))


def test_renewing_many_and_expiring_at_once(store: ObjectStore, tmp_path: Path) -> None:
    """In any order a blob that was renewed is there, and one that expired was not."""
    some = [b"%d" % number for number in range(12)]
    blobs = {put(Staging(store), data).digest: len(data) for data in some}
    KIND.age(tmp_path / "store", list(blobs)[-1])
    old = {digest: store.stat(digest).modified for digest in blobs}
    expired: set[Digest] = set()

    def expire() -> None:
        for digest in reversed(blobs):
            if store.expire(digest, old[digest]):
                expired.add(digest)

    with ThreadPoolExecutor(1) as pool:
        expiring = pool.submit(expire)
        renewed = store.renew_all(blobs)
        expiring.result()
    assert not renewed & expired
    assert renewed | expired == blobs.keys()
    assert store.sizes(blobs) == {digest: blobs[digest] for digest in renewed}


def test_many_during_a_migration(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs that may have moved while they were looked up are renewed one by one."""
    some = {put(Staging(store), b"%d" % number).digest: len(b"%d" % number) for number in range(3)}
    bucket = store._bucket
    before = bucket.last
    refresh = bucket.refresh
    seen = []

    def late() -> Marker:
        monkeypatch.setattr(bucket, "refresh", refresh)
        bucket.last = replace(before, algorithm=Algorithm.SHA512, names=(SHA256,), migrating=SHA256)
        seen.append(bucket.last)
        return bucket.last

    monkeypatch.setattr(bucket, "refresh", late)
    assert store.renew_all(some) == set()
    assert len(seen) == 1
    bucket.last = before
    assert store.renew_all(some) == some.keys()
