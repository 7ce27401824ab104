"""Uploads as they are found on the disk, by whoever counts or removes them."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from wsgi_store.filesystem import Directory, list_directory, read_file
from wsgi_store.uploads import records
from wsgi_store.uploads.part import last_of
from wsgi_store.uploads.records import FileInfo

IDENTITY = re.compile("[0-9a-f]{32}")
# Seconds after its last byte for which an upload is promised the room that was announced for it.
PROMISED = 600.0


@dataclass(frozen=True, slots=True)
class Listed:
    """An upload as it was found."""

    path: str
    announced: FileInfo
    size: int = 0
    """The bytes that it takes."""
    modified: float = 0.0
    """When its last byte arrived, or it was finished, in seconds since the epoch."""
    done: bool = False
    joined: bool = False
    """Whether it has several parts, which are copied to one file when it is complete."""

    @property
    def missing(self) -> int:
        """The bytes that were announced and have not arrived."""
        length = self.announced.length
        return 0 if self.done or length is None else max(0, length - self.size)

    @property
    def expires(self) -> float:
        """When it may be removed unless a request holds it, in seconds since the epoch."""
        return self.announced.expires(self.modified)

    def promised(self, now: float) -> int:
        """Return for how many bytes room is kept."""
        if self.done or self.announced.length is None or self.modified + PROMISED < now:
            return 0
        return self.missing + (self.announced.length if self.joined else 0)


def owners(directory: str) -> Iterator[str]:
    """Yield the directories of the owners of uploads; raises OSError."""
    for name in filter(IDENTITY.fullmatch, list_directory(directory)):
        yield os.path.join(directory, name)


def paths(own: str) -> Iterator[str]:
    """Yield the paths of the uploads of an owner; raises OSError."""
    for name in filter(IDENTITY.fullmatch, list_directory(own)):
        yield os.path.join(own, name)


def look(path: str, known: FileInfo | None = None) -> Listed:
    """Look at an upload, of which `known` was announced; raises OSError, and ValueError if it is damaged."""
    names = os.listdir(path)
    if known is None or known.length is None:
        known = _announced(path)
    if records.DONE in names:
        return Listed(path, known, modified=os.stat(os.path.join(path, records.DONE)).st_mtime, done=True)
    number = start = 0
    if "0.end" in names:
        with Directory(path) as folder:
            number, start = last_of(folder.fd)
    try:
        status = os.stat(os.path.join(path, str(number)), follow_symlinks=False)
    except FileNotFoundError:
        # It is being removed, or a power failure has damaged it.
        return Listed(path, known, modified=os.stat(path).st_mtime)
    return Listed(path, known, start + status.st_size, status.st_mtime, joined=number > 0)


def _announced(path: str) -> FileInfo:
    # Without a file that can be read it cannot go on, and expires like others.
    with suppress(FileNotFoundError, records.Damaged):
        return records.announced(read_file(os.path.join(path, records.ANNOUNCED)))
    return FileInfo()
