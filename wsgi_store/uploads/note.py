"""The note of a part: how many of its bytes are synced, and which are not verified yet."""

import os
import struct
import zlib
from dataclasses import dataclass, replace
from functools import cache

from wsgi_store.filesystem import read_file

# Two records, written in turn: a power failure may damage the one that is being written, not the other.
SLOT = 512
_RECORD = struct.Struct("<QQqB16s36sI")
# Differs for every start of the system (random(4)).
BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Note:
    """The state of a part beside its size; numbers are bytes from the beginning of the part."""

    synced: int = 0
    """How much of the part survives a power failure."""
    unverified: int | None = None
    """Where the bytes begin that count only once their digest is verified."""
    complete: bool = False
    """Whether the last byte of the file was received."""
    key: bytes = b""
    """Differs from that of every other part, and of this one before bytes of it were dropped."""
    boot: bytes = b""
    """The boot id of the system when this was noted."""
    number: int = 0

    @classmethod
    def read(cls, fd: int) -> "Note":
        """Read the last note of a part; raises OSError."""
        data = os.pread(fd, 2 * SLOT, 0)
        notes = filter(None, (_parse(data[start : start + _RECORD.size]) for start in (0, SLOT)))
        return max(notes, key=lambda note: note.number, default=cls())

    def write(self, fd: int, *, sync: bool, **changes: object) -> "Note":
        """Write and return the note that follows this one; raises OSError."""
        after = replace(self, boot=boot(), number=self.number + 1, **changes)  # type: ignore[arg-type]
        unverified = -1 if after.unverified is None else after.unverified
        fields = (after.number, after.synced, unverified, after.complete, after.key, after.boot)
        record = _RECORD.pack(*fields, 0)
        os.pwrite(fd, _RECORD.pack(*fields, zlib.crc32(record)), after.number % 2 * SLOT)
        if sync:
            os.fdatasync(fd)
        return after


def _parse(record: bytes) -> Note | None:
    if len(record) < _RECORD.size:
        return None
    number, synced, unverified, complete, key, booted, checksum = _RECORD.unpack(record)
    if not number or zlib.crc32(record[:-4] + bytes(4)) != checksum:
        return None
    start = None if unverified < 0 else unverified
    return Note(synced, start, bool(complete), key, booted.rstrip(b"\0"), number)


@cache
def boot() -> bytes:
    """Return the boot id of the system; where there is none, an id of this process.

    Without /proc, and in containers with boot ids of their own, only synced bytes are passed on from one
    process to another.
    """
    try:
        return read_file(BOOT_ID).strip()
    except OSError:
        return os.urandom(16).hex().encode()
