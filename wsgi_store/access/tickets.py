"""Which upload tickets were used, remembered on the local disk until they are refused for their time."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from threading import Lock

from wsgi_store.errors import Denied
from wsgi_store.filesystem import NAME, Directory, disk_errors, make_directory

# An upload that began in time may end so many seconds after its ticket expired. Its use is remembered
# as long, lest another one that takes as long finds it unused.
REMEMBERED = 24 * 60 * 60
# Seconds of one directory: those that expire together are forgotten together.
HOUR = 3600
# A process looks for what can be forgotten no more often, in seconds, and forgets so many at a time: no
# upload pays for what others have left.
PAUSE = 60.0
AT_ONCE = 100


class Tickets:
    """A file for each ticket that was used, in a directory for the hour in which it expires.

    Versions before this one kept them side by side as `<expiry>-<identity>`. These count as used, too, and
    are moved a few at a time.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._sweeping = Lock()
        self._next = 0.0

    def spend(self, expires: int, identity: str) -> Callable[[], None]:
        """Note that a ticket was used, and return what takes that back; raises Denied when it was before."""
        hour = _hour(expires)
        with disk_errors("cannot note the use of a ticket"):
            make_directory(self._directory)
            with Directory(self._directory, NAME) as used:
                with suppress(FileExistsError):
                    os.mkdir(hour, dir_fd=used.fd)
                with Directory(hour, NAME, used.fd) as own:
                    # The older name first: when it has just been moved, the new one is there.
                    if _exists(f"{expires}-{identity}", used.fd):
                        raise Denied("this ticket has been used")
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    try:
                        os.close(os.open(identity, flags, 0o600, dir_fd=own.fd))
                    except FileExistsError:
                        raise Denied("this ticket has been used") from None
        self._sweep()

        def undo() -> None:
            with (
                suppress(OSError),  # then it stays used
                Directory(self._directory, NAME) as used,
                Directory(hour, NAME, used.fd) as own,
            ):
                os.unlink(identity, dir_fd=own.fd)

        return undo

    def _sweep(self) -> None:
        """Forget some of what is refused for its time; another upload, or process, may be at it, too."""
        # pylint: disable-next=consider-using-with  # not where another thread is at it
        if time.monotonic() < self._next or not self._sweeping.acquire(blocking=False):
            return
        try:
            self._next = time.monotonic() + PAUSE
            with suppress(OSError), Directory(self._directory) as used:
                if _tidy(used.fd) >= AT_ONCE:
                    self._next = 0.0  # there may be more
        finally:
            self._sweeping.release()


def _hour(expires: int) -> str:
    return str(min(expires // HOUR, 10**9))


def _exists(name: str, around: int) -> bool:
    try:
        os.stat(name, dir_fd=around, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _tidy(used: int) -> int:
    """Forget hours that are over and move what an older version left; returns how many files it were."""
    done = 0
    with os.scandir(used) as entries:
        for entry in entries:
            if done >= AT_ONCE:
                break
            number, older, identity = entry.name.partition("-")
            if not number.isdecimal():
                continue
            with suppress(OSError):  # what cannot be moved or removed must not keep the others
                if older:
                    _move(entry.name, _hour(int(number)), identity, used)
                    done += 1
                elif (int(number) + 1) * HOUR + REMEMBERED < time.time():
                    done += _forget(entry.name, used, AT_ONCE - done)
    return done


def _move(name: str, hour: str, identity: str, used: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(hour, dir_fd=used)
    with Directory(hour, NAME, used) as own:
        os.rename(name, identity, src_dir_fd=used, dst_dir_fd=own.fd)


def _forget(hour: str, used: int, most: int) -> int:
    done = 0
    with Directory(hour, around=used) as old, os.scandir(old.fd) as entries:
        for entry in islice(entries, most):
            with suppress(OSError):
                os.unlink(entry.name, dir_fd=old.fd)
                done += 1
    with suppress(OSError):  # there is more
        os.rmdir(hour, dir_fd=used)
    return done
