"""Removing uploads: those that expired or were cancelled, and what killed processes left of others.

No request may acknowledge a byte of an upload that is being removed. The directory is renamed first: a
newcomer that gets the lock checks that its path still leads to this directory. Then the last part is fenced
off: the request that holds it looks for the fence before it answers.
"""

import errno
import fcntl
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from wsgi_store.filesystem import Directory, lock_if_possible
from wsgi_store.uploads import contents, records
from wsgi_store.uploads.listed import IDENTITY, look
from wsgi_store.uploads.part import PAUSE, Part, last_of

# Names of uploads that are being made, and of those that are being removed.
DRAFT = re.compile(r"\.[0-9a-f]{32}")
GONE = re.compile(r"\.gone-[0-9a-f]{32}")
# Seconds after which nobody is making an upload any more.
DRAFT_AGE = 3600.0
# Seconds for which a process waits for others that create uploads. One of them may be stopped.
PATIENCE = 1.0


def remove(path: str) -> None:
    """Remove an upload; raises FileNotFoundError if there is none, and OSError."""
    directory = os.path.dirname(os.path.dirname(path))
    gone = os.path.join(directory, f".gone-{secrets.token_hex(16)}")
    with Directory(path) as folder:
        # Another process may remove it, too, and put a new upload of the same file in its place.
        with alone(directory):
            if not records.leads(path, folder.fd):
                raise FileNotFoundError(errno.ENOENT, "it was removed", path)
            os.rename(path, gone)
        # A full disk may have no room for the mark, but then the file vanishes from under its holder.
        with suppress(OSError, ValueError):
            os.close(os.open(f"{last_of(folder.fd)[0]}.fence", records.NEW, 0o600, dir_fd=folder.fd))
    shutil.rmtree(gone, ignore_errors=True)


def expire(path: str, now: float, *, older: float = math.inf, dry_run: bool = False) -> bool:
    """Remove an upload if its time is over and no request holds it; returns whether that is so.

    `older` is a time in seconds after its last byte that overrides a longer one. Raises OSError, and
    ValueError if it is damaged.
    """
    with Directory(path) as folder, ExitStack() as stack:
        with suppress(FileNotFoundError):  # it is finished or damaged
            number, start = last_of(folder.fd)
            part = stack.enter_context(Part(folder.fd, number, start))
            if not part.lock(0.0):
                return False
        # Its holder may have received bytes before the lock was free.
        one = look(path)
        if min(one.expires, one.modified + older) > now:
            return False
        if not dry_run:
            remove(path)
        return True


@contextmanager
def alone(directory: str) -> Iterator[None]:
    """Keep others from creating or removing uploads, if the file system has locks; raises OSError."""
    until = time.monotonic() + PATIENCE
    with Directory(directory) as opened:
        while time.monotonic() < until:
            with suppress(BlockingIOError):
                lock_if_possible(opened.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(PAUSE)
        yield


def tidy(directory: str, now: float) -> None:
    """Remove what killed processes left of uploads that they made or removed, and owners without uploads.

    Anything else stays. Raises OSError.
    """
    with Directory(directory) as opened:
        for name in os.listdir(opened.fd):
            path = os.path.join(directory, name)
            with suppress(OSError):
                if GONE.fullmatch(name):
                    shutil.rmtree(path, ignore_errors=True)
                elif DRAFT.fullmatch(name):
                    status = os.stat(name, dir_fd=opened.fd, follow_symlinks=False)
                    if status.st_mtime + DRAFT_AGE < now:
                        _discard(path)
                elif IDENTITY.fullmatch(name):
                    contents.sweep(path)
                    os.rmdir(name, dir_fd=opened.fd)


def _discard(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)
