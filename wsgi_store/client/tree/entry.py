"""What a tree says about one file, directory or symbolic link."""

import enum
from dataclasses import dataclass

from wsgi_store.digest import Digest

TOP = "."
"""The path of the folder itself."""


class Kind(enum.Enum):
    """What is at a path, by its word in mtree(5)."""

    DIRECTORY = "dir"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a directory or a symbolic link of a tree."""

    path: str
    """Below the top, without a leading `./`; bytes that are not UTF-8 are surrogates (PEP 383)."""
    kind: Kind
    mode: int
    """The permissions, at most 0o777."""
    size: int | None = None
    """Of a file, in bytes."""
    modified: int | None = None
    """When a file was modified, in nanoseconds since 1970."""
    hash: Digest | None = None
    """Of a file."""
    target: str | None = None
    """Of a link, as `path`; it may lead anywhere."""


def to_bytes(path: str) -> bytes:
    """Return a path or a target as the file system has it, in every locale."""
    return path.encode("utf-8", "surrogateescape")


def to_text(raw: bytes) -> str:
    """Return the bytes of a path as in `Entry.path`."""
    return raw.decode("utf-8", "surrogateescape")


def place(path: str) -> list[bytes]:
    """Return the place of a path in the order of a tree: a directory, then what is in it, by its bytes."""
    return [] if path == TOP else to_bytes(path).split(b"/")
