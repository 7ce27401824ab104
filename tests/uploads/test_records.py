"""What is written down of an upload, and its hashes, where files are damaged or gone."""

import os
from pathlib import Path

import pytest

from tests.support.kinds import digest_of
from wsgi_store.digest import Algorithm
from wsgi_store.errors import UploadNotFound
from wsgi_store.filesystem import Directory
from wsgi_store.staging import Staging
from wsgi_store.store.open import open_store
from wsgi_store.uploads import following, records
from wsgi_store.uploads.following import HashCache, RunningHash
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.uploads import Uploads

SHA256 = Algorithm.SHA256


def test_what_was_announced_is_damaged_meanwhile(tmp_path: Path) -> None:
    """The upload is removed: nobody knows any more what it is."""
    store = open_store(str(tmp_path / "store"), SHA256, create=True)
    uploads = Uploads(Staging(store), store)
    upload = uploads.create("me", FileInfo(length=5))
    (path,) = (tmp_path / "store" / ".uploads").glob("*/*/upload.json")
    path.write_bytes(b"")
    with pytest.raises(UploadNotFound):
        upload.append([b"12345"], 0)
    assert not path.parent.exists()


def test_a_record_that_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one stays, and no draft is left."""
    with Directory(str(tmp_path)) as folder:
        records.replace("name", b"old", folder.fd, sync=True)

        def fail(*_: object, **__: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
            patch.setattr(os, "rename", fail)
            records.replace("name", b"new", folder.fd, sync=True)
        assert records.read("name", folder.fd) == b"old"
        assert os.listdir(tmp_path) == ["name"]
        assert records.receipt(folder.fd) is None


def test_a_value_that_is_removed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever settled it learns that the upload is gone."""
    with Directory(str(tmp_path)) as folder:
        monkeypatch.setattr(records, "value_of", lambda *_: None)
        with pytest.raises(FileNotFoundError):
            records.settle("name", "value", folder.fd, sync=False)


def test_a_file_that_is_shorter(tmp_path: Path) -> None:
    """A hash never skips bytes that should be there."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    follower = RunningHash([SHA256], [])
    with path.open("rb") as file:
        with pytest.raises(OSError, match="shorter"):
            follower.catch_up(file.fileno(), 6)
        assert follower.position == 5
        follower.catch_up(file.fileno(), 5)
    assert follower.digests() == {SHA256: digest_of(SHA256, b"12345")}


def test_the_hashes_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process keeps those of the uploads that were used last, each for one request at a time."""
    monkeypatch.setattr(following, "KEPT", 2)
    followers = HashCache()
    mine = [RunningHash([SHA256], []) for _ in range(3)]
    for number, one in enumerate(mine):
        followers.keep(b"%d" % number, one)
    assert [followers.take(b"%d" % number) for number in range(3)] == [None, *mine[1:]]
    assert followers.take(b"1") is None
