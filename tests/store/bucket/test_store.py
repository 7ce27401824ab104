"""Features particular to a store in a bucket: large files, locks, collisions, forking processes."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import obstore
import pytest

from tests.support import ceph
from tests.support.buckets import unfinished
from tests.support.kinds import BucketKind, content, digest_of, put, removed_by
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound, ConfigError, DigestCollision, StoreUnavailable, WrongStore
from wsgi_store.staging import Staging
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.lock import LOCKS
from wsgi_store.store.bucket.upload import SINGLE_PUT_MAX
from wsgi_store.store.contract import Durability, Remote, Store
from wsgi_store.store.open import open_store
from wsgi_store.testing.helpers import COLLIDING

KIND = BucketKind()
LARGE = bytes(range(256)) * ((SINGLE_PUT_MAX >> 8) + 1)


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> Store:
    """An empty store in the bucket."""
    ceph.cluster()
    store = open_store(KIND.url(tmp_path), Algorithm.MD5, Durability.FULL, Remote(str(tmp_path)))
    store.check()
    return store


@pytest.fixture(name="hasty")
def fixture_hasty(store: Store, tmp_path: Path) -> Store:
    """The same store with a time limit of one second, too short for many requests at once."""
    return open_store(
        KIND.url(tmp_path), store.algorithm, Durability.FULL, Remote(str(tmp_path), timeout=1.0)
    )


@pytest.fixture(name="staging")
def fixture_staging(store: Store, tmp_path: Path) -> Iterator[Staging]:
    """The staging of the store; no unfinished upload in parts and no lock may be left."""
    yield Staging(store, durability=Durability.NONE)
    assert not unfinished(tmp_path)


@pytest.fixture(name="bucket")
def fixture_bucket(tmp_path: Path) -> Bucket:
    """The part of the bucket that holds the store."""
    return Bucket(KIND.url(tmp_path), Remote(str(tmp_path)))


def keys(bucket: Bucket) -> set[str]:
    """The keys in the bucket."""
    return {meta["path"] for page in obstore.list(bucket.client) for meta in page}


@pytest.mark.parametrize("tail", [b"", LARGE], ids=["whole", "in parts"])
def test_a_real_collision(store: Store, staging: Staging, tail: bytes) -> None:
    """Of two files with the same hash the first is kept and the second refused."""
    first, second = (one + tail for one in COLLIDING)
    digest = put(staging, first).digest
    with pytest.raises(DigestCollision):
        put(staging, second)
    assert content(store, digest) == first
    assert put(staging, first).created is False


def test_large_uploads_at_once_that_collide(store: Store, staging: Staging) -> None:
    """Of large colliding files uploaded at once one is kept, and the others are refused."""
    files = [one + LARGE for one in COLLIDING] * 2
    gate = threading.Barrier(len(files))

    def send(data: bytes) -> object:
        gate.wait(20)
        try:
            return put(staging, data).created
        except DigestCollision:
            return DigestCollision

    with ThreadPoolExecutor(len(files)) as pool:
        answers = list(pool.map(send, files))
    kept = content(store, digest_of(Algorithm.MD5, files[0]))
    assert kept in files
    for data, answer in zip(files, answers, strict=True):
        assert (answer is DigestCollision) == (data != kept)
    assert answers.count(True) == 1


@pytest.mark.parametrize(
    "size", [SINGLE_PUT_MAX - 1, SINGLE_PUT_MAX, SINGLE_PUT_MAX + 1, 3 * SINGLE_PUT_MAX + 7]
)
def test_sizes(store: Store, staging: Staging, bucket: Bucket, size: int) -> None:
    """Files around the threshold for uploads in parts arrive whole, and are created once."""
    data = (LARGE * 4)[:size]
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda _: put(staging, data), range(4)))
    assert sum(receipt.created for receipt in receipts) == 1
    assert content(store, receipts[0].digest) == data
    name = receipts[0].digest.hex
    assert keys(bucket) == {f"{name[:2]}/{name}", "store.json"}


def test_damage_is_found(store: Store, staging: Staging, bucket: Bucket) -> None:
    """An upload of a damaged blob's bytes heals it."""
    digest = put(staging, b"some bytes").digest
    obstore.put(bucket.client, f"{digest.hex[:2]}/{digest.hex}", b"some other bytes")
    assert put(staging, b"some bytes").healed
    assert content(store, digest) == b"some bytes"


def test_what_is_young_does_not_expire(store: Store, staging: Staging) -> None:
    """A young blob does not expire, because an upload may just have found it there."""
    digest = put(staging, b"some bytes").digest
    assert store.expire(digest, store.stat(digest).modified) is False
    assert content(store, digest) == b"some bytes"


def test_a_lock_left_behind(hasty: Store, staging: Staging, bucket: Bucket) -> None:
    """A waiting process takes over the lock of a dead one after a while."""
    digest = put(staging, b"some bytes").digest
    obstore.put(bucket.client, f"{LOCKS}/{digest.hex}", b"left behind")

    begin = time.monotonic()
    assert removed_by(hasty, digest, 4) == 1
    assert time.monotonic() - begin >= 1.0
    assert keys(bucket) == {"store.json"}


def test_a_lock_that_is_never_free(hasty: Store, staging: Staging, bucket: Bucket) -> None:
    """A process that waits too long for a lock gives up and changes nothing."""
    digest = put(staging, b"some bytes").digest
    end = threading.Event()

    def take() -> None:
        obstore.put(bucket.client, f"{LOCKS}/{digest.hex}", os.urandom(8))

    def hold() -> None:
        while not end.wait(0.1):
            take()

    take()
    holder = threading.Thread(target=hold)
    holder.start()
    try:
        with pytest.raises(StoreUnavailable, match="timed out waiting for the lock"):
            hasty.remove(digest)
    finally:
        end.set()
        holder.join()
    assert content(hasty, digest) == b"some bytes"


def test_an_unmarked_store_of_another_algorithm(tmp_path: Path, bucket: Bucket) -> None:
    """A bucket with blobs of another algorithm and no marker is refused."""
    ceph.cluster()
    obstore.put(bucket.client, f"ab/ab{'0' * 38}", b"named by sha1")
    for _ in range(2):
        with pytest.raises(WrongStore, match="not a md5 digest"):
            KIND.open(tmp_path, Algorithm.MD5)
    assert keys(bucket) == {f"ab/ab{'0' * 38}"}


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://bucket/a\nb", "s3://bucket?x=1", "s3://b*"])
def test_a_url_that_names_no_bucket(tmp_path: Path, url: str) -> None:
    """An invalid bucket URL is rejected with an error that names the setting."""
    with pytest.raises(ConfigError, match="^WSGI_STORE_ROOT: expected s3://bucket/prefix"):
        open_store(url, Algorithm.MD5, Durability.FULL, Remote(str(tmp_path)))


def test_a_process_that_forks_too_late(store: Store, staging: Staging) -> None:
    """A process forked after the bucket was used raises an error, where obstore would hang."""
    digest = put(staging, b"some bytes").digest
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        told = b"no error"
        try:
            store.stat(digest)
        except StoreUnavailable as error:
            told = str(error.__cause__).encode()
        finally:
            os.write(writing, told)
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert b"before this process was forked" in pipe.read()
    os.waitpid(child, 0)
    assert content(store, digest) == b"some bytes"


def test_a_reader_whose_blob_is_gone(store: Store, staging: Staging) -> None:
    """A reader that has to ask again for a removed blob raises an error."""
    with closing(store.open(put(staging, b"some bytes").digest)) as reader:
        store.remove(reader.blob.digest)
        reader.seek(3)
        with pytest.raises(BlobNotFound):
            reader.read()


def test_a_reader_whose_blob_has_shrunk(store: Store, staging: Staging, bucket: Bucket) -> None:
    """A reader that gets fewer bytes than the blob had raises an error instead of ending early."""
    with closing(store.open(put(staging, b"some bytes").digest)) as reader:
        hash_ = reader.blob.digest.hex
        obstore.put(bucket.client, f"{hash_[:2]}/{hash_}", b"short")
        reader.seek(3)
        with pytest.raises(StoreUnavailable, match="shorter than it was"):
            reader.read()


def test_nothing_is_synced_here(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload syncs no local disk: acknowledged bytes are in the bucket."""

    def sync(*_: object) -> None:
        pytest.fail("the local disk was waited for")

    for name in ("fsync", "fdatasync", "posix_fadvise"):
        monkeypatch.setattr(os, name, sync)
    staging = Staging(store, durability=Durability.FULL)
    staging.check()
    digest = put(staging, LARGE).digest
    assert content(store, digest) == LARGE
