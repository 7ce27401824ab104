"""What a restore has not finished: a directory beside the restored files, removed when the restore ends.

It holds the tree, large files on their way, and each file from its first byte until it has its name.
"""

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress

from wsgi_store.digest import Digest
from wsgi_store.filesystem import READ, REFUSED, Directory, lock_if_possible, set_mode, write_all

TREE = "tree"
# What a later restore goes on with: the tree, and large files.
KEPT = re.compile(rf"({TREE}|[0-9a-f]+-[0-9]+)(\.part)?")
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Bytes that are copied at once.
PIECE = 1 << 20
# Errors of copy_file_range(2) where bytes must be read and written.
NO_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}


class Part(Directory):
    """The directory `name` in the directory `around`, open; `open_part` makes and locks it."""

    def __init__(self, name: str, around: int) -> None:
        super().__init__(name, READ, around)
        self._around = around
        self._name = name
        self._number = 0
        self._now = time.time_ns()

    @property
    def path(self) -> str:
        """A path that leads here as long as this is open, whatever is renamed."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def is_named(self) -> bool:
        """Whether it still has its name."""
        try:
            found = os.stat(self._name, dir_fd=self._around, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self.fd))

    def clear(self) -> None:
        """Remove what no later restore goes on with, and what somebody else may have put there."""
        for name in os.listdir(self.fd):
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            # A further link could belong to a file elsewhere, which a download would overwrite.
            is_own = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid()
            if not (is_own and KEPT.fullmatch(name)):
                os.unlink(name, dir_fd=self.fd)

    def remove(self) -> None:
        """Remove it, unless it holds incomplete files."""
        names = os.listdir(self.fd)
        for name in names:
            if not name.endswith(".part"):
                os.unlink(name, dir_fd=self.fd)
        with suppress(OSError):  # not empty, or renamed by somebody
            os.rmdir(self._name, dir_fd=self._around)

    def write(self, data: bytes | memoryview, mode: int, modified: int | None) -> str:
        """Write a file and return its name here."""
        return self._made(lambda fd: write_all(fd, data), mode, modified)

    def copy(self, source: int, mode: int, modified: int | None) -> str:
        """Copy an open file, without its blocks where the file system can share them; return the name."""
        return self._made(lambda fd: _copy(source, fd), mode, modified)

    def _made(self, fill: Callable[[int], None], mode: int, modified: int | None) -> str:
        name = self._next()
        fd = os.open(name, NEW, 0o600, dir_fd=self.fd)
        try:
            fill(fd)
            self.finish(fd, mode, modified)
        except BaseException:
            os.unlink(name, dir_fd=self.fd)
            raise
        finally:
            os.close(fd)
        return name

    def keep(self, fd: int, name: str, mode: int, modified: int | None) -> str:
        """Set mode and time of a file that is here, and return its name."""
        self.finish(fd, mode, modified)
        return name

    def link(self, target: bytes) -> str:
        """Make a symbolic link and return its name."""
        name = self._next()
        os.symlink(target, name.encode(), dir_fd=self.fd)
        return name

    def finish(self, fd: int, mode: int, modified: int | None) -> None:
        """Set the mode of a file and the time of its last change, in nanoseconds, as far as it has them."""
        set_mode(fd, mode)
        if modified is not None:
            try:
                os.utime(fd, ns=(self._now, modified))
            except OverflowError:
                raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW)) from None
            except OSError as error:
                if error.errno not in REFUSED:
                    raise

    def drop(self, name: str) -> None:
        """Remove a file that has got no other name."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def _next(self) -> str:
        self._number += 1
        return f"new-{self._number}"


def large_name(digest: Digest, size: int) -> str:
    """Return the name of a large file; a tree may tell two sizes of one."""
    return f"{digest.hex}-{size}"


def open_part(name: str, around: int) -> Part:
    """Open and lock the directory `name` in `around`, and create it if it does not exist.

    Raises BlockingIOError if another process uses it, PermissionError if another user owns it, and
    OSError.
    """
    while True:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=around)
        try:
            part = Part(name, around)
        except FileNotFoundError:
            continue  # another process has just removed it
        try:
            if os.fstat(part.fd).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "belongs to another user", name)
            try:
                lock_if_possible(part.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(errno.EAGAIN, "another process is restoring this tree", name) from None
            if part.is_named:
                set_mode(part.fd, 0o700)
                part.clear()
                return part
        except BaseException:
            os.close(part.fd)
            raise
        os.close(part.fd)


def _copy(source: int, target: int) -> None:
    at = 0
    try:
        while copied := os.copy_file_range(source, target, 1 << 30, offset_src=at):
            at += copied
    except OSError as error:
        if error.errno not in NO_COPY:
            raise
        while data := os.pread(source, PIECE, at):
            write_all(target, data)
            at += len(data)
