"""A download saved as a file, whole or not at all."""

import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from wsgi_store.client.download import Download
from wsgi_store.errors import DigestMismatch, RangeNotSatisfiable


def save(begin: Callable[[BinaryIO], Download], path: str, *, force: bool) -> int:
    """Let a file appear whole, its bytes checked; returns its size in bytes.

    Until then it is called `path`.part, which stays where a download is cut off, and is carried
    on by the next one. Raises FileExistsError when there is a file and it may not be replaced,
    BlockingIOError when another process is at it, and what `Download` raises.
    """
    if os.path.lexists(path) and not (force and os.path.isfile(path)):
        raise FileExistsError(errno.EEXIST, "it exists", path)
    part = f"{path}.part"
    with _locked(part) as file:
        # What is there already may be of another file, or damaged: then a second time from nothing.
        for known in (file.seek(0, io.SEEK_END), 0):
            try:
                file.seek(0)
                with begin(file) as download:
                    for data in download.pieces():
                        file.write(data)
                break
            except (DigestMismatch, RangeNotSatisfiable):
                file.truncate(0)
                if not known:
                    raise
        os.fsync(file.fileno())
        size = file.tell()
        if force:
            os.replace(part, path)
        else:
            _rename(part, path)
        return size


@contextmanager
def _locked(part: str) -> Iterator[BinaryIO]:
    """Open a file for one process at a time; one that is empty in the end is removed."""
    # A link that somebody else left there would have its target written to.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(part, flags, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The other one may have given it its name since it was opened here.
            mine = os.path.samestat(os.fstat(file.fileno()), os.stat(part))
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError:
            mine = True  # a file system without locks
        if not mine:
            raise BlockingIOError(errno.EAGAIN, "another download is writing to it", part)
        try:
            yield file
        finally:
            if not os.fstat(file.fileno()).st_size:
                with suppress(FileNotFoundError):
                    os.unlink(part)


def _rename(part: str, path: str) -> None:
    """Rename without replacing."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links: what comes between these two steps is lost.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "it exists", path) from None
        os.rename(part, path)
    else:
        os.unlink(part)
