"""Finds the files to upload."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from wsgi_store.cli.servers import STDIN

if TYPE_CHECKING:
    from wsgi_store.client.tree.exclude import Excluded


def find(
    files: Iterable[str],
    recursive: bool,
    excluded: "Excluded",
    complain: Callable[[OSError], None],
    note: Callable[[str, str], None],
) -> Iterator[str]:
    """Yield the files to upload, those below directories in sorted order; reports what it leaves out."""
    for file in files:
        if file == STDIN:
            yield file
        elif excluded(os.path.basename(file.rstrip("/")), is_directory=os.path.isdir(file)):
            continue
        elif not os.path.isdir(file):
            yield file
        elif not recursive:
            complain(OSError(errno.EISDIR, "is a directory: use -r to upload the files below it", file))
        else:
            yield from _below(file, excluded, complain, note)


def _below(
    top: str, excluded: "Excluded", complain: Callable[[OSError], None], note: Callable[[str, str], None]
) -> Iterator[str]:
    # Not os.walk, which keeps to itself what the directory tells of the kinds of its entries.
    left = [("", top)]
    while left:
        here, directory = left.pop()
        below = []
        for entry in _entries(directory, complain):
            path, is_directory = entry.path, _is_directory(entry)
            place = f"{here}/{entry.name}" if here else entry.name
            if excluded and excluded(place, is_directory=is_directory):
                continue
            if not is_directory:
                if _is_file(entry):
                    yield path
                else:
                    note(path, "not a file, skipped")
            elif entry.is_symlink():
                # A link may lead in a circle; but skipping it silently would lose files.
                complain(OSError(errno.EISDIR, "links to directories are not followed", path))
            else:
                below.append((place, path))
        left += reversed(below)


def _entries(directory: str, complain: Callable[[OSError], None]) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        complain(error)
        return []


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether to upload an entry: nobody wants the pipes and sockets of a directory.

    A broken link is reported when it is opened.
    """
    try:
        return entry.is_file(follow_symlinks=False) or stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True
