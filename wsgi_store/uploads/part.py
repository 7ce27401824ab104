"""A part of an upload: a file to which the holder of its lock appends.

The files of part 0 are `0`, its bytes; `0.note`, see Note; `0.fence`, a mark that nobody appends to it any
more; and `0.end`, how many of its bytes count then. A newcomer that does not get the lock fences the part
off and goes on in part 1, so that whatever the holder still writes has no effect.

The newcomer makes the mark before it looks how many bytes count. The holder looks for the mark after it has
noted what it will tell its client. So one of them sees what the other has done.
"""

import fcntl
import os
import time
from contextlib import ExitStack, suppress
from types import TracebackType

from wsgi_store.errors import UploadLocked
from wsgi_store.store.staged import StagedFile
from wsgi_store.uploads import records
from wsgi_store.uploads.note import Note, boot

# Seconds that a newcomer waits for the lock.
PATIENCE = 1.0
# Seconds after its last byte in which a holder keeps the upload.
PEACE = 2.0
# Seconds between two attempts to get the lock.
PAUSE = 0.02
# Takeovers that happen meanwhile.
ROUNDS = 100
OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Part(StagedFile):
    """A part, open for appending; leaving its context closes it and releases its lock.

    `start` is the total length of the parts before it, in bytes. Every method raises OSError.
    """

    def __init__(self, folder: int, path: str, number: int, start: int) -> None:
        super().__init__(os.open(str(number), OPEN, dir_fd=folder), os.path.join(path, str(number)))
        try:
            self._notes = os.open(f"{number}.note", OPEN, dir_fd=folder)
            self.note = Note.read(self._notes)
        except BaseException:
            os.close(self.fd)
            raise
        self._folder = folder
        self.number = number
        self.start = start

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._notes)
        os.close(self.fd)

    @property
    def size(self) -> int:
        """How many bytes it has, for its holder."""
        return os.fstat(self.fd).st_size

    @property
    def links(self) -> int:
        """How many names the file has."""
        return os.fstat(self.fd).st_nlink

    @property
    def modified(self) -> float:
        """When its last byte arrived, in seconds since the epoch."""
        return os.fstat(self.fd).st_mtime

    @property
    def offset(self) -> int:
        """How many bytes the upload has, for its holder."""
        return self.start + self.size

    @property
    def is_fenced(self) -> bool:
        """Whether another process has taken over the upload, or removed it."""
        return _exists(f"{self.number}.fence", self._folder) or not self.links

    def lock(self, until: float) -> bool:
        """Lock it (flock(2)); False if somebody else has the lock until then (time.monotonic)."""
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(PAUSE)
            else:
                return True

    def cut(self) -> None:
        """Remove the bytes that do not count; only for its holder."""
        self.note, counted = self._counted()
        if counted < self.size:
            os.ftruncate(self.fd, counted)
        if self.note.boot != boot() or self.note.unverified is not None:
            self._write(synced=min(self.note.synced, counted), unverified=None)
        os.lseek(self.fd, 0, os.SEEK_END)

    def expect(self) -> None:
        """Note that bytes from here on count only when they are kept."""
        self._write(unverified=self.size)

    def keep(self, *, sync: bool, complete: bool = False) -> None:
        """Make its bytes survive a power failure if `sync`, before anybody is told of them.

        Raises UploadLocked if another process has taken over the upload.
        """
        size = self.size
        if size > self.note.synced or self.note.unverified is not None or complete > self.note.complete:
            if sync:
                os.fdatasync(self.fd)
            self._write(sync=sync, synced=size if sync else 0, unverified=None, complete=complete)
        self.require_held()

    def require_held(self) -> None:
        """Raise UploadLocked if another process has taken over the upload."""
        if self.is_fenced:
            raise UploadLocked("another request has taken over this upload")

    def require_silence(self) -> None:
        """Raise UploadLocked if its holder has received a byte just now, or has received all of them."""
        if self.note.complete:
            raise UploadLocked("the file is complete and is being stored")
        if -1 < time.time() - self.modified < PEACE:
            raise UploadLocked("another request is sending this file")

    def fence(self, *, sync: bool) -> int:
        """Keep everybody from appending to it; returns how many of its bytes count."""
        with suppress(FileExistsError):
            os.close(os.open(f"{self.number}.fence", records.NEW, 0o600, dir_fd=self._folder))
        _, counted = self._counted()
        if sync:
            os.fdatasync(self.fd)
        records.write_once(f"{self.number}.end", b"%d" % counted, self._folder, sync=sync)
        end = end_of(self.number, self._folder)
        assert end is not None
        return end

    def _counted(self) -> tuple[Note, int]:
        """The last note of it, and how many of its bytes count."""
        note = Note.read(self._notes)
        size = self.size
        if note.boot != boot():
            return note, min(size, note.synced)
        return note, size if note.unverified is None else min(size, note.unverified)

    def _write(self, *, sync: bool = False, **changes: object) -> None:
        self.note = self.note.write(self._notes, sync=sync, **changes)


def make_part(folder: int, number: int, *, sync: bool) -> None:
    """Create the files of a part unless they exist; raises OSError."""
    for name in (f"{number}.note", str(number)):
        with suppress(FileExistsError):
            fd = os.open(name, records.NEW, 0o600, dir_fd=folder)
            try:
                if name.endswith(".note"):
                    Note().write(fd, sync=sync)
            finally:
                os.close(fd)
    if sync:
        os.fsync(folder)


def claim(folder: int, path: str, *, sync: bool) -> Part:
    """Return the last part of an upload, locked and without the bytes that do not count.

    Raises UploadLocked if somebody else is using the upload, FileNotFoundError if it has no parts, and
    OSError.
    """
    until = time.monotonic() + PATIENCE
    for _ in range(ROUNDS):
        number, start = last_of(folder)
        with ExitStack() as stack:
            part = stack.enter_context(Part(folder, path, number, start))
            if not part.lock(until):
                part.require_silence()
            elif not part.is_fenced:
                part.cut()
                stack.pop_all()
                return part
            part.fence(sync=sync)
        make_part(folder, number + 1, sync=sync)
    raise UploadLocked("other requests keep taking over this upload")


def last_of(folder: int) -> tuple[int, int]:
    """Return the number of the last part, and the total length of those before; raises OSError."""
    number = start = 0
    while (end := end_of(number, folder)) is not None:
        number += 1
        start += end
    return number, start


def end_of(number: int, folder: int) -> int | None:
    """Return how many bytes of a part count, if it is fenced off; raises OSError."""
    try:
        fd = os.open(f"{number}.end", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        return int(os.read(fd, 20))
    finally:
        os.close(fd)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
