"""Staged files have no names where the file system supports that, and names elsewhere."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import run, unmount
from tests.support.kinds import KINDS, BucketKind, LocalKind, content, put, refusing_nameless
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.store.disk.store import LocalStore

DATA = b"some bytes"
# Errors from NFS, FUSE, overlayfs and containers without /proc.
REFUSALS = [errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.EXDEV, errno.EPERM]


def stages_nameless(staging: Staging, store: Store) -> bool:
    """Whether a file has no name while it is received."""
    names: list[str] = []

    def chunks() -> Iterator[bytes]:
        yield DATA
        names.extend(os.listdir(store.staging_directory))

    digest = staging.receive(chunks()).digest
    assert content(store, digest) == DATA
    assert not os.listdir(store.staging_directory)
    return not names


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_staged_file_has_a_name_only_where_it_must(tmp_path: Path, kind: LocalKind) -> None:
    """A staged file has no name where the file system can link nameless files."""
    store = kind.open(tmp_path, Algorithm.MD5)
    assert stages_nameless(kind.staging(store), store) is kind.nameless


@pytest.mark.parametrize("code", REFUSALS, ids=errno.errorcode.get)
def test_a_file_system_without_nameless_files(tmp_path: Path, code: int) -> None:
    """Files are staged with names where nameless files cannot be created."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    with refusing_nameless(code):
        staging = Staging(store)
        assert not stages_nameless(staging, store)


@pytest.mark.parametrize("code", REFUSALS, ids=errno.errorcode.get)
def test_a_file_system_that_does_not_link_nameless_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Files are staged with names where nameless files cannot be linked or /proc is not mounted."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    link = os.link

    def refuse(source: str, target: str, **options: int) -> None:
        if source.startswith("/proc/"):
            raise OSError(code, os.strerror(code), source)
        link(source, target, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", refuse)
    assert not stages_nameless(Staging(store), store)


def test_a_disk_that_could_not_be_asked_at_first(tmp_path: Path) -> None:
    """If a disk error prevented the test for nameless files, the test is repeated later."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    with refusing_nameless(errno.EROFS):
        staging = Staging(store)
        with pytest.raises(StoreUnavailable, match="Read-only"):
            staging.check()
    with refusing_nameless(errno.EOPNOTSUPP):
        assert not stages_nameless(staging, store)


def test_a_disk_that_cannot_hold_a_store_after_all(tmp_path: Path) -> None:
    """A disk that could not be written at first and cannot rename files takes no upload, and says why."""
    if os.geteuid():
        pytest.skip("needs root")
    source, target = tmp_path / "source", tmp_path / "target"
    LocalStore(str(source / "store"), Algorithm.MD5)
    target.mkdir()
    run("bindfs", "-r", str(source), str(target))
    try:
        store = LocalStore(str(target / "store"), Algorithm.MD5)
        staging = Staging(store)
        with pytest.raises(StoreUnavailable, match="Read-only file system"):
            put(staging, DATA)
    finally:
        unmount(target)
    run("bindfs", "--rename-deny", str(source), str(target))
    try:
        for ask in (lambda: put(staging, DATA), staging.check):
            with pytest.raises(StoreUnavailable, match="^the store cannot be used$") as caught:
                ask()
            assert "its file system cannot rename files" in str(caught.value.__cause__)
    finally:
        unmount(target)
    assert not os.listdir(source / "store" / ".staging")
    assert put(Staging(LocalStore(str(source / "store"), Algorithm.MD5)), DATA).created


def test_uploads_to_a_bucket_from_a_disk_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any disk can stage files for a bucket, because they are neither linked nor renamed."""
    store = BucketKind().open(tmp_path / "store", Algorithm.MD5)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    for name in ("link", "rename", "symlink"):
        monkeypatch.setattr(os, name, refuse)
    with refusing_nameless(errno.EOPNOTSUPP):
        assert not stages_nameless(Staging(store), store)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EMFILE], ids=errno.errorcode.get)
def test_a_disk_that_is_full_when_the_server_starts(tmp_path: Path, code: int) -> None:
    """Errors unrelated to nameless files do not disable them."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    with refusing_nameless(code):
        staging = Staging(store)
    assert stages_nameless(staging, store)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT], ids=errno.errorcode.get)
def test_a_staged_name_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A blob stays published when its staged name cannot be removed."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    with refusing_nameless(errno.EOPNOTSUPP):
        staging = Staging(store)

    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{dir_fd}") == store.staging_directory:
            raise OSError(code, os.strerror(code), path)
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    receipt = put(staging, DATA)
    assert receipt.created
    assert content(store, receipt.digest) == DATA
    assert len(os.listdir(store.staging_directory)) == 1
