"""Saves a download as a file, all of it or nothing."""

import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from wsgi_store.client.download import Download
from wsgi_store.errors import DigestMismatch, RangeNotSatisfiable


def save(
    begin: Callable[[BinaryIO], Download], mend: Callable[[BinaryIO], bool], path: str, *, force: bool
) -> int:
    """Write a download to `path`, once its bytes are checked; return its size in bytes.

    Until then the bytes are in `path`.part; an interrupted download stays there, and the next one
    continues it. If the bytes are wrong, `mend` replaces the wrong ones; where it cannot, a download that
    was continued begins again from 0. Raises FileExistsError if `path` exists and `force` is false,
    BlockingIOError if another process writes to `path`.part, and what `Download` and `mend` raise.
    """
    if os.path.lexists(path) and not (force and os.path.isfile(path)):
        raise FileExistsError(errno.EEXIST, "already exists", path)
    part = f"{path}.part"
    with _locked(part) as file:
        # A leftover .part may be damaged or of another blob.
        for known in (file.seek(0, io.SEEK_END), 0):
            try:
                file.seek(0)
                _receive(begin, file)
                break
            except (DigestMismatch, RangeNotSatisfiable):
                if mend(file):
                    break
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


def _receive(begin: Callable[[BinaryIO], Download], file: BinaryIO) -> None:
    with begin(file) as download:
        try:
            for data in download.pieces():
                file.write(data)
        except DigestMismatch:
            file.write(download.withheld)
            raise


@contextmanager
def _locked(part: str) -> Iterator[BinaryIO]:
    """Open a file and lock it (flock(2)); removes it if it is empty in the end."""
    # Without O_NOFOLLOW a symbolic link of another user would choose the file to write to.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(part, flags, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have renamed the file after it was opened here.
            mine = os.path.samestat(os.fstat(file.fileno()), os.stat(part))
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError:
            mine = True  # the file system has no locks
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
        # Without hard links, a file that appears between these two steps is overwritten.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "already exists", path) from None
        os.rename(part, path)
    else:
        os.unlink(part)
