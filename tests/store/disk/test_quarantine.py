"""Damaged blobs on a local disk: how they are quarantined, and what a client is told."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from webtest import TestApp

from tests.support.kinds import KINDS, content, digest_of, put
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added
from wsgi_store.store.disk import shard
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.web.application import Application

DATA = b"some bytes"
FLIPPED = b"some bytez"


@pytest.fixture(name="local")
def fixture_local(tmp_path: Path) -> LocalStore:
    """A store on a local disk with a damaged blob."""
    store = LocalStore(str(tmp_path / "store"), Algorithm.MD5)
    KINDS[0].damage(tmp_path / "store", put(Staging(store), DATA).digest, b"")
    return store


LOCAL_DIGEST = digest_of(Algorithm.MD5, DATA)


def test_where_the_bytes_lie(local: LocalStore) -> None:
    """A file in quarantine keeps its bytes, and its name is the hash."""
    before = os.stat(os.path.join(local.root, LOCAL_DIGEST.hex[:2], LOCAL_DIGEST.hex))
    local.quarantine(LOCAL_DIGEST)
    after = os.stat(os.path.join(local.root, ".quarantine", LOCAL_DIGEST.hex))
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, 0)


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EPERM], ids=errno.errorcode.get)
def test_a_quarantine_that_cannot_be_cleared(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """An upload is acknowledged even if the damaged file cannot be removed from quarantine."""
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
    """Where directories cannot be locked, nothing is quarantined, healed or expired, and the rest works."""

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
    """A held file whose time cannot be changed, as one of another user, is replaced by a new one."""
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
        # Its bytes are needed for that.
        assert store.renew(digest, len(DATA)) is None
        assert put(Staging(store), DATA).added is Added.HELD
    assert store.stat(digest).modified > 1
    assert path.read_bytes() == DATA
    assert not os.listdir(store.staging_directory)


def test_replaced_between_reading_and_moving(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that is healed just before it would be moved stays in place."""

    def late(path: str) -> None:
        monkeypatch.undo()
        os.mkdir(path)
        assert put(Staging(local), DATA).healed

    monkeypatch.setattr(shard, "make_directory", late)
    assert not local.quarantine(LOCAL_DIGEST)
    assert content(local, LOCAL_DIGEST) == DATA


def test_the_answer(application: Application, api: TestApp, config: Config) -> None:
    """Only the upload that heals a blob reports it; a quarantined blob is not found."""
    told = api.post("/", DATA).json
    assert "healed" not in told
    digest = application.store.algorithm.parse(told["hash"])
    KINDS[0].damage(Path(config.root), digest, FLIPPED)
    application.store.quarantine(digest)
    assert api.get(told["url"], status=404).json["code"] == "blob_not_found"
    assert api.get("/files").json["files"] == []
    assert api.post("/", DATA).json == told | {"healed": True}
    assert api.post("/", DATA).json == told | {"created": False}
    assert api.get(told["url"]).body == DATA
