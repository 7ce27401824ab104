"""Objects other than blobs that killed processes leave in a bucket are collected unless they are in use."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import obstore
import pytest

from tests.support import ceph
from tests.support.buckets import s3, unfinished
from tests.support.commands import install, run
from tests.support.kinds import BucketKind, digest_of, put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.bucket import litter
from wsgi_store.store.bucket import unfinished as uploads
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.engine import PROBES
from wsgi_store.store.bucket.lock import LOCKS, locked
from wsgi_store.store.contract import Durability, Remote, Store
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.collect import Collected, Kind, collect

KIND = BucketKind()
TIMEOUT = 1.0
DATA = b"some bytes"
DIGEST = digest_of(Algorithm.SHA256, DATA)
HOLD = """
import sys, time
from wsgi_store.store.contract import Remote
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.lock import locked
with locked(Bucket(sys.argv[1], Remote(sys.argv[2])), sys.argv[3]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> Store:
    """A store with one blob, in which abandoned locks soon expire."""
    ceph.cluster()
    remote = Remote(str(tmp_path), timeout=TIMEOUT)
    store = open_store(KIND.url(tmp_path), Algorithm.SHA256, Durability.NONE, remote)
    put(Staging(store), DATA)
    return store


@pytest.fixture(name="bucket")
def fixture_bucket(tmp_path: Path, store: Store) -> Bucket:
    """The part of the bucket that holds the store."""
    del store
    return Bucket(KIND.url(tmp_path), Remote(str(tmp_path), timeout=TIMEOUT))


@pytest.fixture(name="aged")
def fixture_aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything in the store old enough to collect."""
    for module in (litter, uploads):
        monkeypatch.setattr(module, "MIN_AGE", -3600.0)


def keys(bucket: Bucket, place: str) -> set[str]:
    """The keys below a prefix of the bucket."""
    return {meta["path"] for page in obstore.list(bucket.client, prefix=place) for meta in page}


def killed(directory: Path, name: str) -> None:
    """Kill a process that has taken a lock."""
    command = [sys.executable, "-c", HOLD, KIND.url(directory), str(directory), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.kill()


@pytest.mark.usefixtures("aged")
def test_locks_of_killed_processes(tmp_path: Path, store: Store, bucket: Bucket) -> None:
    """All stale locks are collected with one wait; a dry run only counts them; uploads work throughout."""
    names = [digest_of(Algorithm.SHA256, b"%d" % number).hex for number in range(20)]
    for name in names[:2]:
        killed(tmp_path, name)
    for name in names[2:]:
        obstore.put(bucket.client, f"{LOCKS}/{name}", bytes(16))
    obstore.put(bucket.client, f"{PROBES}/{'0' * 32}", b"tried")
    begun = s3().create_multipart_upload(Bucket=ceph.BUCKET, Key=f"{bucket.prefix}/{PROBES}/{'1' * 32}")
    left = keys(bucket, LOCKS)
    assert left == {f"{LOCKS}/{name}" for name in names}
    sizes = [16] * len(names) + [5]
    would = sorted(one.size for one in collect(store, uploads_older=-3600.0, dry_run=True))
    assert would == sorted(sizes)
    assert keys(bucket, LOCKS) == left
    begin = time.monotonic()
    found = list(collect(store, uploads_older=-3600.0))
    assert TIMEOUT <= time.monotonic() - begin < len(names) * TIMEOUT / 2
    assert sorted(found, key=lambda one: one.size) == [Collected(Kind.LITTER, size) for size in sorted(sizes)]
    assert not keys(bucket, LOCKS) | keys(bucket, PROBES)
    assert not unfinished(tmp_path), begun
    assert not list(collect(store, uploads_older=-3600.0))
    store.remove(DIGEST)


def test_what_is_young_stays(store: Store, bucket: Bucket, tmp_path: Path) -> None:
    """Objects that a process may still use stay, whatever the option says."""
    obstore.put(bucket.client, f"{PROBES}/{'0' * 32}", b"tried")
    killed(tmp_path, DIGEST.hex)
    assert not list(collect(store, uploads_older=0.0))
    assert keys(bucket, LOCKS) and keys(bucket, PROBES)
    program = install(tmp_path / "bin")
    assert b"removed nothing" in run(program, "collect", "--uploads-older", "0s", **settings(tmp_path)).stdout


def settings(directory: Path) -> dict[str, str]:
    """Settings of the command for the same store."""
    places = {"WSGI_STORE_ROOT": KIND.url(directory), "WSGI_STORE_S3_STAGING": str(directory)}
    return {**ceph.cluster().environ, **places}


@pytest.mark.usefixtures("aged")
def test_locks_that_are_held(store: Store, bucket: Bucket) -> None:
    """Locks of live processes stay even when they look old, so nobody shares one."""
    ended = threading.Event()
    holders: list[str] = []
    overlaps: list[tuple[str, ...]] = []
    count = 0

    def hold(me: str) -> None:
        nonlocal count
        while not ended.is_set():
            with suppress(StoreUnavailable), locked(bucket, DIGEST.hex) as until:
                holders.append(me)
                overlaps.extend([tuple(holders)] if len(holders) > 1 else [])
                count += 1
                ended.wait(TIMEOUT / 4)
                if time.monotonic() < until:
                    assert obstore.get(bucket.client, f"{LOCKS}/{DIGEST.hex}").meta["size"] == 16
                holders.remove(me)

    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(hold, me) for me in ("one", "another")]
        try:
            for _ in range(2):
                assert not list(collect(store, uploads_older=-3600.0))
        finally:
            ended.set()
        for one in held:
            one.result()
    assert count > 3
    assert not overlaps
