"""Folders that come back from trees and blobs."""

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.restoring import (
    TIME,
    File,
    Folder,
    Link,
    Thing,
    as_other_user,
    expected,
    failures,
    found,
    put_tree,
    restored,
    tree_of,
)
from tests.support.strangers import home
from wsgi_store.client import Client
from wsgi_store.client.tree import files, order
from wsgi_store.client.tree.restored import Restored
from wsgi_store.errors import BlobNotFound, MalformedTree

LARGE = random.Random(17).randbytes(files.SMALL + 1)
THINGS: dict[str, Thing] = {
    "a b": File(b"blank", 0o600),
    "empty": File(),
    "sub/empty too": File(mode=0o444),
    "large": File(LARGE, 0o755, -1),
    "sub/large": File(LARGE),
    "sub/deep/same": File(b"blank", 0o640, TIME + 1),
    "sub/deep/line\nbreak \x1b[31m": File(b"escapes"),
    "sub/deep/\udcff": File(b"no UTF-8"),
    "sub/deep/up": Link("../../a b"),
    "sub/dangling": Link("nowhere/at all"),
    "loop": Link("loop"),
    "\udcfe link": Link("\udcff"),
    "none": Folder(0o700),
    "read-only": Folder(0o555),
    "read-only/closed": Folder(0),
    "read-only/closed/file": File(b"inside", 0),
}


@pytest.fixture(name="tree")
def fixture_tree(client: Client) -> str:
    """A tree of everything."""
    return put_tree(client, THINGS)


@pytest.fixture(name="place", params=["root", "user"])
def fixture_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory for the restored ones: as whoever runs the test, and as an ordinary user."""
    if request.param == "root":
        yield tmp_path
    else:
        with home() as path:
            yield path


def restore(server_port: int, tree: str, directory: Path) -> None:
    """Restore as the owner of the directory around; all of it has to succeed."""

    def act() -> None:
        with Client(f"http://127.0.0.1:{server_port}/") as client:
            assert not failures(restored(client, tree, directory))

    if directory.parent.stat().st_uid == os.geteuid():
        act()
    else:
        as_other_user(act)


def test_everything_comes_back(client: Client, tree: str, place: Path) -> None:
    """Contents, modes, times and links come back, and read-only directories do not stop a second restore."""
    port = int(client.url("").rsplit(":", 1)[1].strip("/"))
    target = place / "target"
    for _ in range(2):
        restore(port, tree, target)
        assert found(target) == expected(THINGS)
    # In a read-only directory too, a changed file is replaced, and a lost one comes back.
    closed = target / "read-only/closed"
    closed.chmod(0o700)
    (closed / "file").chmod(0o600)
    (closed / "file").write_bytes(b"INSIDE")
    closed.chmod(0)
    (target / "sub/deep/same").unlink()
    target.chmod(0o555)
    restore(port, tree, target)
    assert found(target) == expected(THINGS)


def test_what_is_told(client: Client, tree: str, tmp_path: Path) -> None:
    """Each entry is told once, with whether it was written; progress reaches the size of all files."""
    told: list[tuple[int, int]] = []
    first = list(client.get_tree(tree, tmp_path / "new", progress=lambda *numbers: told.append(numbers)))
    assert sorted(one.entry.path for one in first) == sorted([".", "sub", "sub/deep", *THINGS])
    assert all(one.written and one.error is None for one in first)
    total = sum(len(thing.data) for thing in THINGS.values() if isinstance(thing, File))
    assert told[-1] == (total, total)
    told.clear()
    again = list(client.get_tree(tree, tmp_path / "new", progress=lambda *numbers: told.append(numbers)))
    assert len(again) == len(first)
    assert not [one for one in again if one.written or one.error]
    assert told[-1] == (total, total)


def test_a_directory_with_other_files(client: Client, tmp_path: Path) -> None:
    """Equal files stay, other ones are replaced, and what the tree does not name stays."""
    tree = put_tree(
        client, {"same": File(b"same"), "other": File(b"new"), "link": Link("same"), "was": File(b"x")}
    )
    (tmp_path / "same").write_bytes(b"same")
    same = (tmp_path / "same").stat()
    (tmp_path / "other").write_bytes(b"old")
    (tmp_path / "extra").write_bytes(b"extra")
    (tmp_path / "link").write_bytes(b"a file where a link belongs")
    (tmp_path / "was").symlink_to("extra")
    outcome = restored(client, tree, tmp_path)
    assert {path: one.written for path, one in outcome.items()} == {
        ".": False,
        "same": False,
        "other": True,
        "link": True,
        "was": True,
    }
    assert found(tmp_path) == {
        ".": (0o755,),
        "same": (b"same", 0o644, TIME),
        "other": (b"new", 0o644, TIME),
        "link": ("same",),
        "was": (b"x", 0o644, TIME),
        "extra": (b"extra", 0o644, (tmp_path / "extra").stat().st_mtime_ns),
    }
    assert (tmp_path / "same").stat().st_ino == same.st_ino


def test_a_file_with_other_names(client: Client, tmp_path: Path) -> None:
    """A file that has another name, maybe elsewhere, keeps its mode and time; a new one takes its place."""
    tree = put_tree(client, {"target/file": File(b"same", 0o666)})
    (tmp_path / "target").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"same")
    elsewhere.chmod(0o600)
    before = elsewhere.stat()
    os.link(elsewhere, tmp_path / "target/file")
    assert restored(client, tree, tmp_path)["target/file"].written
    after = elsewhere.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert stat.S_IMODE((tmp_path / "target/file").stat().st_mode) == 0o666


def test_what_is_in_the_way(client: Client, tmp_path: Path) -> None:
    """Nothing is deleted for an entry of another kind; the rest is restored."""
    tree = put_tree(
        client,
        {
            "directory/file": File(b"1"),
            "behind/link/file": File(b"2"),
            "file": File(b"3"),
            "link": Link("file"),
            "pipe": File(b"4"),
            "good": File(b"5"),
        },
    )
    (tmp_path / "directory").write_bytes(b"a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "behind").mkdir()
    (tmp_path / "behind/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file/full").mkdir(parents=True)
    (tmp_path / "link").mkdir()
    os.mkfifo(tmp_path / "pipe")
    outcome = restored(client, tree, tmp_path)
    assert failures(outcome) == {
        "directory": "[Errno 20] Not a directory: b'directory'",
        "behind/link": "[Errno 20] Not a directory: b'link'",
        "file": "[Errno 17] a directory is in the way",
        "link": "[Errno 17] a directory is in the way",
        "pipe": "[Errno 17] something that is no file is in the way",
    }
    assert outcome["good"].written
    assert sorted(os.listdir(tmp_path)) == [
        "behind",
        "directory",
        "elsewhere",
        "file",
        "good",
        "link",
        "pipe",
    ]
    assert not os.listdir(tmp_path / "elsewhere") and not os.listdir(tmp_path / "link")


def test_blobs_that_are_missing(client: Client, tmp_path: Path) -> None:
    """A file whose blob is missing, or has another size than the tree says, fails alone."""
    tree = put_tree(
        client,
        {
            "small": File(b"a", size=5),
            "smaller": File(LARGE, size=7),
            "larger": File(b"b", size=files.SMALL + 1),
            "large": File(LARGE, size=len(LARGE) + 1),
            "empty": File(b"c", size=0),
            "good": File(b"a"),
            "good too": File(LARGE),
        },
    )
    gone = put_tree(client, {"gone": File(b"gone"), "gone too": File(LARGE + b"gone"), "good": File(b"a")})
    for data in (b"gone", LARGE + b"gone"):
        client.delete(client.put(data).hash)
    outcome = restored(client, tree, tmp_path / "sizes")
    assert failures(outcome).keys() == {"small", "smaller", "larger", "large", "empty"}
    outcome = restored(client, gone, tmp_path / "gone")
    assert failures(outcome).keys() == {"gone", "gone too"}
    assert isinstance(outcome["gone"].error, BlobNotFound)
    assert os.listdir(tmp_path / "gone") == ["good"]


def test_what_is_no_tree(client: Client, tmp_path: Path) -> None:
    """Without a valid tree nothing is made, not even the directory; what is there stays."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    for tree in (LARGE, b"#mtree\n", tree_of({"a": File(b"a")}) + b"./../b type=dir mode=0755\n"):
        hash_ = client.put(tree).hash
        for name in ("there", "new"):
            with pytest.raises(MalformedTree):
                restored(client, hash_, tmp_path / name)
    with pytest.raises(BlobNotFound):
        restored(client, "0" * 64, tmp_path / "new")
    with pytest.raises(FileNotFoundError):
        restored(client, "0" * 64, tmp_path / "no/new")
    with pytest.raises(NotADirectoryError):
        restored(client, "0" * 64, tmp_path / "there/file")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["there", "there/file"]


def test_more_files_than_are_sorted_in_memory(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are sorted through temporary files, and blobs of many files are fetched in parts."""
    monkeypatch.setattr(order, "MOST", 7)
    monkeypatch.setattr(files, "MOST", 5)
    monkeypatch.setattr(files, "MOST_BYTES", 50)
    things: dict[str, Thing] = {
        f"{number % 4}/{number}": File(b"%d" % (number % 30) * 9) for number in range(60)
    }
    things |= {f"same/{number}": File(b"same") for number in range(20)}
    things |= {"large/1": File(LARGE), "large/2": File(LARGE), "\udcff": File(b"1")}
    assert not failures(restored(client, put_tree(client, things), tmp_path / "new"))
    assert found(tmp_path / "new") == expected(things)


def test_an_end_in_the_middle(client: Client, tree: str, tmp_path: Path) -> None:
    """A restore that is stopped goes on in the next one, and leaves nothing beside the files then."""
    seen: list[Restored] = []
    for one in client.get_tree(tree, tmp_path / "new"):
        seen.append(one)
        if len(seen) == 4:
            break
    assert f".{tree}.part" in os.listdir(tmp_path / "new")
    outcome = restored(client, tree, tmp_path / "new")
    assert [outcome[one.entry.path].written for one in seen] == [False] * 4
    assert found(tmp_path / "new") == expected(THINGS)


def test_two_restores_of_one_tree(client: Client, tree: str, tmp_path: Path) -> None:
    """The second one is told about the first one, and does it no harm; another tree may be restored."""
    first = client.get_tree(tree, tmp_path / "new")
    next(first)
    with pytest.raises(BlockingIOError, match=f"another process is restoring this tree: '.*/.{tree}.part'"):
        restored(client, tree, tmp_path / "new")
    other = put_tree(client, {"other": File(b"other")})
    assert not failures(restored(client, other, tmp_path / "new"))
    assert not [one for one in first if one.error]
    assert found(tmp_path / "new") == {**expected(THINGS), "other": (b"other", 0o644, TIME)}
