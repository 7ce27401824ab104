"""What is left out of a folder."""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase


class Excluded:
    """Patterns of files and directories to leave out.

    A pattern without a slash is compared with the name of each file and directory, one with a
    slash with its path below the argument; * matches slashes too. A pattern that ends with a slash
    matches only directories. A directory is left out with all that is below it.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [
            (pattern.strip("/"), pattern.endswith("/"), "/" in pattern.rstrip("/")) for pattern in patterns
        ]

    def __bool__(self) -> bool:
        """Whether there are patterns."""
        return bool(self._patterns)

    def __call__(self, path: str, *, is_directory: bool) -> bool:
        """Whether a path below an argument is left out."""
        return any(
            (is_directory or not directories)
            and fnmatchcase(path if whole else os.path.basename(path), pattern)
            for pattern, directories, whole in self._patterns
        )
