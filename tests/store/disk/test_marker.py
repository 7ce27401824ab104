"""The marker of a store says how a directory is opened."""

import errno
import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.crossing import crossed
from tests.support.kinds import put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StorageFull, StoreUnavailable, WrongStore
from wsgi_store.staging import Staging
from wsgi_store.store.disk import marker as markers
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.marker import Marker
from wsgi_store.store.open import open_store


def test_the_marker(tmp_path: Path) -> None:
    """A new store records its algorithm and layout in one line of JSON."""
    LocalStore(str(tmp_path / "store"), Algorithm.SHA256)
    text = (tmp_path / "store" / "store.json").read_text()
    assert json.loads(text) == {"algorithm": "sha256", "layout": "ab/abcdef"}
    assert text.count("\n") == 1
    assert sorted(os.listdir(tmp_path / "store")) == [".staging", "store.json"]


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    """A store opened again keeps its marker, and recreates a missing staging directory."""
    LocalStore(str(tmp_path), Algorithm.MD5)
    before = (tmp_path / "store.json").stat()
    (tmp_path / ".staging").rmdir()
    assert put(Staging(LocalStore(str(tmp_path), Algorithm.MD5)), b"bytes").created
    assert (tmp_path / "store.json").stat() == before


def test_another_algorithm(tmp_path: Path) -> None:
    """Opening a store with another algorithm fails with advice what to do."""
    put(Staging(LocalStore(str(tmp_path), Algorithm.MD5)), b"bytes")
    with pytest.raises(WrongStore) as caught:
        LocalStore(str(tmp_path), Algorithm.SHA256)
    assert str(caught.value) == (
        f"{tmp_path} holds md5 digests, not sha256: "
        "set WSGI_STORE_HASH=md5, or WSGI_STORE_ROOT to another place, "
        "or run `wsgi-store migrate --to sha256`"
    )


def test_a_store_of_blake3_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose hashes cannot be computed is refused with what to install."""
    LocalStore(str(tmp_path), Algorithm.BLAKE3)
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(
        WrongStore, match=f"^{tmp_path}/store.json: blake3 needs the package blake3: install the extra "
    ):
        open_store(str(tmp_path))


@pytest.mark.parametrize(
    "marker",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"md5"',
        b"{}",
        b'{"algorithm": "md5"}',
        b'{"layout": "ab/abcdef"}',
        b'{"algorithm": "crc32", "layout": "ab/abcdef"}',
        b'{"algorithm": ["md5"], "layout": "ab/abcdef"}',
        b"\xff\xfe\xfd not UTF-8",
        b"\0" * 20,
        b"[" * 100_000,
        b'{"algorithm": "sha256", "layout": "ab/abcdef+names"}',
        b'{"algorithm": "sha256", "layout": "ab/abcdef+names", "names": []}',
        b'{"algorithm": "sha256", "layout": "ab/abcdef+names", "names": "md5"}',
        b'{"algorithm": "sha256", "layout": "ab/abcdef+names", "names": ["crc32"]}',
        b'{"algorithm": "sha256", "layout": "ab/abcdef+names", "names": ["md5"], "migrating": "sha1"}',
        b'{"algorithm": "sha256", "layout": "ab/abcdef+names", "names": ["md5"], "made": "today"}',
    ],
    ids=lambda marker: repr(marker[-30:]),
)
def test_a_garbled_marker(tmp_path: Path, marker: bytes) -> None:
    """A directory with an unreadable marker is refused and left unchanged."""
    (tmp_path / "store.json").write_bytes(marker)
    with pytest.raises(WrongStore, match=r"/store\.json is not a valid store marker"):
        LocalStore(str(tmp_path), Algorithm.MD5)
    assert (tmp_path / "store.json").read_bytes() == marker
    assert os.listdir(tmp_path) == ["store.json"]


def test_another_layout(tmp_path: Path) -> None:
    """A store with an unknown layout is refused."""
    (tmp_path / "store.json").write_text('{"algorithm": "md5", "layout": "ab/cd/abcdef"}')
    with pytest.raises(WrongStore, match=r"has the layout 'ab/cd/abcdef', which"):
        LocalStore(str(tmp_path), Algorithm.MD5)


def test_files_of_another_algorithm_without_a_marker(tmp_path: Path) -> None:
    """Files named by another algorithm are refused with advice what to do, and nothing is created."""
    name = "ab" + "0" * 62
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / name).write_bytes(b"")
    with pytest.raises(WrongStore) as caught:
        LocalStore(str(tmp_path), Algorithm.MD5)
    assert str(caught.value) == (
        f"{tmp_path} has no store.json and holds ab/{name}, which is not a md5 digest: "
        "set WSGI_STORE_HASH to the algorithm of its files, or WSGI_STORE_ROOT to another place"
    )
    assert os.listdir(tmp_path) == ["ab"]


def test_files_of_the_same_algorithm_without_a_marker(tmp_path: Path) -> None:
    """A directory of files copied without the marker becomes a store of them."""
    put(Staging(LocalStore(str(tmp_path), Algorithm.MD5)), b"bytes")
    (tmp_path / "store.json").unlink()
    (tmp_path / "ff").mkdir(exist_ok=True)
    assert len(list(LocalStore(str(tmp_path), Algorithm.MD5).iterate())) == 1


@pytest.mark.parametrize("name", ["a file", "a file/store"])
def test_a_root_that_cannot_be_a_directory(tmp_path: Path, name: str) -> None:
    """Opening a root that is a file, or is below one, fails with an error that names the root."""
    (tmp_path / "a file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=f"^cannot open the store {tmp_path / name}: "):
        LocalStore(str(tmp_path / name), Algorithm.MD5)


def test_another_server_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another process makes the marker first, that marker counts."""
    link = os.link

    def late(*names: str, **options: Any) -> None:
        monkeypatch.setattr(os, "link", link)
        LocalStore(str(tmp_path), Algorithm.SHA256)
        link(*names, **options)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(WrongStore, match="holds sha256 digests"):
        LocalStore(str(tmp_path), Algorithm.MD5)
    assert not os.listdir(tmp_path / ".staging")


def test_no_room_for_a_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed attempt to make a marker leaves no draft, and can be repeated."""

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(StorageFull):
        patch.setattr(os, "fsync", fail)
        LocalStore(str(tmp_path), Algorithm.MD5)
    assert not os.listdir(tmp_path)
    LocalStore(str(tmp_path), Algorithm.SHA1)


def test_a_marker_that_is_removed_while_it_is_made(tmp_path: Path) -> None:
    """A directory whose new marker is removed at once is not opened; the next start makes another one."""
    marker = tmp_path / "store.json"
    with crossed(os, "unlink", lambda *_: marker.exists(), marker.unlink) as seen:
        with pytest.raises(StoreUnavailable, match="the marker was removed while the store was created"):
            LocalStore(str(tmp_path), Algorithm.MD5)
    assert seen
    LocalStore(str(tmp_path), Algorithm.SHA1)


def test_a_store_without_its_staging_directory(tmp_path: Path) -> None:
    """A removal needs no upload before it to make the staging directory, which a copy may lack."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    digest = put(Staging(store), b"bytes").digest
    (tmp_path / ".staging").rmdir()
    store.remove(digest)
    assert not list(store.iterate())
    assert (tmp_path / ".staging").is_dir()


def change(store: LocalStore) -> Marker:
    """Begin a migration to sha256."""
    return store.change_marker(lambda _: Marker(Algorithm.SHA256, (Algorithm.MD5,)))


def test_two_changes_of_the_marker(tmp_path: Path) -> None:
    """A change whose gate another one has just removed closes a gate of its own, so that writes wait."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    gate = tmp_path / markers.GATE

    def end_another() -> None:
        change(LocalStore(str(tmp_path), Algorithm.MD5))
        assert not gate.exists()

    def closing(fd: int, _: int) -> bool:
        return os.readlink(f"/proc/self/fd/{fd}") == str(gate)

    gates = []
    with crossed(fcntl, "flock", closing, end_another) as seen:
        store.change_marker(lambda marker: gates.append(gate.exists()) or marker)
    assert seen
    assert gates == [True]
    assert not gate.exists()
    assert store.algorithms == (Algorithm.SHA256, Algorithm.MD5)


def test_a_lock_that_fails(tmp_path: Path) -> None:
    """A change that cannot lock leaves the marker as it is, and no gate at which writes would wait."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    before = (tmp_path / "store.json").read_bytes()
    fail = OSError(errno.EIO, os.strerror(errno.EIO))
    with mock.patch.object(fcntl, "flock", side_effect=fail):
        with pytest.raises(StoreUnavailable, match="cannot change the store's marker: Input/output error"):
            change(store)
    assert (tmp_path / "store.json").read_bytes() == before
    assert change(store).algorithm is Algorithm.SHA256
    assert not (tmp_path / markers.GATE).exists()


def test_further_names_without_locks(tmp_path: Path) -> None:
    """A store with further names is not made where nothing can be locked, and one without them is."""
    root = tmp_path / "store"
    lacking = OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    with mock.patch.object(fcntl, "flock", side_effect=lacking):
        with pytest.raises(WrongStore, match=r"with further names: its file system has no locks \(flock"):
            LocalStore(str(root), Algorithm.SHA256, names=[Algorithm.MD5])
        assert not root.exists()
        assert put(Staging(LocalStore(str(root), Algorithm.SHA256)), b"bytes").created
