"""Staged files: received, not yet published."""

import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Protocol, Self

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.filesystem import NAME, Directory, disk_errors
from wsgi_store.hashing import hash_file

STAGED_NAME = re.compile("[0-9a-f]{32}")
# Seconds after which a symbolic link there is not in use any more.
LINK_AGE = 60.0


class Ahead(Protocol):
    """A store's upload of a staged file that is still being received."""

    def grown(self, size: int) -> None:
        """Upload more of the file, which has `size` bytes now; raises StoreError."""

    def close(self) -> None:
        """Undo everything, unless the file was added."""


class HashedFile:
    """An open file, with those of its digests that are known."""

    def __init__(self, fd: int, digests: dict[Algorithm, Digest] | None = None) -> None:
        self.fd = fd
        self.digests = digests or {}

    def digest(self, algorithm: Algorithm) -> Digest:
        """Return a digest of the file, which is read if this one is unknown; raises OSError."""
        if algorithm not in self.digests:
            self.digests |= hash_file(self.fd, (algorithm,))
        return self.digests[algorithm]


class StagedFile(HashedFile):
    """A file that is being received or waits to be published; its digests are known when it is complete.

    It has a name only if the file system cannot link a nameless file. Use it as a context manager:
    leaving it closes the descriptor and removes an unpublished file.
    """

    ahead: Ahead | None = None

    def __init__(self, fd: int, path: str | None = None) -> None:
        super().__init__(fd)
        self.path = path

    @classmethod
    def named(cls, directory: str) -> Self:
        """Create an empty file with a name, locked while it is in use (flock(2)); raises OSError."""
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        while True:
            name = secrets.token_hex(16)
            with Directory(directory, NAME) as place:
                fd = os.open(name, flags, 0o600, dir_fd=place.fd)
            with ExitStack() as stack:
                staged = cls(fd, os.path.join(directory, name))
                stack.enter_context(staged)
                # On a file system without locks, sweeping cannot lock the file either, and skips it.
                with suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_EX)
                # A file without a link was swept before it was locked.
                if os.fstat(fd).st_nlink:
                    stack.pop_all()
                    return staged

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor and remove an unpublished file; raises StoreError."""
        if self.ahead is not None:
            self.ahead.close()
        try:
            with disk_errors("cannot close the file"):  # NFS reports write errors here
                os.close(self.fd)
        finally:
            # After closing: NFS and FUSE rename a removed file while it is open.
            if self.path is not None:
                # A file that cannot be removed now is swept later.
                with suppress(OSError), Directory(os.path.dirname(self.path), NAME) as place:
                    os.unlink(os.path.basename(self.path), dir_fd=place.fd)

    def link(self, name: str, directory: int) -> None:
        """Link the file under a name in an open directory; raises FileExistsError and other OSErrors."""
        if self.path is None:
            # With `dst_dir_fd` CPython calls linkat(2), which can follow the link in /proc.
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=directory, follow_symlinks=True)
            return
        with Directory(os.path.dirname(self.path), NAME) as place:
            own = os.path.basename(self.path)
            os.link(own, name, src_dir_fd=place.fd, dst_dir_fd=directory, follow_symlinks=False)

    def rename(self, name: str, directory: int) -> None:
        """Move a named file to another name in an open directory; raises OSError."""
        assert self.path is not None
        with Directory(os.path.dirname(self.path), NAME) as place:
            os.rename(os.path.basename(self.path), name, src_dir_fd=place.fd, dst_dir_fd=directory)
        self.path = None


def sweep(directory: str) -> int:
    """Remove the staged files that no process uses any more; returns how many.

    Files that cannot be removed stay. Raises StoreError if the directory cannot be read.
    """
    return len(list(leftovers(directory, remove=True)))


def leftovers(directory: str, *, remove: bool) -> Iterator[int]:
    """Yield the sizes in bytes of the staged files that no process uses any more, after removing each.

    Files that cannot be removed stay. Raises StoreError if the directory cannot be read.
    """
    with disk_errors("cannot sweep the staged files"):
        try:
            place = Directory(directory)
        except FileNotFoundError:
            return  # a copy of a store has no staging directory
    with place:
        with disk_errors("cannot sweep the staged files"):
            names = os.listdir(place.fd)
        for name in filter(STAGED_NAME.fullmatch, names):
            with suppress(OSError):  # the file is in use, gone, or not ours
                if _is_old_link(name, place.fd):
                    if remove:
                        os.unlink(name, dir_fd=place.fd)
                    continue
                fd = os.open(
                    name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.fd
                )
                try:
                    # Held until the file is removed: StagedFile.named checks for that once it has the lock.
                    # Shared, because NFS needs write access for an exclusive lock.
                    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    size = os.fstat(fd).st_size
                    if remove:
                        os.unlink(name, dir_fd=place.fd)
                finally:
                    os.close(fd)
                yield size


def _is_old_link(name: str, directory: int) -> bool:
    """Whether this is a symbolic link that a killed process left: one in use is renamed at once."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return stat.S_ISLNK(status.st_mode) and status.st_mtime < time.time() - LINK_AGE
