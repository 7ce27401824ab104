"""A user other than root: a store of theirs, and links that change in it while root is at work."""

import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

NOBODY = 65534
EXCHANGE = 2  # RENAME_EXCHANGE, renameat2(2)
HERE = -100  # AT_FDCWD


@contextmanager
def home(owner: int = NOBODY) -> Iterator[Path]:
    """A new directory that belongs to another user and is accessible to them."""
    if os.geteuid():
        pytest.skip("needs root")
    path = Path(tempfile.mkdtemp(prefix="stranger-"))
    try:
        path.chmod(0o755)
        os.chown(path, owner, owner)
        yield path
    finally:
        shutil.rmtree(path)


def give(path: Path, owner: int = NOBODY) -> None:
    """Give a directory and everything in it to another user."""
    for one in (path, *path.rglob("*")):
        os.chown(one, owner, owner, follow_symlinks=False)


@contextmanager
def exchanging(*pairs: tuple[Path, Path]) -> Iterator[None]:
    """Let another user keep exchanging the two paths of each pair."""
    process = get_context("fork").Process(target=_exchange, args=(pairs,))
    process.start()
    try:
        yield
        assert process.is_alive()
    finally:
        process.terminate()
        process.join()


def _exchange(pairs: tuple[tuple[Path, Path], ...]) -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    rename = ctypes.CDLL(None).renameat2
    names = [(os.fsencode(one), os.fsencode(other)) for one, other in pairs]
    while True:
        for one, other in names:
            rename(HERE, one, HERE, other, EXCHANGE)


def snapshot(path: Path) -> dict[str, tuple[int, ...] | bytes]:
    """The state of a directory: names, owners, modes, link counts, contents."""
    found: dict[str, tuple[int, ...] | bytes] = {}
    for one in (path, *sorted(path.rglob("*"))):
        status = one.lstat()
        found[f"{one} is"] = (status.st_uid, status.st_gid, status.st_mode, status.st_nlink)
        if stat.S_ISREG(status.st_mode):
            found[f"{one} has"] = one.read_bytes()
        with suppress(OSError):
            found[f"{one} leads to"] = os.fsencode(os.readlink(one))
    return found
