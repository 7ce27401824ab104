"""The only way bytes come in: received, counted, hashed, checked, synced, handed to the store."""

import errno
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from wsgi_store.digest import Digest, Hasher
from wsgi_store.errors import IncompleteBody, StorageFull, TooLarge, disk_errors
from wsgi_store.stores import Durability, StagedFile, Store

# What file systems answer that have no nameless files (O_TMPFILE, open(2)) or cannot
# link them: NFS, FUSE, old overlayfs; ENOENT also where /proc is not mounted.
NO_NAMELESS = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.EXDEV, errno.EPERM}
# Bytes after which the free space is looked at again: others are writing too.
SPACE_INTERVAL = 64 << 20


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an upload: its digest, its size in bytes, whether the store lacked it."""

    digest: Digest
    size: int
    created: bool


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
        self._directory = store.staging_directory
        self._max_size = max_size
        self._min_free = min_free
        self._sync = durability is not Durability.NONE
        self._nameless = self._can_link_nameless()

    def admit(self, length: int) -> None:
        """Refuse `length` announced bytes that cannot be kept: raises TooLarge or StorageFull."""
        if self._max_size is not None and length > self._max_size:
            raise TooLarge(self._max_size)
        with disk_errors("cannot look at the free space"):
            status = os.statvfs(self._directory)
        if not status.f_blocks:
            return  # a file system without a size of its own, as some in memory or user space
        free = status.f_bavail * status.f_frsize - self._min_free
        if length > free:
            raise StorageFull("there is no room for these bytes", needed=length, available=max(0, free))

    def receive(
        self, chunks: Iterable[bytes], *, length: int | None = None, expected: Iterable[Digest] = ()
    ) -> Receipt:
        """Store what `chunks` yield, when they end well.

        `length` is the announced number of bytes. Raises IncompleteBody, TooLarge,
        DigestMismatch, StoreError and whatever `chunks` raises; then nothing is stored.
        """
        self.admit(length or 0)
        hasher = Hasher(self._store.algorithm, expected)
        size = 0
        look_again = SPACE_INTERVAL
        with self._create() as staged:
            for chunk in chunks:
                size += len(chunk)
                if self._max_size is not None and size > self._max_size:
                    raise TooLarge(self._max_size)
                if size > look_again:
                    self.admit(0)
                    look_again = size + SPACE_INTERVAL
                hasher.update(chunk)
                with disk_errors("cannot write the file"):
                    _write(staged.fd, chunk)
            if length is not None and size != length:
                raise IncompleteBody(expected=length, actual=size)
            staged.digest = hasher.finish()
            with disk_errors("cannot write the file"):
                os.fchmod(staged.fd, 0o444)
                if self._sync:
                    os.fsync(staged.fd)
            return Receipt(staged.digest, size, self._store.add(staged))

    def check(self) -> None:
        """Raise StoreUnavailable or StorageFull when no file could be received now."""
        self.admit(1)
        with self._create():
            pass

    def _create(self) -> StagedFile:
        with disk_errors("cannot make a file"):
            if self._nameless:
                return StagedFile(os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
            path = os.path.join(self._directory, secrets.token_hex(16))
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            return StagedFile(os.open(path, flags, 0o600), path)

    def _can_link_nameless(self) -> bool:
        """Try it once: a file that vanishes with its last descriptor leaves nothing to sweep."""
        path = os.path.join(self._directory, secrets.token_hex(16))
        try:
            fd = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                os.link(f"/proc/self/fd/{fd}", path, dst_dir_fd=fd, follow_symlinks=True)
                os.unlink(path)
            finally:
                os.close(fd)
        except OSError as error:
            # Any other failure (a full or read-only disk) says nothing about the ability.
            return error.errno not in NO_NAMELESS
        return True


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):  # a signal or a disk about to be full cut it short
        written += os.write(fd, memoryview(data)[written:])
