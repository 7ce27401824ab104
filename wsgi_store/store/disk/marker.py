"""The marker of a store in a directory: written once, checked at each start."""

import os
from contextlib import suppress
from pathlib import Path

from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.filesystem import NoFile, Root, read_file, set_mode, sync_directory
from wsgi_store.store.disk.capabilities import try_names
from wsgi_store.store.marker import NAME, check_unmarked, read, require, text
from wsgi_store.store.staged import StagedFile


def check(root: str, algorithm: Algorithm) -> bool:
    """Whether there is a marker; raises WrongStore if it is that of another store, and OSError."""
    try:
        content = _content(root)
    except FileNotFoundError:
        return False
    require(content, root, algorithm)
    return True


def algorithm_at(root: str) -> Algorithm:
    """Return the algorithm of a store; raises StoreUnavailable if there is none, and WrongStore."""
    try:
        content = _content(root)
    except OSError as error:
        raise StoreUnavailable(f"there is no store at {root}: {error.strerror}") from None
    return read(content, root)


def claim(root: str, staging: str, algorithm: Algorithm) -> None:
    """Create the directories and the marker, unless another process is faster.

    Raises WrongStore if the blobs there have another algorithm, and OSError.
    """
    names = (f"{path.name}/{name}" for path in _shards(root) for name in sorted(os.listdir(path)))
    check_unmarked(root, names, algorithm)  # before anything is written to a directory that is not ours
    made = [str(path) for path in (Path(root), *Path(root).parents) if not path.is_dir()]
    try:
        os.makedirs(staging, exist_ok=True)
        _claim(root, staging, algorithm, made)
    except BaseException:
        for path in (staging, *made):
            with suppress(OSError):
                os.rmdir(path)
        raise
    check(root, algorithm)
    sync_directory(root)


def _claim(root: str, staging: str, algorithm: Algorithm, made: list[str]) -> None:
    try_names(staging)
    # Written under another name and linked: two servers that start at once agree on one marker.
    with StagedFile.named(staging) as draft:
        os.write(draft.fd, text(algorithm))
        set_mode(draft.fd, 0o644)
        os.fsync(draft.fd)
        # First, because a process that finds the marker does not sync the directories above it.
        for path in made:
            sync_directory(os.path.dirname(path))
        with Root(root) as directory, suppress(FileExistsError):
            draft.link(NAME, directory.fd)


def _content(root: str) -> bytes:
    try:
        return read_file(os.path.join(root, NAME))
    except NoFile:
        return b""  # not a valid marker


def _shards(root: str) -> list[Path]:
    return sorted(Path(root).glob("[0-9a-f][0-9a-f]/"))
