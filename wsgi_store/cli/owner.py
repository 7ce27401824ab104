"""Root at work on what belongs to another user: as that user, or not at all."""

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
# What commands import when they need it. Afterwards it is too late where only root can read Python, as
# it lies in root's home.
LATER = (
    "multiprocessing.popen_fork",
    "multiprocessing.synchronize",
    "rich._emoji_codes",
    "rich.progress",
    "rich.table",
    "wsgi_store.store.disk.replica",
)


def become_owner(directory: str) -> None:
    """Where root works in a directory of another user, be that user from now on.

    Whoever owns a directory, or one on the way to it, can exchange what lies there for links, and
    root would follow them. Raises ConfigError where root cannot become that user, or where others
    decide what the path leads to; raises OSError.
    """
    if os.geteuid() != 0:
        return
    owner = os.stat(directory).st_uid
    for path, status in _way(directory):
        if not _belongs_to_root(status):
            # Nothing further on is sure to stay as it is.
            if owner == 0 or status.st_uid not in (0, owner):
                raise ConfigError(
                    f"root does not work in {directory}, because others can exchange {path}: "
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
        # Not the group of the directory: its user need not be in it.
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
    """Whether nobody but root can put something else in the place of what lies there."""
    if status.st_uid != 0:
        return status.st_uid == _unmapped_user()
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return True  # in a sticky directory only the owner of a thing renames it
    others = stat.S_IWOTH if status.st_gid == 0 else stat.S_IWOTH | stat.S_IWGRP
    return not status.st_mode & others


def _unmapped_user() -> int | None:
    """Whom files of the world around belong to where root is only that of a user namespace."""
    try:
        inside = Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"]
        return int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii")) if inside else None
    except OSError:
        return None


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all that lies on the way to a path, links included, and it itself; raises OSError.

    Each is looked at after the one around it was yielded.
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
