"""Directories by descriptor: what a path leads to may be exchanged between two calls."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from wsgi_store.errors import StorageFull, StoreUnavailable

# To read, lock or sync a directory; a link to one is none.
READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To name what is in it, which takes no right to list it.
NAME = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To read a file. A link is none, and a pipe must not hold its caller for ever.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What open(2) says so of: a link, a socket, a device without a driver.
NO_FILE = {errno.ELOOP, errno.ENXIO, errno.ENODEV}
# Bytes of the longest file that is read at once.
MAX_SMALL_FILE = 1 << 20
# How modes and times are refused: to who is not the owner, or by file systems that have none.
REFUSED = {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
# What file systems answer that have no locks for a directory.
NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class NoFile(OSError):
    """What lies there is no file, or none of ours."""


class Directory:
    """A directory, open as long as this is used as a context manager.

    Whoever may write to the directory around it can put a link in its place. That is an OSError here.
    """

    def __init__(self, path: str, flags: int = READ, around: int | None = None) -> None:
        self.fd = os.open(path, flags, dir_fd=around)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


class Root(Directory):
    """The root of a store; the operator names it, and may name it by a link."""

    def __init__(self, path: str) -> None:
        super().__init__(path, READ & ~os.O_NOFOLLOW)


@contextmanager
def locked(fd: int, operation: int = fcntl.LOCK_EX, *, needed: bool = True) -> Iterator[None]:
    """Hold a lock of a directory (flock(2)); where there are no locks go on without, unless one is needed."""
    try:
        fcntl.flock(fd, operation)
    except OSError as error:
        if needed or error.errno not in NO_LOCKS:
            raise
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def set_mode(fd: int, mode: int) -> None:
    """Say who may read a file, where there are modes; raises OSError."""
    try:
        os.fchmod(fd, mode)
    except OSError as error:
        if error.errno not in REFUSED:
            raise


def touch(fd: int) -> bool:
    """Have a file changed now; False where its time cannot be told. Raises OSError."""
    try:
        os.utime(fd)
    except OSError as error:
        # EACCES is said to who neither owns a file nor may write to it.
        if error.errno not in {*REFUSED, errno.EACCES}:
            raise
        return False
    return True


def make_directory(path: str) -> None:
    """Make a directory in that of a store unless it is there, owned like that one; raises OSError.

    Root may serve a store, and its user has to go on with it.
    """
    parent, name = os.path.split(path)
    with Root(parent) as root:
        try:
            os.mkdir(name, dir_fd=root.fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=root.fd, follow_symlinks=False).st_mode):
                raise
        else:
            if os.geteuid() == 0:
                _give(name, root.fd)


def _give(name: str, around: int) -> None:
    """Hand a directory that root has just made to the owner of the one around it."""
    owner = os.fstat(around)
    # A nicety: not every root may do so, and not every file system has owners.
    with suppress(OSError), Directory(name, around=around) as made:
        # One that others put in its place since is not root's, or not empty.
        if os.fstat(made.fd).st_uid == 0 and not os.listdir(made.fd):
            os.fchown(made.fd, owner.st_uid, owner.st_gid)


def open_file(name: str, around: int | None = None) -> tuple[int, os.stat_result]:
    """Open a file to read it, and tell about it; raises NoFile for what is none, and OSError."""
    try:
        fd = os.open(name, FILE, dir_fd=around)
    except OSError as error:
        if error.errno in NO_FILE:
            raise NoFile(error.errno, error.strerror, name) from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NoFile(errno.EINVAL, "it is no file", name)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def read_file(path: str) -> bytes:
    """Read a small file; raises NoFile, also for a large one, and OSError."""
    fd, status = open_file(path)
    try:
        if status.st_size > MAX_SMALL_FILE:
            raise NoFile(errno.EFBIG, "it is too large", path)
        return os.read(fd, MAX_SMALL_FILE)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Make the names in a directory survive a power failure (fsync(2)); raises OSError."""
    with Root(path) as directory:
        os.fsync(directory.fd)


def list_directory(path: str, kind: type[Directory] = Directory) -> list[str]:
    """The names in a directory, in order; none where there is none. Raises OSError."""
    try:
        with kind(path) as directory:
            return sorted(os.listdir(directory.fd))
    except (FileNotFoundError, NotADirectoryError):
        return []


class disk_errors:  # pylint: disable=invalid-name  # used like a function
    """Translate OSError of a disk: StorageFull where room is missing, else StoreUnavailable."""

    __slots__ = ("_doing", "_evidence")

    def __init__(self, doing: str, **evidence: object) -> None:
        self._doing = doing
        self._evidence = evidence

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            kind = StorageFull if error.errno in StorageFull.errnos else StoreUnavailable
            # `strerror` alone: a path on this machine is not the client's business.
            raise kind(f"{self._doing}: {error.strerror or error}", **self._evidence) from error
