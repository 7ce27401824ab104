"""A blob that cannot be examined is named, and verify continues with the others."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.support.cli_service import invoke
from tests.support.kinds import put
from wsgi_store.digest import Algorithm, Digest, parse_any
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.upkeep.ledger import Ledger
from wsgi_store.upkeep.report import Report, Result
from wsgi_store.upkeep.verify import verify
from wsgi_store.web.application import Application

BLOBS = 40


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> Store:
    """A store with some blobs."""
    store = LocalStore(str(tmp_path / "store"), Algorithm.MD5, Durability.NONE)
    staging = Staging(store, durability=Durability.NONE)
    for number in range(BLOBS):
        put(staging, b"%d" % number)
    return store


def fail(monkeypatch: pytest.MonkeyPatch, name: str) -> Digest:
    """Make stat and open fail for a file of this name."""

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if path == name:
                raise OSError(errno.EIO, os.strerror(errno.EIO), name)
            return real(path, *args, **options)

        return call

    for function in "stat", "open":
        monkeypatch.setattr(os, function, failing(getattr(os, function)))
    return parse_any((Algorithm.MD5, Algorithm.SHA256), name)


def damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """Choose a blob and make every system call fail on it."""
    return fail(monkeypatch, sorted(blob.digest.hex for blob in store.iterate())[BLOBS // 2])


def test_listing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing fails with the name of the blob, and can continue after it."""
    held = [blob.digest for blob in store.iterate()]
    bad = damage(store, monkeypatch)
    listed = []
    with pytest.raises(StoreUnavailable, match=f"cannot stat the blob {bad.hex}: Input") as caught:
        for blob in store.iterate():
            listed.append(blob.digest)
    assert caught.value.evidence == {"hash": bad.hex}
    assert [*listed, bad, *(blob.digest for blob in store.iterate(bad))] == held


def test_a_shard_that_cannot_be_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error about a directory that cannot be listed names the directory."""
    assert isinstance(store, LocalStore)
    shard = next(store.iterate()).digest.hex[:2]
    real = os.listdir

    def listdir(fd: int) -> list[str]:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(f"/{shard}"):
            raise PermissionError(13, "Permission denied")
        return real(fd)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(StoreUnavailable, match=f"cannot list {shard} in the store: Permission denied"):
        list(store.iterate())


@pytest.mark.parametrize("budget", [None, 1])
def test_verify(store: Store, monkeypatch: pytest.MonkeyPatch, budget: int | None) -> None:
    """The blob is unreadable, all others are read, and later runs try it again until it is gone."""
    bad = damage(store, monkeypatch)
    report = Report()
    for report in verify(store):
        pass
    assert (report.result, list(report.unreadable)) == (Result.INCOMPLETE, [bad])
    assert (report.checked_blobs, report.total_blobs, report.oldest) == (BLOBS - 1, BLOBS, 0)
    assert Ledger.load(store).unreadable == {bad}
    for report in verify(store, budget=budget):
        pass
    assert (report.result, list(report.unreadable)) == (Result.INCOMPLETE, [bad])
    assert isinstance(store, LocalStore)
    monkeypatch.undo()
    Path(store.root, store.local_path(bad)).unlink()
    for report in verify(store, budget=budget):
        pass
    assert (report.result, report.gone, report.total_blobs) == (Result.CLEAN, 1, BLOBS - 1)
    assert report.oldest == pytest.approx(time.time(), abs=60)


def test_commands(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` names the unreadable and the damaged blob; other commands stop and name the unreadable one."""
    monkeypatch.chdir(tmp_path)
    bad = damage(store, monkeypatch)
    *_, row, said = invoke("verify", status=8).stdout.splitlines()
    assert row == f"unreadable\t{bad.hex}\tcannot open the blob: Input/output error"
    assert said == "incomplete: checked 39 of 40 blobs, 68 bytes of 68 bytes (99.9%), 0 corrupt, 1 unreadable"
    for command in (["du"], ["manifest"], ["collect", "--older", "1d"]):
        assert f"cannot stat the blob {bad.hex}: " in invoke(*command, status=6).stderr
    damaged = tmp_path / "store" / str(store.local_path(next(store.iterate()).digest))
    damaged.chmod(0o644)
    damaged.write_bytes(b"others")
    rows = invoke("verify", status=5).stdout.splitlines()[:2]
    assert sorted(tuple(row.split("\t")[:2]) for row in rows) == [
        ("corrupt", damaged.name),
        ("unreadable", bad.hex),
    ]


def test_the_api(application: Application, api: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page with the blob is an error that names it, and the pages after it work."""
    for number in range(BLOBS):
        api.post("/", b"%d" % number)
    bad = damage(application.store, monkeypatch)
    problem = api.get("/files", status=503).json
    assert (problem["code"], problem["hash"]) == ("store_unavailable", bad.hex)
    assert api.get(f"/files?after={bad.hex}").json["files"]
