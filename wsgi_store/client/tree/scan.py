"""Walks a folder by descriptors: what is below the top stays below it, whatever is renamed meanwhile."""

import logging
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from wsgi_store.client.tree.entry import TOP, Entry, Kind, place, to_text
from wsgi_store.client.tree.exclude import Excluded
from wsgi_store.filesystem import NAME, Directory, open_file

PERMISSIONS = 0o777
# Linux gives links no mode of their own.
LINK_MODE = 0o777
log = logging.getLogger(__name__)


class FoundFile(NamedTuple):
    """A file that the walk found."""

    path: str
    """As in `Entry`."""
    shown: str
    """Its path with that of the top, for messages."""
    name: str
    directory: int
    """A descriptor, open until the walk goes on."""
    top: int
    """A descriptor, open longer than the walk."""

    def __fspath__(self) -> str:
        return self.shown

    def open(self) -> int:
        """Open the file, before the walk goes on; raises OSError, also if it is no file any more."""
        with _naming(self.shown):
            return open_file(self.name, self.directory)[0]

    def open_again(self) -> int:
        """Open the file, wherever the walk is, through no link; raises OSError."""
        with _naming(self.shown), ExitStack() as opened:
            around = self.top
            for directory in place(self.path)[:-1]:
                around = opened.enter_context(Directory(os.fsdecode(directory), NAME, around)).fd
            return open_file(self.name, around)[0]


class _Level(NamedTuple):
    """A directory between the top and where the walk stands."""

    fd: int
    path: bytes
    """Below the top, with a final slash; of the top it is empty."""
    rest: Iterator[tuple[bytes, Kind | None]]
    """The names that the walk has not come to, and what they are."""


def scan(top: int, shown: str, excluded: Excluded) -> Generator[Entry | FoundFile, None, None]:
    """Yield what is in the folder of the descriptor `top`, in the order of a tree; no link is followed.

    Messages begin paths with `shown`. What is neither file, directory nor link is left out and logged.
    Raises OSError with the path for whatever cannot be read, is removed or replaced meanwhile.
    """
    levels: list[_Level] = []
    try:
        with _naming(shown):
            entry = _enter(levels, Directory(".", around=top), b"", TOP)
        yield entry
        while levels:
            level = levels[-1]
            name, kind = next(level.rest, (None, None))
            if name is None:
                os.close(levels.pop().fd)
                continue
            path = to_text(level.path + name)
            if excluded(path, is_directory=kind is Kind.DIRECTORY):
                continue
            here = os.path.join(shown, path)
            if kind is Kind.FILE:
                yield FoundFile(path, here, os.fsdecode(name), level.fd, top)
            elif kind is Kind.LINK:
                with _naming(here):
                    target = os.readlink(name, dir_fd=level.fd)
                yield Entry(path, Kind.LINK, LINK_MODE, target=to_text(target))
            elif kind is Kind.DIRECTORY:
                with _naming(here):
                    directory = Directory(os.fsdecode(name), around=level.fd)
                    entry = _enter(levels, directory, level.path + name + b"/", path)
                yield entry
            else:
                log.warning("%s: neither a file, a directory nor a link: the tree leaves it out", here)
    finally:
        for level in levels:
            os.close(level.fd)


def _enter(levels: list[_Level], directory: Directory, below: bytes, path: str) -> Entry:
    """Begin the walk of a directory."""
    # First of all, so that it is closed whatever happens.
    levels.append(_Level(directory.fd, below, iter(())))
    levels[-1] = levels[-1]._replace(rest=iter(_names(directory.fd)))
    return Entry(path, Kind.DIRECTORY, os.fstat(directory.fd).st_mode & PERMISSIONS)


def _names(directory: int) -> list[tuple[bytes, Kind | None]]:
    """List a directory in the order of a tree, with what each name is; None is neither of the three."""
    with os.scandir(directory) as found:
        return sorted(((os.fsencode(one.name), _kind(one)) for one in found), key=lambda named: named[0])


def _kind(found: os.DirEntry[str]) -> Kind | None:
    if found.is_symlink():
        return Kind.LINK
    if found.is_dir(follow_symlinks=False):
        return Kind.DIRECTORY
    return Kind.FILE if found.is_file(follow_symlinks=False) else None


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Give an OSError the whole path of what it is about."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise
