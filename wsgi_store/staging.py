"""The only way bytes come in: received, counted, hashed, checked, synced, handed to the store."""

import errno
import os
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass

from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import (
    IncompleteBody,
    ReadOnly,
    StorageFull,
    StoreError,
    StoreUnavailable,
    TooLarge,
    WrongStore,
)
from wsgi_store.filesystem import Directory, disk_errors, make_directory, set_mode
from wsgi_store.hashing import Hasher
from wsgi_store.readiness import Readiness
from wsgi_store.store.abilities import EarlyUploads
from wsgi_store.store.contract import Added, Durability, Store
from wsgi_store.store.disk.capabilities import try_names
from wsgi_store.store.staged import StagedFile, sweep

# What file systems answer that have no nameless files (O_TMPFILE, open(2)) or cannot
# link them: NFS, FUSE, old overlayfs; ENOENT also where /proc is not mounted.
NO_NAMELESS = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.EXDEV, errno.EPERM}
NAMELESS = os.O_TMPFILE | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
# Bytes after which the free space is looked at again: an upload may not tell its length, and
# others are writing too. What stays free is kept to about this.
SPACE_INTERVAL = 1 << 20
# Bytes after which they start on their way to the disk. Measured: while 512 MiB come in, the worst
# upload of 4 KiB beside them takes 1/12 of the time it takes where all is left to one sync.
WRITEBACK_INTERVAL = 8 << 20


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an upload: its digest, its size in bytes, what the store had before."""

    digest: Digest
    size: int
    added: Added

    @property
    def created(self) -> bool:
        """Whether the store lacked the blob, or had a damaged one."""
        return self.added is not Added.HELD

    @property
    def healed(self) -> bool:
        """Whether it took the place of a damaged blob."""
        return self.added is Added.HEALED


class Staging:
    """Takes byte streams in, in constant memory, and publishes the whole ones."""

    def __init__(
        self,
        store: Store,
        *,
        max_size: int | None = None,
        min_free: int = 0,
        durability: Durability = Durability.FULL,
    ) -> None:
        self._store = store
        self._early = store if isinstance(store, EarlyUploads) else None
        self.readiness = Readiness(self.check)
        """Whether a file could be received now, as it was found within the last second."""
        self._directory = store.staging_directory
        self._max_size = max_size
        self._min_free = min_free
        self._sync = store.keeps_staged and durability is not Durability.NONE
        self._nameless: bool | None = None
        if not store.read_only:
            self._nameless = self._can_link_nameless()
            with suppress(StoreError):  # a disk that cannot be written is still read
                sweep(self._directory)

    def admit(self, length: int, max_size: int | None = None) -> None:
        """Refuse `length` announced bytes that cannot be kept: raises TooLarge, StorageFull or ReadOnly."""
        if self._store.read_only:
            raise ReadOnly
        self._limit(length, max_size)
        free = self.free()
        if free is not None and length > free:
            numbers = {"needed": length, "available": max(0, free), "reserve": self._min_free}
            told = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
            raise StorageFull("there is no room for these bytes", **numbers) from OSError(
                f"{self._directory}: {told} (WSGI_STORE_MIN_FREE) bytes"
            )

    def free(self) -> int | None:
        """The bytes that uploads may still fill, less than 0 when others used the reserve up.

        None on a file system without a size of its own, as some in memory or user space, and where
        nothing is written.
        """
        if self._store.read_only:
            return None
        with disk_errors("cannot look at the free space"):
            try:
                status = os.statvfs(self._directory)
            except FileNotFoundError:
                # A store that was copied back has none; a disk that is not there has no store.
                self._check_store()
                make_directory(self._directory)
                status = os.statvfs(self._directory)
        return status.f_bavail * status.f_frsize - self._min_free if status.f_blocks else None

    def receive(
        self,
        chunks: Iterable[Chunk],
        *,
        length: int | None = None,
        expected: Iterable[Digest] = (),
        max_size: int | None = None,
        ticket: AbstractContextManager[object] | None = None,
    ) -> Receipt:
        """Store what `chunks` yield, when they end well.

        A chunk may be overwritten from when the next but one is asked for.
        `length` is the announced number of bytes, `max_size` a limit beside the general one;
        `ticket` is entered around the publication, when the file is complete and correct. Raises
        IncompleteBody, TooLarge, DigestMismatch, StoreError and whatever `chunks` and `ticket` raise; then
        nothing is stored.
        """
        self.admit(length or 0, max_size)
        expected = tuple(expected)
        hasher = Hasher(self._store.algorithm, expected)
        size = since_look = started = 0
        with self._create() as staged:
            if self._early is not None:
                staged.ahead = self._early.begin(staged, length, expected)
            for chunk in chunks:
                size += len(chunk)
                self._limit(size, max_size)
                since_look += len(chunk)
                if since_look >= SPACE_INTERVAL:
                    self.admit(len(chunk))
                    since_look = 0
                hasher.update(chunk)
                with disk_errors("cannot write the file"):
                    _write(staged.fd, chunk)
                    if self._sync and size - started >= WRITEBACK_INTERVAL:
                        # Starts to write what is dirty, which it keeps cached (fadvise64 of Linux).
                        os.posix_fadvise(staged.fd, started, size - started, os.POSIX_FADV_DONTNEED)
                        started = size
                if staged.ahead is not None:
                    staged.ahead.grown(size)
            if length is not None and size != length:
                raise IncompleteBody(expected=length, actual=size)
            staged.digest = hasher.finish()
            with disk_errors("cannot write the file"):
                set_mode(staged.fd, 0o444)
                if os.fstat(staged.fd).st_size != size:
                    # A mistake elsewhere in the process, which wrote to the number of a closed descriptor.
                    raise StoreUnavailable("somebody else has written into the file")
                if self._sync:
                    os.fsync(staged.fd)
            with ticket or nullcontext():
                return Receipt(staged.digest, size, self._store.add(staged))

    def _limit(self, size: int, max_size: int | None) -> None:
        for limit in (self._max_size, max_size):
            if limit is not None and size > limit:
                raise TooLarge(limit=limit)

    def check(self) -> None:
        """Raise StoreUnavailable when no file could be received now or, where none is, be sent.

        A file is written and synced as that of an upload, and never published; then the store is asked.
        """
        if not self._store.read_only:
            self._try()
        self._check_store()

    def _check_store(self) -> None:
        try:
            self._store.check()
        except WrongStore as error:
            raise StoreUnavailable("the store cannot be used") from error

    def _try(self) -> None:
        try:
            self.admit(1)
            with self._create() as staged, disk_errors("cannot write a file"):
                os.write(staged.fd, b"?")
                if self._sync:
                    os.fsync(staged.fd)
        except StorageFull as error:
            # The lack of room is this service's state here, not an answer to bytes of the caller's.
            raise StoreUnavailable(error.message, **error.evidence) from error.__cause__

    def _create(self) -> StagedFile:
        with disk_errors("cannot make a file"):
            if self._nameless is None:
                try:
                    self._nameless = self._can_link_nameless()
                except WrongStore as error:
                    raise StoreUnavailable("the store cannot be used") from error
            if self._nameless is not False:
                return StagedFile(os.open(self._directory, NAMELESS, 0o600))
            return StagedFile.named(self._directory)

    def _can_link_nameless(self) -> bool | None:
        """Try it: a file that vanishes with its last descriptor leaves nothing to sweep.

        None: it cannot be told now, of a full or read-only disk. Raises WrongStore where files with
        names cannot be published either.
        """
        name = secrets.token_hex(16)
        try:
            with (
                Directory(self._directory) as directory,
                StagedFile(os.open(self._directory, NAMELESS, 0o600)) as staged,
            ):
                staged.link(name, directory.fd)
                with suppress(FileNotFoundError):  # swept by another process that starts
                    os.unlink(name, dir_fd=directory.fd)
            return True
        except OSError as error:
            if error.errno not in NO_NAMELESS:
                return None
        if self._store.keeps_staged:
            try:
                try_names(self._directory)
            except OSError:
                return None
        return False


def _write(fd: int, data: Chunk) -> None:
    written = os.write(fd, data)
    while written < len(data):  # a signal or a disk about to be full cut it short
        written += os.write(fd, memoryview(data)[written:])
