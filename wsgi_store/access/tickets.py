"""Upload tickets and their single use, remembered on the local disk until they could not be used anyway."""

import os
import time
from contextlib import suppress
from itertools import islice
from threading import Lock

from wsgi_store.errors import Denied
from wsgi_store.filesystem import NAME, REFUSED, Directory, disk_errors, make_directory

# An upload that began in time may end this many seconds after its ticket expired. The use is remembered
# for as long, or a second upload that takes as long would find the ticket unused.
REMEMBERED = 24 * 60 * 60
# Seconds of one directory: tickets that expire together are forgotten together.
HOUR = 3600
# Seconds between two looks of a process for what it can forget, and the number of files removed at a
# time: no upload pays for all the others.
PAUSE = 60.0
AT_ONCE = 100
USED = "this ticket has been used"


class Ticket:
    """One ticket: a context manager around the publication of its upload.

    Entering marks the ticket as used; raises Denied if it was used before or expired too long ago, and
    StoreUnavailable if that cannot be noted. If the publication raises, the ticket is given back.
    """

    def __init__(self, used: "UsedTickets", identity: str, expires: int, upload: str = "") -> None:
        self._used = used
        self._identity = identity
        self._expires = expires
        self._upload = upload

    @property
    def end_by(self) -> int:
        """Until when it can be used, in seconds since the epoch."""
        return self._expires + REMEMBERED

    def of_upload(self, upload: str) -> "Ticket":
        """Return the ticket for an upload with this id, whose process may be killed after using it."""
        return Ticket(self._used, self._identity, self._expires, upload)

    def require_unused(self) -> None:
        """Raise Denied if it was used, and StoreUnavailable if that cannot be read."""
        if self._used.has(self._identity, self._expires):
            raise Denied(USED, reason="used")

    def __enter__(self) -> None:
        if time.time() >= self.end_by:
            raise Denied("this ticket has expired", reason="expired")
        self._used.add(self._identity, self._expires, self._upload)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._used.discard(self._identity, self._expires)


class UsedTickets:
    """A file for each used ticket, in a directory for the hour in which it expires."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._sweeping = Lock()
        self._next = 0.0

    def add(self, identity: str, expires: int, upload: str = "") -> None:
        """Note the use of a ticket that expires at `expires` (seconds since the epoch).

        Raises Denied if it was noted before, unless for the same `upload`, and StoreUnavailable.
        """
        hour = _hour(expires)
        with disk_errors("cannot note the use of a ticket"):
            make_directory(self._directory)
            with Directory(self._directory, NAME) as used:
                with suppress(FileExistsError):
                    os.mkdir(hour, dir_fd=used.fd)
                with Directory(hour, NAME, used.fd) as own:
                    try:
                        _note(identity, upload, own.fd)
                    except FileExistsError:
                        if not upload or _noted(identity, own.fd) != upload:
                            raise Denied(USED, reason="used") from None
        self._sweep()

    def has(self, identity: str, expires: int) -> bool:
        """Return whether the use of a ticket was noted; raises StoreUnavailable."""
        with disk_errors("cannot read the use of a ticket"):
            try:
                os.lstat(os.path.join(self._directory, _hour(expires), identity))
            except FileNotFoundError:
                return False
            return True

    def discard(self, identity: str, expires: int) -> None:
        """Forget the use of a ticket, if the disk permits that."""
        with (
            suppress(OSError),
            Directory(self._directory, NAME) as used,
            Directory(_hour(expires), NAME, used.fd) as own,
        ):
            os.unlink(identity, dir_fd=own.fd)

    def _sweep(self) -> None:
        """Forget some of the tickets that are refused because of their age."""
        # pylint: disable-next=consider-using-with  # a thread that finds it locked goes on without it
        if time.monotonic() < self._next or not self._sweeping.acquire(blocking=False):
            return
        try:
            self._next = time.monotonic() + PAUSE
            with suppress(OSError), Directory(self._directory) as used:
                if _forget_old(used.fd) >= AT_ONCE:
                    self._next = 0.0  # there may be more
        finally:
            self._sweeping.release()


def _note(identity: str, upload: str, directory: int) -> None:
    """Make the file of a used ticket: it has the id of the upload, or is empty."""
    if upload:
        # A link has its text as soon as it exists (symlink(7)).
        try:
            os.symlink(upload, identity, dir_fd=directory)
            return
        except OSError as error:
            if error.errno not in REFUSED:
                raise
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    os.close(os.open(identity, flags, 0o600, dir_fd=directory))


def _noted(identity: str, directory: int) -> str | None:
    """Return the id of the upload that used a ticket; None if it is not known."""
    with suppress(OSError):  # an ordinary file, or given back meanwhile
        return os.readlink(identity, dir_fd=directory)
    return None


def _hour(expires: int) -> str:
    return str(min(expires // HOUR, 10**9))


def _forget_old(used: int) -> int:
    """Forget tickets of hours that are over, AT_ONCE at most; returns how many files were removed."""
    done = 0
    with os.scandir(used) as entries:
        for entry in entries:
            if done >= AT_ONCE:
                break
            name = entry.name
            if name.isdecimal() and (int(name) + 1) * HOUR + REMEMBERED < time.time():
                with suppress(OSError):  # the other hours can still be forgotten
                    done += _forget_hour(name, used, AT_ONCE - done)
    return done


def _forget_hour(hour: str, used: int, most: int) -> int:
    done = 0
    with Directory(hour, around=used) as old, os.scandir(old.fd) as entries:
        for entry in islice(entries, most):
            with suppress(OSError):
                os.unlink(entry.name, dir_fd=old.fd)
                done += 1
    with suppress(OSError):  # not empty yet
        os.rmdir(hour, dir_fd=used)
    return done
