"""What is written down of an upload: what was announced, and what became of it."""

import dataclasses
import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.filesystem import MAX_SMALL_FILE, Directory, open_file, sync_directory, write_all
from wsgi_store.staging import Receipt
from wsgi_store.store.contract import Added

ANNOUNCED = "upload.json"
DONE = "done.json"
# Errors of rename(2) if there is a directory with files under the new name.
TAKEN = {errno.ENOTEMPTY, errno.EEXIST}
NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a client says of a file before it sends it."""

    length: int | None = None
    """In bytes; None if it is not known yet."""
    expected: tuple[Digest, ...] = ()
    name: str | None = None
    metadata: str = ""
    """As the client wrote it."""
    max_size: int | None = None
    until: float | None = None
    """When the upload expires at the latest, in seconds since the epoch."""
    kept: float = 86400.0
    """Seconds for which it is kept after its last byte, and its result after its end."""

    def expires(self, modified: float) -> float:
        """Return when an upload expires whose last byte arrived then, in seconds since the epoch."""
        return modified + self.kept if self.until is None else min(modified + self.kept, self.until)

    def fits(self, other: "FileInfo") -> bool:
        """Whether both have a digest in common and nothing that contradicts the other one."""
        mine, theirs = ({one.algorithm: one for one in each.expected} for each in (self, other))
        common = mine.keys() & theirs.keys()
        if None not in (self.length, other.length) and self.length != other.length:
            return False
        return bool(common) and all(mine[one] == theirs[one] for one in common)

    @property
    def is_proven(self) -> bool:
        """Whether a digest proves what the file is."""
        return any(digest.algorithm.collision_resistant for digest in self.expected)

    def joined(self, other: "FileInfo") -> "FileInfo":
        """Return what both say of one file."""
        expected = tuple(dict.fromkeys((*self.expected, *other.expected)))
        length = other.length if self.length is None else self.length
        return dataclasses.replace(self, expected=expected, length=length)


class Damaged(ValueError):
    """A record is not as it was written; without syncs, a power failure may damage it."""


def announced(data: bytes) -> FileInfo:
    """Read what was announced; raises Damaged."""
    with _undamaged():
        fields = json.loads(data)
        expected = tuple(_digest(text) for text in fields.pop("expected"))
        return FileInfo(expected=expected, **fields)


def write(what: FileInfo, folder: int, *, sync: bool) -> None:
    """Write what was announced, in one step; raises OSError."""
    fields = {one.name: getattr(what, one.name) for one in dataclasses.fields(what)}
    fields["expected"] = [str(digest) for digest in what.expected]
    replace(ANNOUNCED, json.dumps(fields).encode(), folder, sync=sync)


def replace(name: str, data: bytes, folder: int, *, sync: bool) -> None:
    """Write a file, or replace it, in one step; raises OSError."""
    draft = f".{secrets.token_hex(16)}"
    fd = os.open(draft, NEW, 0o600, dir_fd=folder)
    try:
        try:
            write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise
    if sync:
        os.fsync(folder)


def settle(name: str, value: str, folder: int, *, sync: bool) -> str:
    """Give a name a value unless it has one, in one step; returns its value. Raises OSError.

    The value is the name of an empty file in a directory: rename(2) replaces no directory that has files,
    and every file system can do that, unlike link(2).
    """
    draft = f".{secrets.token_hex(16)}"
    os.mkdir(draft, 0o700, dir_fd=folder)
    try:
        with Directory(draft, around=folder) as place:
            os.close(os.open(value, NEW, 0o600, dir_fd=place.fd))
            if sync:
                os.fsync(place.fd)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        with suppress(OSError):
            os.unlink(f"{draft}/{value}", dir_fd=folder)
        with suppress(OSError):
            os.rmdir(draft, dir_fd=folder)
        if error.errno not in TAKEN:
            raise
    if sync:
        os.fsync(folder)
    settled = value_of(name, folder)
    if settled is None:
        raise FileNotFoundError(errno.ENOENT, "it was removed", name)
    return settled


def value_of(name: str, folder: int) -> str | None:
    """Return the value that was settled for a name, if there is one; raises OSError."""
    try:
        with Directory(name, around=folder) as place:
            return next(iter(os.listdir(place.fd)), None)
    except FileNotFoundError:
        return None


def sync_names(path: str) -> None:
    """Make the name of an upload, and of the directories that were made for it, survive a power failure.

    Raises OSError.
    """
    for _ in range(4):  # the upload, its owner's directory, that of all uploads, and the store
        sync_directory(path)
        path = os.path.dirname(path)


def leads(path: str, folder: int) -> bool:
    """Whether an upload is still found by its path; raises OSError."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(folder))
    except FileNotFoundError:
        return False


def receipt(folder: int) -> Receipt | None:
    """Read the result of an upload, None if it is not finished; raises Damaged and OSError."""
    try:
        data = read(DONE, folder)
    except FileNotFoundError:
        return None
    with _undamaged():
        fields = json.loads(data)
        names = tuple(map(_digest, fields["names"]))
        ambiguous = tuple(map(Algorithm, fields["ambiguous"]))
        return Receipt(names[0], fields["size"], Added(fields["added"]), names, ambiguous)


def finish(folder: int, result: Receipt, *, sync: bool) -> None:
    """Write the result, and remove the parts; raises OSError."""
    fields = {
        "names": [str(name) for name in result.names],
        "size": result.size,
        "added": result.added.value,
        "ambiguous": [one.value for one in result.ambiguous],
    }
    replace(DONE, json.dumps(fields).encode(), folder, sync=sync)
    clear(folder)


def clear(folder: int) -> None:
    """Remove the parts of an upload that is done; what cannot be removed now is left to the next call."""
    for name in os.listdir(folder):
        if name not in (ANNOUNCED, DONE):
            with suppress(OSError):
                if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    shutil.rmtree(name, dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)


def read(name: str, folder: int) -> bytes:
    """Read a small file; raises OSError."""
    fd, _ = open_file(name, folder)
    try:
        return os.read(fd, MAX_SMALL_FILE)
    finally:
        os.close(fd)


def exists(name: str, folder: int) -> bool:
    """Whether there is a file of this name; raises OSError."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _undamaged() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged("a record of the upload is damaged") from error


def _digest(text: str) -> Digest:
    algorithm, _, hash_ = text.partition(":")
    return Algorithm(algorithm).parse(hash_)
