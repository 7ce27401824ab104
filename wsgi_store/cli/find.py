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
    for directory, below, names in os.walk(top, onerror=complain):
        here = os.path.relpath(directory, top)

        def kept(names: list[str], is_directory: bool, here: str = here) -> list[str]:
            paths = ((name, os.path.normpath(os.path.join(here, name))) for name in sorted(names))
            return [name for name, path in paths if not excluded(path, is_directory=is_directory)]

        below[:] = kept(below, True)
        for path in (os.path.join(directory, name) for name in below):
            # A link may lead in a circle; but skipping it silently would lose files.
            if os.path.islink(path):
                complain(OSError(errno.EISDIR, "links to directories are not followed", path))
        for path in (os.path.join(directory, name) for name in kept(names, False)):
            # Nobody wants the pipes and sockets of a directory; a broken link is reported when it is opened.
            try:
                is_file = stat.S_ISREG(os.stat(path).st_mode)
            except OSError:
                is_file = True
            if is_file:
                yield path
            else:
                note(path, "not a file, skipped")
