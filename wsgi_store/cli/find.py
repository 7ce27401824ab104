"""The files that arguments of `put` mean."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase

from wsgi_store.cli.servers import STDIN


class Excluded:
    """Patterns of names that are left out.

    One without a slash is held against the name of each file and directory, one with slashes
    against its path below the argument, where * stands for slashes too. One that ends with a
    slash means directories alone. What is in a directory that is left out is left out.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [
            (pattern.strip("/"), pattern.endswith("/"), "/" in pattern.rstrip("/")) for pattern in patterns
        ]

    def __call__(self, path: str, *, is_directory: bool) -> bool:
        """Whether a path below an argument is left out."""
        return any(
            (is_directory or not directories)
            and fnmatchcase(path if whole else os.path.basename(path), pattern)
            for pattern, directories, whole in self._patterns
        )


def find(
    files: Iterable[str],
    recursive: bool,
    excluded: Excluded,
    complain: Callable[[OSError], None],
    note: Callable[[str, str], None],
) -> Iterator[str]:
    """The files that are meant, those below directories in order; tells what it leaves out."""
    for file in files:
        if file == STDIN:
            yield file
        elif excluded(os.path.basename(file.rstrip("/")), is_directory=os.path.isdir(file)):
            continue
        elif not os.path.isdir(file):
            yield file
        elif not recursive:
            complain(OSError(errno.EISDIR, "is a directory: with -r the files below it are uploaded", file))
        else:
            yield from _below(file, excluded, complain, note)


def _below(
    top: str, excluded: Excluded, complain: Callable[[OSError], None], note: Callable[[str, str], None]
) -> Iterator[str]:
    for directory, below, names in os.walk(top, onerror=complain):
        here = os.path.relpath(directory, top)

        def kept(names: list[str], is_directory: bool, here: str = here) -> list[str]:
            paths = ((name, os.path.normpath(os.path.join(here, name))) for name in sorted(names))
            return [name for name, path in paths if not excluded(path, is_directory=is_directory)]

        below[:] = kept(below, True)
        for path in (os.path.join(directory, name) for name in below):
            # It may lead round in a circle; passed over in silence, files would be missed.
            if os.path.islink(path):
                complain(OSError(errno.EISDIR, "a link to a directory is not followed", path))
        for path in (os.path.join(directory, name) for name in kept(names, False)):
            # Nobody means the pipes and sockets of a directory; a broken link is complained of.
            try:
                is_file = stat.S_ISREG(os.stat(path).st_mode)
            except OSError:
                is_file = True
            if is_file:
                yield path
            else:
                note(path, "no file, left out")
