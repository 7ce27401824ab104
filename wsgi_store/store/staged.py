"""Staged files: received and not yet published."""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Protocol, Self

from wsgi_store.digest import Digest
from wsgi_store.filesystem import NAME, Directory, disk_errors

STAGED_NAME = re.compile("[0-9a-f]{32}")


class Ahead(Protocol):
    """What a store does with a staged file while it is still received."""

    def grown(self, size: int) -> None:
        """Take note that so many bytes of it are there; raises StoreError when it is to no avail."""

    def close(self) -> None:
        """Undo it, unless the file was added."""


class StagedFile:
    """A file received but not yet published: whole, hashed, counted and, where it matters, synced.

    It has a name only where the file system cannot link a nameless one. It is used as a
    context manager; leaving it closes the descriptor and removes what was not published.
    """

    digest: Digest  # set once the bytes are whole
    ahead: Ahead | None = None

    def __init__(self, fd: int, path: str | None = None) -> None:
        self.fd = fd
        self.path = path

    @classmethod
    def named(cls, directory: str) -> Self:
        """Make an empty one that has a name, and is locked as long as it is used (flock(2)).

        Raises OSError.
        """
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        while True:
            name = secrets.token_hex(16)
            with Directory(directory, NAME) as place:
                fd = os.open(name, flags, 0o600, dir_fd=place.fd)
            with ExitStack() as stack:
                staged = cls(fd, os.path.join(directory, name))
                stack.enter_context(staged)
                # Where there are no locks nothing is swept either.
                with suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_EX)
                # Without a link left it was swept before it was locked.
                if os.fstat(fd).st_nlink:
                    stack.pop_all()
                    return staged

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ahead is not None:
            self.ahead.close()
        try:
            with disk_errors("cannot close the file"):  # NFS tells here what it could not write
                os.close(self.fd)
        finally:
            # After it was closed, for NFS and FUSE rename an open file instead of removing it.
            if self.path is not None:
                # What cannot be removed now is swept later; the blob itself is not harmed by it.
                with suppress(OSError), Directory(os.path.dirname(self.path), NAME) as place:
                    os.unlink(os.path.basename(self.path), dir_fd=place.fd)

    def link(self, name: str, directory: int) -> None:
        """Give it one more name, in an open directory; raises FileExistsError where it is taken, OSError."""
        if self.path is None:
            # `dst_dir_fd` is what makes CPython call linkat(2), which can follow /proc's link.
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=directory, follow_symlinks=True)
            return
        with Directory(os.path.dirname(self.path), NAME) as place:
            own = os.path.basename(self.path)
            os.link(own, name, src_dir_fd=place.fd, dst_dir_fd=directory, follow_symlinks=False)

    def rename(self, name: str, directory: int) -> None:
        """Pass a name in an open directory on to it, which takes the one it has; raises OSError."""
        assert self.path is not None
        with Directory(os.path.dirname(self.path), NAME) as place:
            os.rename(os.path.basename(self.path), name, src_dir_fd=place.fd, dst_dir_fd=directory)
        self.path = None


def sweep(directory: str) -> int:
    """Remove the staged files that no process uses any more; returns how many they were.

    Those that cannot be removed stay. Raises StoreError when the directory cannot be read.
    """
    return len(list(leftovers(directory, remove=True)))


def leftovers(directory: str, *, remove: bool) -> Iterator[int]:
    """Yield the sizes in bytes of the staged files that no process uses any more, removing each before.

    Those that cannot be removed stay. Raises StoreError when the directory cannot be read.
    """
    with disk_errors("cannot sweep the staged files"):
        try:
            place = Directory(directory)
        except FileNotFoundError:
            return  # a copy of a store has none
    with place:
        with disk_errors("cannot sweep the staged files"):
            names = os.listdir(place.fd)
        for name in filter(STAGED_NAME.fullmatch, names):
            with suppress(OSError):  # in use, gone, or nothing of ours: the others are swept all the same
                fd = os.open(
                    name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.fd
                )
                try:
                    # Held until the file is gone: who makes one looks for that (StagedFile.named).
                    # Shared, for NFS locks exclusively only what is open for writing.
                    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    size = os.fstat(fd).st_size
                    if remove:
                        os.unlink(name, dir_fd=place.fd)
                finally:
                    os.close(fd)
                yield size
