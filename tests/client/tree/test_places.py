"""Paths below a directory that other people may write to."""

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.restoring import as_other_user
from tests.support.strangers import give, home
from wsgi_store.client.tree.places import LONGEST, Places


@pytest.mark.parametrize(
    "path",
    [
        b"..",
        b"../x",
        b"a/../../x",
        b"a/..",
        b"a/./x",
        b"a//x",
        b"/etc/x",
        b"a/",
        b"",
        b"link/x",
        b"link/../x",
    ],
)
def test_paths_that_lead_elsewhere(path: bytes, tmp_path: Path) -> None:
    """A path with `..`, an absolute one, or one through a link is refused by every step."""
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    (top / "link").symlink_to(tmp_path)
    staged = top / "staged"
    staged.touch()
    part = os.open(top, os.O_RDONLY)
    try:
        with Places(str(top)) as places:
            for step in (
                lambda: places.around(path),
                lambda: places.make(path),
                lambda: places.look(path),
                lambda: places.target(path),
                lambda: places.place("staged", part, path),
                lambda: places.set_mode(path, 0o700),
            ):
                with pytest.raises(OSError, match=r"not the name of a file|Not a directory"):
                    step()
    finally:
        os.close(part)
    assert staged.exists()
    assert sorted(os.listdir(tmp_path)) == ["top", "x"]
    assert not os.listdir(tmp_path / "x")


def test_a_path_that_no_call_takes(tmp_path: Path) -> None:
    """A path that is too long for its file to be opened by it is refused at once."""
    with Places(str(tmp_path)) as places, pytest.raises(OSError, match="name too long"):
        places.look(b"a/" * (LONGEST // 2) + b"aa")


@contextmanager
def few_files(number: int) -> Iterator[None]:
    """Allow only so many open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_directories_than_may_be_open(tmp_path: Path) -> None:
    """Of many and of deep directories only some stay open."""
    open_before = len(os.listdir("/proc/self/fd"))
    deep = b"/".join([b"d"] * 300)
    with few_files(200), Places(str(tmp_path)) as places:
        for depth in range(1, 301):
            places.make(b"/".join([b"d"] * depth))
        for number in range(300):
            places.make(b"%d" % number)
            assert places.is_new(b"%d" % number)
        assert len(os.listdir("/proc/self/fd")) <= open_before + 52
        assert stat.S_ISDIR(os.fstat(places.within(deep)).st_mode)
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_rights_that_are_missing() -> None:
    """The owner of a directory gets the rights that a step takes; others get an error, and no right."""
    with home() as top:
        (top / "theirs").mkdir()
        (top / "mine").mkdir()
        give(top / "theirs")
        (top / "mine").chmod(0o755)

        def act() -> None:
            (top / "theirs").chmod(0)
            with Places(str(top)) as places:
                places.make(b"theirs/new")
                assert places.look(b"theirs/none") is None
                with pytest.raises(PermissionError):
                    places.make(b"mine/new")
                with pytest.raises(PermissionError):
                    places.set_mode(b"mine", 0o777)
                places.set_mode(b"mine", 0o755)
                places.set_mode(b"theirs", 0o500)

        as_other_user(act)
        assert stat.S_IMODE((top / "theirs").stat().st_mode) == 0o500
        assert os.listdir(top / "theirs") == ["new"]
        assert not os.listdir(top / "mine")


def test_other_bits_of_a_directory(tmp_path: Path) -> None:
    """The setgid bit, which a directory inherits, stays; a new directory is closed to others."""
    tmp_path.chmod(0o2755)
    with Places(str(tmp_path)) as places:
        places.make(b"new")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o2700
        places.set_mode(b"new", 0o750)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o2750
