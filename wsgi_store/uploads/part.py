"""A part of an upload: a file to which the holder of its lock appends.

The files of part 0 are `0`, its bytes; `0.note`, see Note; `0.fence`, a mark that nobody appends to it any
more; and `0.end`, how many of its bytes count then. A newcomer that does not get the lock fences the part
off and goes on in part 1, so that whatever the holder still writes has no effect.

The newcomer makes the mark before it reads how many bytes count. The holder looks for the mark after it has
noted its bytes, before it acknowledges them. So at least one of them sees what the other has done.
"""

import errno
import fcntl
import os
import stat
import time
from contextlib import ExitStack, suppress

from wsgi_store.errors import UploadLocked
from wsgi_store.filesystem import NoFile
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
# The mode of a file that is published or is about to be.
SEALED = 0o444
OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Part(StagedFile):
    """A part, open for appending; leaving its context closes it and releases its lock.

    `start` is the total length of the parts before it, in bytes. Every method raises OSError.
    """

    def __init__(self, folder: int, number: int, start: int) -> None:
        with ExitStack() as stack:
            super().__init__(_open(str(number), folder))
            stack.callback(os.close, self.fd)
            self._notes = _open(f"{number}.note", folder)
            stack.callback(os.close, self._notes)
            self.note = Note.read(self._notes)
            stack.pop_all()
        self._folder = folder
        self.number = number
        self.start = start
        self.taken_over = False
        """Whether this request took the upload over from another one."""

    def close(self) -> None:
        """Close its files; raises StoreError."""
        os.close(self._notes)
        super().close()

    def link(self, name: str, directory: int) -> None:
        """Link the file under a name in an open directory; raises FileExistsError and other OSErrors."""
        # By a path, this could be a new upload of the same file.
        os.link(str(self.number), name, src_dir_fd=self._folder, dst_dir_fd=directory, follow_symlinks=False)

    @property
    def size(self) -> int:
        """How many bytes it has, for its holder."""
        return os.fstat(self.fd).st_size

    @property
    def is_published(self) -> bool:
        """Whether it is a blob by now, so that it must not change."""
        status = os.fstat(self.fd)
        # Somebody may have linked it for a backup, but only a complete one is sealed.
        return status.st_nlink > 1 and stat.S_IMODE(status.st_mode) == SEALED

    @property
    def is_complete(self) -> bool:
        """Whether the last byte of the file was received, for its holder."""
        return self.note.complete or self.is_published

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
        return records.exists(f"{self.number}.fence", self._folder) or not os.fstat(self.fd).st_nlink

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
        if self.note.boot != boot():
            # Other processes may know hashes of bytes that were dropped.
            synced = min(self.note.synced, counted)
            self._write(synced=synced, unverified=None, complete=False, key=os.urandom(16))
        elif self.note.unverified is not None:
            self._write(unverified=None)
        os.lseek(self.fd, 0, os.SEEK_END)

    def expect(self) -> None:
        """Note that bytes from here on count only when they are kept."""
        self._write(unverified=self.size)

    def keep(self, path: str, *, sync: bool, complete: bool = False) -> None:
        """Make its bytes survive a power failure if `sync`, before any answer acknowledges them.

        `path` is that of the upload. Raises UploadLocked if another process has taken over the upload.
        """
        size, synced = self.size, self.note.synced
        if size > synced or self.note.unverified is not None or complete > self.note.complete:
            if sync:
                self._sync()
                if not synced:
                    # The process that made the names may have been stopped before it synced them.
                    records.sync_names(path)
                synced = size
            self._write(sync=sync, synced=synced, unverified=None, complete=complete)
        self.require_held()

    def _sync(self) -> None:
        try:
            os.fdatasync(self.fd)
        except OSError:
            # The kernel may have dropped what it could not write, and the next sync succeeds (fsync(2)).
            os.ftruncate(self.fd, self.note.synced)
            self._write(unverified=None, key=os.urandom(16))
            raise

    def require_held(self) -> None:
        """Raise UploadLocked if another process has taken over the upload."""
        if self.is_fenced:
            raise UploadLocked("another request has taken over this upload")

    def require_silence(self) -> None:
        """Raise UploadLocked if its holder has received a byte just now, or has received all of them."""
        self._require_unfinished(Note.read(self._notes))
        # A time in the future is wrong, and would give the holder peace until then.
        if -1 < time.time() - self.modified < PEACE:
            raise UploadLocked("another request is sending this file")

    def _require_unfinished(self, note: Note) -> None:
        if note.complete or self.is_published:
            raise UploadLocked("the file is complete and is being stored")

    def fence(self, *, sync: bool, held: bool) -> None:
        """Keep everybody from appending to it, and settle how many of its bytes count.

        `held` says that the caller holds it; otherwise raises UploadLocked if it is complete.
        """
        with suppress(FileExistsError):
            os.close(os.open(f"{self.number}.fence", records.NEW, 0o600, dir_fd=self._folder))
        note, counted = self._counted()
        if not held:
            # The holder may have looked for the mark before it was made, and publishes the file.
            self._require_unfinished(note)
        if sync:
            try:
                os.fdatasync(self.fd)
            except OSError:
                counted = min(counted, note.synced)
        records.settle(f"{self.number}.end", str(counted), self._folder, sync=sync)

    def _counted(self) -> tuple[Note, int]:
        """The last note of it, and how many of its bytes count."""
        note = Note.read(self._notes)
        size = self.size
        if self.is_published:
            return note, size
        if note.boot != boot():
            return note, min(size, note.synced)
        return note, size if note.unverified is None else min(size, note.unverified)

    def _write(self, *, sync: bool = False, **changes: object) -> None:
        self.note = self.note.write(self._notes, sync=sync, **changes)


def make_part(folder: int, number: int, *, sync: bool) -> None:
    """Create the files of a part unless they exist; raises OSError."""
    # Both are empty, so that whoever is late changes nothing.
    for name in (f"{number}.note", str(number)):
        with suppress(FileExistsError):
            os.close(os.open(name, records.NEW, 0o600, dir_fd=folder))
    if sync:
        os.fsync(folder)


def claim(folder: int, path: str, *, sync: bool) -> Part:
    """Return the last part of an upload, locked and without the bytes that do not count.

    Raises UploadLocked if somebody else is using the upload, FileNotFoundError if it is done or was removed,
    and OSError.
    """
    until = time.monotonic() + PATIENCE
    taken_over = False
    for _ in range(ROUNDS):
        number, start = last_of(folder)
        with ExitStack() as stack:
            try:
                part = stack.enter_context(Part(folder, number, start))
            except FileNotFoundError:
                if not number or records.exists(records.DONE, folder):
                    raise
                # The part before it was fenced off a moment ago, or by a process that was killed then.
                make_part(folder, number, sync=sync)
                continue
            held = part.lock(until)
            if records.exists(records.DONE, folder) or not records.leads(path, folder):
                raise FileNotFoundError(errno.ENOENT, "the upload is done or was removed")
            if not held:
                part.require_silence()
                taken_over = True
            elif not part.is_fenced:
                part.cut()
                part.taken_over = taken_over
                stack.pop_all()
                return part
            part.fence(sync=sync, held=held)
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
    value = records.value_of(f"{number}.end", folder)
    return None if value is None else int(value)


def _open(name: str, folder: int) -> int:
    """Open a regular file for writing, or for reading if it is sealed."""
    try:
        fd = os.open(name, os.O_RDWR | OPEN, dir_fd=folder)
    except PermissionError:
        fd = os.open(name, os.O_RDONLY | OPEN, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NoFile(errno.EINVAL, "not a regular file", name)
    return fd
