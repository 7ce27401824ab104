"""The marker of a store says how a directory is opened."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.kinds import put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StorageFull, StoreUnavailable, WrongStore
from wsgi_store.staging import Staging
from wsgi_store.store.disk.store import LocalStore
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
    ],
    ids=lambda marker: repr(marker[:30]),
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
