"""File systems that take different names for one: upper and lower case, composed and decomposed letters."""

import os
import unicodedata
from contextlib import suppress

from wsgi_store.client.tree.part import NEW, Part

# A name, and another one by which a file system that folds names finds the same file.
PROBES = (("probe", "PROBE"), ("probe-e\u0301", "probe-\u00e9"))


def folds(part: Part) -> bool:
    """Whether the file system of a directory folds names; tried with files of its own."""
    for made, asked in PROBES:
        # A file system may refuse a name that it cannot store.
        with suppress(UnicodeError, OSError):
            os.close(os.open(made.encode(), NEW, 0o600, dir_fd=part.fd))
            try:
                os.stat(asked.encode(), dir_fd=part.fd)
                return True
            finally:
                os.unlink(made.encode(), dir_fd=part.fd)
    return False


def folded(path: str) -> str:
    """Return what is equal for paths that such a file system may take for one."""
    # Some drop dots and blanks at the end of a name.
    names = (name.rstrip(". ") or name for name in path.split("/"))
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", "/".join(names)).casefold())


class Twins:
    """Finds, in the order of a tree, names of one directory that a file system takes for one."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, dict[str, str]]] = []

    def twin(self, path: str) -> str | None:
        """Return the earlier path that this one is taken for; None if there is none."""
        directory, _, name = path.rpartition("/")
        while self._seen and not _is_within(directory, self._seen[-1][0]):
            self._seen.pop()
        if not self._seen or self._seen[-1][0] != directory:
            self._seen.append((directory, {}))
        first = self._seen[-1][1].setdefault(folded(name), path)
        return None if first == path else first


def _is_within(path: str, directory: str) -> bool:
    return not directory or path == directory or path.startswith(f"{directory}/")
