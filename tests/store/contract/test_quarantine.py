"""Damaged blobs: moved to quarantine, and healed by an upload of their bytes, on every kind of store."""

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from webtest import TestApp

from tests.support.collisions import COLLIDING
from tests.support.kinds import EVERY_KIND, KINDS, BucketKind, Kind, absent, content, digest_of, put
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, DigestCollision, StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added, Store
from wsgi_store.store.disk import shard
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.web.application import Application

DATA = b"some bytes"
FLIPPED = b"some bytez"
ALGORITHMS = [Algorithm.MD5, Algorithm.SHA256]


@pytest.fixture(name="kind", params=EVERY_KIND, ids=str)
def fixture_kind(request: pytest.FixtureRequest) -> Kind:
    """One kind of store after another."""
    kind: Kind = request.param
    return kind


@pytest.fixture(name="store", params=ALGORITHMS, ids=lambda one: one.value)
def fixture_store(request: pytest.FixtureRequest, kind: Kind, tmp_path: Path) -> Iterator[Store]:
    """An empty store; whatever a test does, no staged file may be left."""
    store = kind.open(tmp_path / "store", request.param)
    yield store
    assert not os.listdir(store.staging_directory)


@pytest.fixture(name="staging")
def fixture_staging(kind: Kind, store: Store) -> Staging:
    """The way into the store."""
    return kind.staging(store)


@pytest.fixture(name="damage")
def fixture_damage(kind: Kind, tmp_path: Path) -> Callable[[Digest, bytes], None]:
    """Changes the bytes of a blob behind the back of the store."""
    return lambda digest, data: kind.damage(tmp_path / "store", digest, data)


Damage = Callable[[Digest, bytes], None]


def test_quarantine(store: Store, staging: Staging, damage: Damage) -> None:
    """A damaged blob in quarantine is absent, and its bytes are kept until they are discarded."""
    digest = put(staging, DATA).digest
    damage(digest, FLIPPED)
    assert store.quarantine(digest) is True
    absent(store, digest)
    assert not list(store.iterate())
    (kept,) = store.quarantined()
    assert (kept.digest, kept.size) == (digest, len(FLIPPED))
    store.discard(digest)
    assert not list(store.quarantined())
    with pytest.raises(BlobNotFound):
        store.discard(digest)


def test_a_good_blob_is_not_moved(store: Store, staging: Staging) -> None:
    """Whoever takes a good blob for a damaged one is told that it is not, and it stays."""
    digest = put(staging, DATA).digest
    assert store.quarantine(digest) is False
    assert content(store, digest) == DATA
    assert not list(store.quarantined())


def test_what_was_never_added(store: Store) -> None:
    """What is absent cannot be moved to quarantine, and is not in it."""
    digest = digest_of(store.algorithm, b"never added")
    with pytest.raises(BlobNotFound):
        store.quarantine(digest)
    with pytest.raises(BlobNotFound):
        store.discard(digest)
    assert not list(store.quarantined())


def test_an_upload_heals_a_blob_in_quarantine(store: Store, staging: Staging, damage: Damage) -> None:
    """The first upload of the bytes puts the blob back and empties the quarantine; the next finds it held."""
    digest = put(staging, DATA).digest
    other = put(staging, b"another").digest
    for one in (digest, other):
        damage(one, FLIPPED)
        assert store.quarantine(one)
    assert [put(staging, DATA).added for _ in range(2)] == [Added.HEALED, Added.HELD]
    assert content(store, digest) == DATA
    assert [blob.digest for blob in store.quarantined()] == [other]


@pytest.mark.parametrize("damaged", [b"", DATA[:-1], DATA + b"more"], ids=repr)
def test_an_upload_heals_a_blob_of_another_size(
    store: Store, staging: Staging, damage: Damage, damaged: bytes
) -> None:
    """A blob that was cut or grew is damaged for sure, and an upload puts its bytes there."""
    digest = put(staging, DATA).digest
    damage(digest, damaged)
    receipt = put(staging, DATA)
    assert (receipt.added, receipt.created, receipt.healed) == (Added.HEALED, True, True)
    assert put(staging, DATA).added is Added.HELD
    assert content(store, digest) == DATA
    assert not list(store.quarantined())


def test_flipped_bits(store: Store, staging: Staging, damage: Damage) -> None:
    """Bits that flipped are seen by an upload where bytes are compared, and nowhere else."""
    digest = put(staging, DATA).digest
    damage(digest, FLIPPED)
    compared = not store.algorithm.collision_resistant
    assert put(staging, DATA).added is (Added.HEALED if compared else Added.HELD)
    assert content(store, digest) == (DATA if compared else FLIPPED)


@pytest.mark.parametrize("quarantined", [True, False])
def test_uploads_that_heal_at_once(
    kind: Kind, store: Store, staging: Staging, damage: Damage, *, quarantined: bool
) -> None:
    """Of uploads at once that find a blob damaged exactly one says that it healed it."""
    with ThreadPoolExecutor(8) as pool:
        for turn in range(5 if isinstance(kind, BucketKind) else 20):
            data = DATA + bytes([turn])
            digest = put(staging, data).digest
            damage(digest, b"")
            if quarantined:
                store.quarantine(digest)
            added = [receipt.added for receipt in pool.map(lambda one: put(staging, one), [data] * 8)]
            assert sorted(one.value for one in added) == ["healed"] + ["held"] * 7
            assert content(store, digest) == data


def test_healing_and_quarantine_at_once(kind: Kind, store: Store, staging: Staging, damage: Damage) -> None:
    """Whatever is tried to be moved while others heal it, the good blob is there at last."""

    def quarantine(digest: Digest) -> None:
        for _ in range(5):
            try:
                store.quarantine(digest)
            except BlobNotFound:
                pass

    with ThreadPoolExecutor(4) as pool:
        for turn in range(10 if isinstance(kind, BucketKind) else 50):
            data = DATA + bytes([turn])
            digest = put(staging, data).digest
            damage(digest, b"")
            moving = [pool.submit(quarantine, digest) for _ in range(2)]
            healing = [pool.submit(put, staging, data) for _ in range(2)]
            for future in moving:
                future.result()
            # An upload that found it held found it good: the one that healed it came before.
            added = sorted(future.result().added.value for future in healing)
            assert added == ["healed", "held"]
            assert content(store, digest) == data
            assert not list(store.quarantined())


def test_a_real_collision_is_no_damage(kind: Kind, tmp_path: Path) -> None:
    """Other bytes with the same MD5 are refused, unless the blob held has not that MD5 any more."""
    store = kind.open(tmp_path / "store", Algorithm.MD5)
    staging = kind.staging(store)
    first, second = COLLIDING
    digest = put(staging, first).digest
    with pytest.raises(DigestCollision):
        put(staging, second)
    assert store.quarantine(digest) is False
    kind.damage(tmp_path / "store", digest, first[:-1] + b"?")
    assert put(staging, second).added is Added.HEALED
    with pytest.raises(DigestCollision):
        put(staging, first)
    assert content(store, digest) == second


@pytest.fixture(name="local")
def fixture_local(tmp_path: Path) -> LocalStore:
    """A store on a local disk that has a damaged blob."""
    store = LocalStore(str(tmp_path / "store"), Algorithm.MD5)
    KINDS[0].damage(tmp_path / "store", put(Staging(store), DATA).digest, b"")
    return store


LOCAL_DIGEST = digest_of(Algorithm.MD5, DATA)


def test_where_the_bytes_lie(local: LocalStore) -> None:
    """A file in quarantine has its hash for a name, and is as it was."""
    before = os.stat(os.path.join(local.root, LOCAL_DIGEST.hex[:2], LOCAL_DIGEST.hex))
    local.quarantine(LOCAL_DIGEST)
    after = os.stat(os.path.join(local.root, ".quarantine", LOCAL_DIGEST.hex))
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, 0)


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EPERM], ids=errno.errorcode.get)
def test_a_quarantine_that_cannot_be_cleared(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """An upload is acknowledged though the damaged file stays in quarantine, whose removal tells why."""
    assert local.quarantine(LOCAL_DIGEST)
    staging = Staging(local)

    def refuse(path: str, **_: int) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "unlink", refuse)
    assert put(staging, DATA).added is Added.CREATED
    assert content(local, LOCAL_DIGEST) == DATA
    with pytest.raises(StoreUnavailable, match="cannot clear the quarantine"):
        local.discard(LOCAL_DIGEST)
    monkeypatch.undo()
    local.discard(LOCAL_DIGEST)


def test_without_locks(local: LocalStore) -> None:
    """Where directories cannot be locked all goes on, but that nothing is moved or replaced."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    staging = Staging(local)
    blob = put(staging, b"another").digest
    asks: list[Callable[[], object]] = [
        lambda: local.quarantine(LOCAL_DIGEST),
        lambda: put(staging, DATA),
        lambda: local.expire(blob, local.stat(blob).modified),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsgi_store.store.disk.shard.fcntl.flock", fail)
        for ask in asks:
            with pytest.raises(StoreUnavailable, match="No locks available"):
                ask()
        assert put(staging, b"another").added is Added.HELD
        local.remove(blob)
    assert not os.listdir(local.staging_directory)
    assert put(staging, DATA).healed


def test_a_lock_that_fails(local: LocalStore) -> None:
    """A disk that fails to lock is not taken for one without locks."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsgi_store.store.disk.shard.fcntl.flock", fail)
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            local.remove(LOCAL_DIGEST)
    assert local.stat(LOCAL_DIGEST)


def test_a_blob_of_another_user(tmp_path: Path) -> None:
    """A held file whose time may not be changed is replaced by one whose time can be told."""
    store = LocalStore(str(tmp_path / "store"), Algorithm.MD5)
    digest = put(Staging(store), DATA).digest
    path = tmp_path / "store" / digest.hex[:2] / digest.hex
    os.utime(path, (1, 1))

    utime = os.utime
    held = path.stat()

    def fail(file: int) -> None:
        if os.path.samestat(os.fstat(file), held):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        utime(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "utime", fail)
        assert put(Staging(store), DATA).added is Added.HELD
    assert store.stat(digest).modified > 1
    assert path.read_bytes() == DATA
    assert not os.listdir(store.staging_directory)


def test_replaced_between_reading_and_moving(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that is healed after its damage was seen and before it is moved stays where it is."""

    def late(path: str) -> None:
        monkeypatch.undo()
        os.mkdir(path)
        assert put(Staging(local), DATA).healed

    monkeypatch.setattr(shard, "make_directory", late)
    with pytest.raises(BlobNotFound):
        local.quarantine(LOCAL_DIGEST)
    assert content(local, LOCAL_DIGEST) == DATA


def test_the_answer(application: Application, api: TestApp, config: Config) -> None:
    """Only the upload that healed a blob says so; in quarantine the blob was not found."""
    told = api.post("/", DATA).json
    assert "healed" not in told
    digest = Algorithm.MD5.parse(told["hash"])
    KINDS[0].damage(Path(config.root), digest, FLIPPED)
    application.store.quarantine(digest)
    assert api.get(told["url"], status=404).json["code"] == "blob_not_found"
    assert api.get("/files").json["files"] == []
    assert api.post("/", DATA).json == told | {"healed": True}
    assert api.post("/", DATA).json == told | {"created": False}
    assert api.get(told["url"]).body == DATA
