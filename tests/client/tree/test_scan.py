"""The walk of a folder for its tree."""

import errno
import logging
import os
import random
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from wsgi_store.client.tree.entry import Entry, Kind, place
from wsgi_store.client.tree.exclude import Excluded
from wsgi_store.client.tree.scan import FoundFile, scan
from wsgi_store.filesystem import NoFile, Root

NAMES = [b"a", b"a b", b"a-b", b"line\nbreak", b"\xff\xfe", "ä".encode(), b"#=\\*?[", b"-rf", b"...", b" "]


@contextmanager
def walking(top: Path, exclude: Iterable[str] = ()) -> Iterator[Iterator[Entry | FoundFile]]:
    """Walk a folder."""
    with Root(str(top)) as opened, closing(scan(opened.fd, str(top), Excluded(exclude))) as walk:
        yield walk


def walked(top: Path, exclude: Iterable[str] = ()) -> list[tuple[str, object]]:
    """The paths in a folder, each with what it is; of files the bytes."""
    found: list[tuple[str, object]] = []
    with walking(top, exclude) as walk:
        for one in walk:
            if isinstance(one, FoundFile):
                with open(one.open(), "rb") as file, open(one.open_again(), "rb") as again:
                    assert os.path.samestat(os.fstat(file.fileno()), os.fstat(again.fileno()))
                    found.append((one.path, file.read()))
            else:
                found.append((one.path, one.target or one.mode))
    return found


def fill(top: Path, names: Iterable[bytes]) -> None:
    """Make directories that have files and links, in this order."""
    for name in names:
        directory = os.path.join(os.fsencode(top), name)
        os.mkdir(directory)
        for inner in names:
            path = os.path.join(directory, inner)
            if inner == b"a":
                os.symlink(name, path)
            else:
                with open(path, "wb") as file:
                    file.write(name + inner)
        os.chmod(directory, 0o750)


def test_the_order_of_creation_does_not_matter(tmp_path: Path) -> None:
    """Folders with the same content are walked alike, in the order of a tree."""
    shuffled = random.Random(5).sample(NAMES, len(NAMES))
    for number, names in enumerate((NAMES, shuffled)):
        (tmp_path / str(number)).mkdir(mode=0o755)
        fill(tmp_path / str(number), names)
    first, second = walked(tmp_path / "0"), walked(tmp_path / "1")
    assert first == second
    paths = [path for path, _ in first]
    assert paths == sorted(paths, key=place)
    assert len(paths) == 1 + len(NAMES) + len(NAMES) ** 2
    assert dict(first)["\udcff\udcfe/a"] == "\udcff\udcfe"
    assert dict(first)["a b/\udcff\udcfe"] == b"a b\xff\xfe"
    assert dict(first)["a b"] == 0o750


def test_permissions_alone(tmp_path: Path) -> None:
    """Bits beyond the permissions are left out."""
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o3775)
    assert dict(walked(tmp_path))["sticky"] == 0o775


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Links to directories and files, and links that lead nowhere, come as they are; the top may be one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "up").symlink_to("..")
    (tmp_path / "real" / "nowhere").symlink_to(b"/\xff\n".decode("utf-8", "surrogateescape"))
    (tmp_path / "top").symlink_to("real")
    assert walked(tmp_path / "top")[1:] == [("nowhere", "/\udcff\n"), ("up", "..")]


def test_special_files_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pipes and sockets are left out, and each is logged."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with caplog.at_level(logging.WARNING):
            assert [path for path, _ in walked(tmp_path)] == ["."]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        str(tmp_path / "pipe"),
        str(tmp_path / "socket"),
    ]


def test_exclusion(tmp_path: Path) -> None:
    """What is excluded is left out with all that is below it, links too."""
    for path in ("cache/a", "b/cache/c", "b/keep", "b/x.pyc", "d/b/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "l.pyc").symlink_to("b")
    assert [path for path, _ in walked(tmp_path, ["cache/", "*.pyc", "d/b"])] == [".", "b", "b/keep", "d"]


@pytest.mark.parametrize("name", ["dir", "file", "link"])
def test_what_vanishes_is_an_error(tmp_path: Path, name: str) -> None:
    """A file, link or directory that is removed after it was listed is an error with its path."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with walking(tmp_path) as walk:
        assert isinstance(next(walk), Entry)
        (tmp_path / name).rename(tmp_path / "moved")
        with pytest.raises(FileNotFoundError) as caught:
            for one in walk:
                if isinstance(one, FoundFile):
                    os.close(one.open())
    assert caught.value.filename == str(tmp_path / name)
    assert name in str(caught.value)


def test_what_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    """A directory or file in whose place somebody puts a link is an error, and nothing else is read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"secret")
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "a" / "f").touch()
    with walking(top) as walk:
        assert isinstance(next(walk), Entry)
        (top / "a").rename(top / "moved")
        (top / "a").symlink_to(outside)
        with pytest.raises(OSError) as caught:
            next(walk)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOTDIR, str(top / "a"))


def test_a_file_is_opened_through_no_link(tmp_path: Path) -> None:
    """While the walk stands at a file it is found wherever it was moved to; later no link leads there."""
    (tmp_path / "outside").write_bytes(b"secret")
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "a" / "outside").touch()
    with walking(top) as walk:
        file = [next(walk) for _ in range(3)][-1]
        assert isinstance(file, FoundFile)
        (top / "a").rename(top / "moved")
        (top / "a").symlink_to(tmp_path)
        with open(file.open(), "rb") as opened:
            assert opened.read() == b""
        with pytest.raises(NotADirectoryError):
            file.open_again()
        (top / "moved" / "outside").unlink()
        (top / "moved" / "outside").symlink_to(tmp_path / "outside")
        with pytest.raises(OSError) as caught:
            file.open()
        assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(top / "a" / "outside"))
        (top / "moved" / "outside").unlink()
        os.mkfifo(top / "moved" / "outside")
        with pytest.raises(NoFile):
            file.open()


def test_descriptors(tmp_path: Path) -> None:
    """A walk holds as many descriptors as it is deep, and closes them wherever it is left."""
    (tmp_path / "a/b/c/d").mkdir(parents=True)
    (tmp_path / "a/b/c/d/f").touch()
    before = os.listdir("/proc/self/fd")
    with walking(tmp_path) as walk:
        kinds = [one.kind if isinstance(one, Entry) else None for one in (next(walk) for _ in range(6))]
        assert kinds == [Kind.DIRECTORY] * 5 + [None]
        assert len(os.listdir("/proc/self/fd")) == len(before) + 6
    assert os.listdir("/proc/self/fd") == before
    assert len(walked(tmp_path)) == 6
    assert os.listdir("/proc/self/fd") == before
