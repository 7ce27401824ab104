"""What the uploads of a store take, and what they were promised."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from wsgi_store.filesystem import Directory, list_directory
from wsgi_store.uploads import records
from wsgi_store.uploads.part import last_of
from wsgi_store.uploads.records import Announced

# Seconds after its last byte for which an upload is promised the room that was announced for it.
PROMISED = 600.0


@dataclass(frozen=True, slots=True)
class Listed:
    """An upload as it is found on the disk."""

    path: str
    length: int | None
    size: int
    """The bytes that it takes."""
    modified: float
    """When its last byte arrived, or it was finished, in seconds since the epoch."""
    done: bool

    @property
    def missing(self) -> int:
        """The bytes that were announced and have not arrived."""
        return 0 if self.done or self.length is None else max(0, self.length - self.size)


def listed(directory: str) -> Iterator[Listed]:
    """Yield the uploads of all owners; raises OSError."""
    for owner in list_directory(directory):
        if not owner.startswith("."):
            yield from owned(os.path.join(directory, owner))


def owned(own: str) -> Iterator[Listed]:
    """Yield the uploads in the directory of an owner; raises OSError."""
    for name in list_directory(own):
        if not name.startswith("."):
            path = os.path.join(own, name)
            # It may be finished or removed at this moment.
            with suppress(FileNotFoundError), Directory(path) as folder:
                yield _look(path, folder.fd)


def _look(path: str, folder: int) -> Listed:
    try:
        announced = records.announced(records.read(records.ANNOUNCED, folder))
    except records.Damaged:
        announced = Announced()
    try:
        done = os.stat(records.DONE, dir_fd=folder, follow_symlinks=False)
        return Listed(path, announced.length, 0, done.st_mtime, True)
    except FileNotFoundError:
        number, start = last_of(folder)
        try:
            status = os.stat(str(number), dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:  # whoever fenced off the last part was killed
            return Listed(path, announced.length, start, os.fstat(folder).st_mtime, False)
        return Listed(path, announced.length, start + status.st_size, status.st_mtime, False)


def promised(directory: str) -> int:
    """Return how many bytes uploads that go on were promised; raises OSError."""
    since = time.time() - PROMISED
    return sum(one.missing for one in listed(directory) if one.modified > since)
