"""Root works on the files of another user only as that user."""

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from wsgi_store.errors import ConfigError

NOBODY = 65534
MAX_LINKS = 40
# Modules that commands import late. Root imports them before it becomes another user, who may be unable to
# read a Python that is in root's home.
LATER = (
    "multiprocessing.popen_fork",
    "multiprocessing.synchronize",
    "rich._emoji_codes",
    "rich.progress",
    "rich.table",
    "wsgi_store.store.disk.replica",
)


def become_owner(directory: str) -> None:
    """If this is root and the directory belongs to another user, become that user for good.

    The owner of a directory, or of one on the path to it, can put links in the place of files, and
    root would follow them. Raises ConfigError if root cannot become that user, or if a third user
    controls the path; raises OSError.
    """
    if os.geteuid() != 0:
        return
    owner = os.stat(directory).st_uid
    for path, status in _way(directory):
        if not _belongs_to_root(status):
            # Beyond this directory its owner can change everything.
            if owner == 0 or status.st_uid not in (0, owner):
                raise ConfigError(
                    f"root does not work in {directory}, because others can replace {path}: "
                    f"run this as {_name(owner or status.st_uid)}"
                )
            break
    if owner != 0:
        _become(owner, directory)


def _become(user: int, directory: str) -> None:
    try:
        entry = pwd.getpwuid(user)
        group, groups = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        # Not the group of the directory: the user may not belong to it.
        group, groups = NOBODY, []
    for module in LATER:
        import_module(module)
    try:
        os.setgroups(groups)
        os.setgid(group)
        os.setuid(user)
    except OSError as error:
        raise ConfigError(
            f"root does not work in {directory}, which belongs to {_name(user)}, and cannot become "
            f"that user here ({error.strerror}): run this as {_name(user)}"
        ) from None


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _belongs_to_root(status: os.stat_result) -> bool:
    """Whether only root can replace the entries of this directory."""
    if status.st_uid != 0:
        return status.st_uid == _unmapped_user()
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return True  # in a sticky directory only the owner of an entry can rename it
    others = stat.S_IWOTH if status.st_gid == 0 else stat.S_IWOTH | stat.S_IWGRP
    return not status.st_mode & others


def _unmapped_user() -> int | None:
    """The user id of foreign files in a user namespace (user_namespaces(7)); None outside of one."""
    try:
        inside = Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"]
        return int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii")) if inside else None
    except OSError:
        return None


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every directory and link on the way to a path, and the path itself; raises OSError.

    Each is examined only after the caller has judged the one before.
    """
    at, links = "/", 0
    yield at, os.stat(at)
    ahead = os.path.abspath(path).split("/")[1:]
    while ahead:
        name = ahead.pop(0)
        if name in ("", ".", ".."):
            at = os.path.dirname(at) if name == ".." else at
            continue
        here = os.path.join(at, name)
        status = os.lstat(here)
        yield here, status
        if not stat.S_ISLNK(status.st_mode):
            at = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)
        at = "/" if target.startswith("/") else at
        ahead[:0] = target.split("/")
