"""Checks that a file system can hold a store, made when the store is opened."""

import errno
import fcntl
import os
import re
import secrets
import stat
from contextlib import suppress

from wsgi_store.errors import WrongStore
from wsgi_store.filesystem import NAME, Directory, Root, lock_if_possible
from wsgi_store.store.staged import StagedFile

SHARD = re.compile("[0-9a-f]{2}")
STAGING = ".staging"
QUARANTINE = ".quarantine"
UPLOADS = ".uploads"
# Errors of calls that a file system lacks or allows nobody.
CANNOT = {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK}


class able:  # pylint: disable=invalid-name  # used like a function
    """Raise WrongStore, naming the directory, if the file system lacks the call made inside."""

    def __init__(self, directory: str, what: str) -> None:
        self._directory = directory
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in CANNOT:
            raise WrongStore(
                f"{self._directory} cannot hold a store: its file system {self._what} ({error.strerror})"
            ) from error


def try_names(directory: str) -> None:
    """Test linking, renaming and removing; raises WrongStore if one is not possible, and OSError."""
    name, other = secrets.token_hex(16), secrets.token_hex(16)
    with StagedFile.named(directory) as staged, Directory(directory, NAME) as place:
        with able(directory, "has no hard links"):
            staged.link(name, place.fd)
        try:
            with able(directory, "cannot rename files"):
                os.rename(name, other, src_dir_fd=place.fd, dst_dir_fd=place.fd)
            name = other
        finally:
            with able(directory, "cannot remove files"):
                os.unlink(name, dir_fd=place.fd)


def try_links(directory: str) -> None:
    """Test whether further names can be made; raises WrongStore if not, and OSError."""
    name = secrets.token_hex(16)
    with Directory(directory) as place:
        with able(directory, "has no symbolic links, for WSGI_STORE_NAMES"):
            os.symlink(name, name, dir_fd=place.fd)
        os.unlink(name, dir_fd=place.fd)


def try_locks(directory: str) -> None:
    """Test whether a directory can be locked, which further names need; raises WrongStore, and OSError."""
    with Directory(directory) as place:
        if not lock_if_possible(place.fd, fcntl.LOCK_SH):
            raise WrongStore(
                f"{directory} cannot hold a store with further names: its file system has no locks (flock(2))"
            )


def require_directories(root: str) -> list[str]:
    """Return the directories of a store; raises WrongStore if one is a symbolic link, and OSError."""
    found = []
    with Root(root) as around:
        for name in sorted(os.listdir(around.fd)):
            if name in (STAGING, QUARANTINE, UPLOADS) or SHARD.fullmatch(name):
                with suppress(FileNotFoundError):
                    mode = os.stat(name, dir_fd=around.fd, follow_symlinks=False).st_mode
                    if stat.S_ISLNK(mode):
                        raise WrongStore(
                            f"{root}/{name} is a symbolic link: a store must be a single directory tree"
                        )
                    if stat.S_ISDIR(mode):
                        found.append(name)
    return found


def require_one_disk(root: str) -> None:
    """Raise WrongStore if a directory of a store is a symbolic link or on another file system; OSError.

    Files are linked and renamed between these directories.
    """
    names = require_directories(root)
    with Root(root) as around:
        device = os.fstat(around.fd).st_dev
        for name in names:
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=around.fd, follow_symlinks=False)
                if status.st_dev != device or _is_mounted(name, around.fd):
                    raise WrongStore(
                        f"{root}/{name} is on another file system: a store must be on a single one"
                    )


def _is_mounted(name: str, around: int) -> bool:
    """Whether a directory is a mount point, possibly of the same file system (mount --bind)."""
    # Linux refuses to link a directory, but first checks whether both names are on the same mount.
    mounted = False
    try:
        os.link(".", f"{name}/{secrets.token_hex(16)}", src_dir_fd=around, dst_dir_fd=around)
    except OSError as error:
        mounted = error.errno == errno.EXDEV
    return mounted
