"""A directory that somebody else's tree is restored to: no step leaves it, whatever links are in it.

Every path is walked from the top by descriptors, one name at a time, and no link is followed.
"""

import errno
import os
import resource
import stat
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from wsgi_store.client.tree import entry
from wsgi_store.client.tree.entry import to_bytes
from wsgi_store.filesystem import NAME, REFUSED, Root

T = TypeVar("T")

TOP = to_bytes(entry.TOP)
# Bytes of the longest path that system calls take; what has a longer one could not be opened by its name.
LONGEST = 4095
# Directories that stay open: the files of a tree are not restored in the order of its directories.
OPEN = 256


class Places:
    """The paths below a directory: relative, with / between the names; `.` is the directory itself.

    It is created if it does not exist. Paths may come from a stranger: `..` in one, or a link in the
    place of a directory, raises OSError. A directory that lacks a right of its owner gets it when it
    is needed. Not safe to use by several threads.
    """

    def __init__(self, directory: str) -> None:
        self._new = set()
        try:
            # Nobody else may look in before the modes are set.
            os.mkdir(directory, 0o700)
            self._new.add(TOP)
        except FileExistsError:
            pass
        self._top = Root(directory)
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._most = max(1, min(OPEN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
        os.close(self._top.fd)

    @property
    def top(self) -> int:
        """A descriptor of the directory itself."""
        return self._top.fd

    def is_new(self, directory: bytes) -> bool:
        """Whether a directory was created here, and so held nothing before."""
        return directory in self._new

    def within(self, directory: bytes) -> int:
        """Return a descriptor of a directory (O_PATH), which stays open until other ones are asked for."""
        if directory == TOP:
            return self._top.fd
        fd = self._open.get(directory)
        if fd is not None:
            self._open.move_to_end(directory)
            return fd
        names = directory.split(b"/")
        known = len(names) - 1
        while known and b"/".join(names[:known]) not in self._open:
            known -= 1
        fd = self.within(b"/".join(names[:known]) or TOP)
        for number in range(known, len(names)):
            fd = self._enter(b"/".join(names[: number + 1]), names[number], fd)
        return fd

    def _enter(self, directory: bytes, name: bytes, around: int) -> int:
        _check(name)
        fd = permitted(around, lambda: os.open(name, NAME, dir_fd=around))
        if len(self._open) >= self._most:
            os.close(self._open.popitem(last=False)[1])
        self._open[directory] = fd
        return fd

    def around(self, path: bytes) -> tuple[int, bytes]:
        """Return a descriptor of the directory that a path lies in, and the last name of the path."""
        directory, _, name = path.rpartition(b"/")
        _check(name)
        if len(path) > LONGEST:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return self.within(directory or TOP), name

    def make(self, directory: bytes) -> None:
        """Create a directory for its owner alone, unless it exists; raises OSError if a file does."""
        if directory == TOP:
            return
        around, name = self.around(directory)
        try:
            permitted(around, lambda: os.mkdir(name, 0o700, dir_fd=around))
        except FileExistsError:
            self.within(directory)
        else:
            self._new.add(directory)

    def look(self, path: bytes) -> os.stat_result | None:
        """Return the status of what is at a path, of a link itself; None if nothing is there."""
        around, name = self.around(path)
        try:
            return permitted(around, lambda: os.stat(name, dir_fd=around, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def target(self, path: bytes) -> bytes | None:
        """Return the target of the link at a path; None if no link is there."""
        around, name = self.around(path)
        try:
            return permitted(around, lambda: os.readlink(name, dir_fd=around))
        except OSError as error:
            # EINVAL: something other than a link.
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise
            return None

    def place(self, staged: str, part: int, path: bytes) -> None:
        """Give a staged file or link its name, in one step; a file or link there before is replaced.

        Raises OSError if a directory or anything else is there.
        """
        around, name = self.around(path)
        if not self.is_new(path.rpartition(b"/")[0] or TOP):
            found = self.look(path)
            if found is not None and not is_replaceable(found):
                raise FileExistsError(errno.EEXIST, f"{kind_of(found)} is in the way")
        permitted(around, lambda: os.rename(staged.encode(), name, src_dir_fd=part, dst_dir_fd=around))

    def set_mode(self, directory: bytes, mode: int) -> None:
        """Set the rights of a directory if they differ; setgid and sticky bits stay."""
        fd = self.within(directory)
        found = stat.S_IMODE(os.fstat(fd).st_mode)
        if found & 0o777 == mode:
            return
        try:
            _change_mode(fd, found & ~0o777 | mode)
        except OSError as error:
            # To an owner, it means that the file system has no such modes.
            if error.errno not in REFUSED or os.geteuid() not in (0, os.fstat(fd).st_uid):
                raise


def _check(name: bytes) -> None:
    """Raise OSError for a name that leads to another directory."""
    if name in (b"", b".", b"..") or b"/" in name:
        raise OSError(errno.EINVAL, "not the name of a file")


def permitted(directory: int, step: Callable[[], T]) -> T:
    """Take a step in a directory, after giving its owner the rights for it where these are missing."""
    try:
        return step()
    except PermissionError:
        mode = stat.S_IMODE(os.fstat(directory).st_mode)
        if mode & stat.S_IRWXU == stat.S_IRWXU:
            raise
        try:
            _change_mode(directory, mode | stat.S_IRWXU)
        except OSError:
            pass
        else:
            return step()
        raise


def _change_mode(fd: int, mode: int) -> None:
    """Set the mode of a directory; fchmod(2) takes no O_PATH descriptor."""
    os.chmod(f"/proc/self/fd/{fd}", mode)


def is_replaceable(found: os.stat_result) -> bool:
    """Whether a file or a link may take the place of what was found."""
    return stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)


def kind_of(found: os.stat_result) -> str:
    """Return what was found, for people."""
    if stat.S_ISDIR(found.st_mode):
        return "a directory"
    return "a file" if stat.S_ISREG(found.st_mode) else "something that is no file"
