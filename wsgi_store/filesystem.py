"""Files and directories by descriptor, because a path may lead elsewhere between two calls."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from types import TracebackType
from typing import Self

from wsgi_store.errors import StorageFull, StoreUnavailable

# To read, lock or sync a directory, but not a symbolic link to one.
READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To use the names in a directory, which needs no right to list it.
NAME = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To read a file, but not a symbolic link; opening a pipe must not block.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Errors of open(2) for a symbolic link, a socket, and a device without a driver.
NO_FILE = {errno.ELOOP, errno.ENXIO, errno.ENODEV}
# Bytes of the largest file that is read in one call.
MAX_SMALL_FILE = 1 << 20
# Errors of setting a mode or a time as another user, or on a file system that has none.
REFUSED = {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
# Errors of file systems that cannot lock a directory.
NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
# Errors of open(2): too many open files in the process or in the system.
TOO_MANY_OPEN = {errno.EMFILE, errno.ENFILE}
# Threads that sync files: a file system writes its journal once for all that wait.
SYNCS_AT_ONCE = 16
# Files that are synced one after another: starting threads takes longer.
FEW = 3


class NoFile(OSError):
    """There is something other than a regular file, or a file too large to be ours."""


# Errors that mean that nothing is there, or something other than a regular file.
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError, NoFile)


class Directory:
    """A directory, open while this is used as a context manager.

    Raises OSError for a symbolic link, which anybody who may write to the parent could put in its place.
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
    """The root of a store, which the operator may name by a symbolic link."""

    def __init__(self, path: str) -> None:
        super().__init__(path, READ & ~os.O_NOFOLLOW)


def lock_if_possible(fd: int, operation: int) -> bool:
    """Lock an open file (flock(2)); False if the file system has no locks. Raises OSError."""
    try:
        fcntl.flock(fd, operation)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


@contextmanager
def locked(fd: int, operation: int = fcntl.LOCK_EX, *, needed: bool = True) -> Iterator[None]:
    """Hold a lock of a directory (flock(2)); raises OSError if there are none and one is `needed`."""
    if needed:
        fcntl.flock(fd, operation)
    elif not lock_if_possible(fd, operation):
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; raises OSError."""
    written = os.write(fd, data)
    while written < len(data):  # a signal or a nearly full disk can cut a write short
        written += os.write(fd, memoryview(data)[written:])


def set_mode(fd: int, mode: int) -> None:
    """Set the mode of a file if the file system has modes; raises OSError."""
    try:
        os.fchmod(fd, mode)
    except OSError as error:
        if error.errno not in REFUSED:
            raise


def touch(fd: int) -> bool:
    """Set the time of a file to now; False if it cannot be set. Raises OSError."""
    try:
        os.utime(fd)
    except OSError as error:
        # EACCES is said to who neither owns a file nor may write to it.
        if error.errno not in {*REFUSED, errno.EACCES}:
            raise
        return False
    return True


def make_directory(path: str, mode: int = 0o777) -> None:
    """Create a directory unless it exists, with the owner of its parent; raises OSError.

    A store that root serves once has to stay usable for its owner.
    """
    parent, name = os.path.split(path)
    with Root(parent) as root:
        try:
            os.mkdir(name, mode, dir_fd=root.fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=root.fd, follow_symlinks=False).st_mode):
                raise
        else:
            if os.geteuid() == 0:
                _give(name, root.fd)


def _give(name: str, around: int) -> None:
    """Give a directory that root has just created to the owner of its parent."""
    owner = os.fstat(around)
    # Not every root may do so, and not every file system has owners.
    with suppress(OSError), Directory(name, around=around) as made:
        # A directory that somebody else put in its place is not owned by root, or not empty.
        if os.fstat(made.fd).st_uid == 0 and not os.listdir(made.fd):
            os.fchown(made.fd, owner.st_uid, owner.st_gid)


def open_file(name: str, around: int | None = None) -> tuple[int, os.stat_result]:
    """Open a regular file to read it; returns its descriptor and status. Raises NoFile and OSError."""
    try:
        fd = os.open(name, FILE, dir_fd=around)
    except OSError as error:
        if error.errno in NO_FILE:
            raise NoFile(error.errno, error.strerror, name) from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NoFile(errno.EINVAL, "not a regular file", name)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def read_file(path: str) -> bytes:
    """Read a file of at most MAX_SMALL_FILE bytes; raises NoFile and OSError."""
    fd, status = open_file(path)
    try:
        if status.st_size > MAX_SMALL_FILE:
            raise NoFile(errno.EFBIG, "the file is too large", path)
        return os.read(fd, MAX_SMALL_FILE)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Sync a directory, so that the names in it survive a power failure (fsync(2)); raises OSError."""
    with Root(path) as directory:
        os.fsync(directory.fd)


def sync_all(fds: Sequence[int]) -> list[OSError | None]:
    """Sync open files in less time than one after another (fsync(2)); returns the failure of each."""
    failures: list[OSError | None] = [OSError(errno.EIO, os.strerror(errno.EIO))] * len(fds)
    step = 1 if len(fds) <= FEW else min(SYNCS_AT_ONCE, len(fds))

    def sync(start: int) -> None:
        for at in range(start, len(fds), step):
            try:
                os.fsync(fds[at])
                failures[at] = None
            except OSError as error:
                failures[at] = error

    threads: list[Thread] = []
    try:
        for start in range(1, step):
            thread = Thread(target=sync, args=(start,), name="wsgi_store-sync")
            try:
                thread.start()
            except RuntimeError:  # too many threads
                sync(start)
            else:
                threads.append(thread)
        sync(0)
    finally:
        # Whatever happens, the descriptors are in use until then.
        for thread in threads:
            thread.join()
    return failures


def list_directory(path: str, kind: type[Directory] = Directory) -> list[str]:
    """Return the names in a directory, sorted; none if it does not exist. Raises OSError."""
    try:
        with kind(path) as directory:
            return sorted(os.listdir(directory.fd))
    except (FileNotFoundError, NotADirectoryError):
        return []


class disk_errors:  # pylint: disable=invalid-name  # used like a function
    """Translate OSError: to StorageFull if space is missing, otherwise to StoreUnavailable."""

    __slots__ = ("_doing", "_evidence")

    def __init__(self, doing: str, **evidence: object) -> None:
        self._doing = doing
        self._evidence = evidence

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            kind = StorageFull if error.errno in StorageFull.errnos else StoreUnavailable
            # `strerror` alone: clients must not see paths of this machine.
            raise kind(f"{self._doing}: {error.strerror or error}", **self._evidence) from error
