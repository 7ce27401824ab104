"""Receives every upload: counts, hashes and writes its bytes, then checks, syncs and publishes the file."""

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Protocol

from wsgi_store.digest import Algorithm, Chunk, Digest
from wsgi_store.errors import (
    IncompleteBody,
    ReadOnly,
    StorageFull,
    StoreError,
    StoreUnavailable,
    TooLarge,
    WrongStore,
)
from wsgi_store.filesystem import Directory, disk_errors, make_directory, set_mode, write_all
from wsgi_store.hashing import Hasher
from wsgi_store.readiness import Readiness
from wsgi_store.store.abilities import EarlyUploads, Renewal
from wsgi_store.store.contract import Added, Durability, Store
from wsgi_store.store.disk.capabilities import try_names
from wsgi_store.store.held import names_of_one
from wsgi_store.store.staged import StagedFile, sweep

# Errors of file systems that have no nameless files (O_TMPFILE, open(2)) or cannot link them: NFS, FUSE,
# old overlayfs. ENOENT also means that /proc is not mounted.
NO_NAMELESS = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.EXDEV, errno.EPERM}
NAMELESS = os.O_TMPFILE | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
# Bytes received between two checks of the free space: the length may be unknown, and others write too.
# The reserve is kept to about this precision.
SPACE_INTERVAL = 1 << 20
# Bytes received before the kernel is told to write them out: one sync of a whole large file would make the
# small uploads beside it wait.
WRITEBACK_INTERVAL = 8 << 20


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of an upload: its primary name, its size in bytes, and what the store had before."""

    digest: Digest
    size: int
    added: Added
    names: tuple[Digest, ...] = ()
    """All its names, the primary one first."""
    ambiguous: tuple[Algorithm, ...] = ()
    """Algorithms by which another blob has the same name, which does not lead to this one."""

    @property
    def created(self) -> bool:
        """Whether the store lacked the blob, or had a damaged one."""
        return self.added is not Added.HELD

    @property
    def healed(self) -> bool:
        """Whether it replaced a damaged blob."""
        return self.added is Added.HEALED


class Promises(Protocol):
    """Room that is kept for uploads whose lengths were announced."""

    def promised(self, besides: str | None = None) -> int:
        """Return for how many bytes room is kept, apart from one promise."""

    def make_room(self) -> None:
        """Remove expired uploads, and count again what was promised; raises StoreError."""


class _Needed(Exception):
    """The bytes of a file are needed."""


class Staging:
    """Receives streams of bytes in constant memory, and publishes those that are complete."""

    def __init__(
        self,
        store: Store,
        *,
        max_size: int | None = None,
        min_free: int = 0,
        durability: Durability = Durability.FULL,
        promises: Promises | None = None,
    ) -> None:
        self._store = store
        self._promises = promises
        self._early = store if isinstance(store, EarlyUploads) else None
        self._renewal = store if isinstance(store, Renewal) else None
        self.readiness = Readiness(self.check)
        """Whether a file could be received now, checked at most once a second."""
        self._directory = store.staging_directory
        self._max_size = max_size
        self._min_free = min_free
        self._sync = store.keeps_staged and durability is not Durability.NONE
        self._nameless: bool | None = None
        if not store.read_only:
            self._nameless = self._can_link_nameless()
            with suppress(StoreError):  # a disk that cannot be written can still be read
                sweep(self._directory)

    def admit(
        self, length: int, max_size: int | None = None, *, files: int = 0, promise: str | None = None
    ) -> None:
        """Raise TooLarge, StorageFull or ReadOnly if a file of `length` bytes cannot be stored.

        `files` further ones are made for it. It may use the room of its own `promise`.
        """
        if self._store.read_only:
            raise ReadOnly
        self.limit(length, max_size)
        if self._promises is None:
            self._require_room(length, 0, files)
            return
        try:
            self._require_room(length, self._promises.promised(promise), files)
        except StorageFull:
            self._promises.make_room()
            self._require_room(length, self._promises.promised(promise), files)

    def _require_room(self, length: int, promised: int, files: int = 0) -> None:
        status = self._file_system()
        links = len(self._store.algorithms) - 1 if self._store.keeps_staged else 0
        # A further name is a file of its own, and its target may need a block (symlink(7)).
        length += links * status.f_frsize
        free = self._free(status)
        if free is not None and length > free - promised:
            numbers = {"needed": length, "available": max(0, free - promised), "reserve": self._min_free}
            numbers |= {"promised": promised} if promised else {}
            told = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
            raise StorageFull("not enough free space", **numbers) from OSError(
                f"{self._directory}: {told} (in bytes, see WSGI_STORE_MIN_FREE)"
            )
        files += links
        if files and status.f_files and status.f_favail <= files:
            raise StorageFull("not enough free inodes", needed=files + 1, available=status.f_favail)

    def limit(self, size: int, max_size: int | None) -> None:
        """Raise TooLarge for a file of `size` bytes above the general or the given limit."""
        for limit in (self._max_size, max_size):
            if limit is not None and size > limit:
                raise TooLarge(limit=limit)

    def require_store(self) -> None:
        """Raise StoreUnavailable if the disk of the staged files is not there."""
        self._file_system()

    def free(self) -> int | None:
        """Return how many bytes uploads may still use; negative if the reserve is used up.

        None for a read-only store, and for file systems that report no size. Raises StoreError.
        """
        return None if self._store.read_only else self._free(self._file_system())

    def _free(self, status: os.statvfs_result) -> int | None:
        return status.f_bavail * status.f_frsize - self._min_free if status.f_blocks else None

    def _file_system(self) -> os.statvfs_result:
        with disk_errors("cannot determine the free space"):
            try:
                return os.statvfs(self._directory)
            except FileNotFoundError:
                # A restored copy may lack the directory; a disk that is not mounted has no store.
                self._check_store()
                make_directory(self._directory)
                return os.statvfs(self._directory)

    def receive(  # pylint: disable=too-many-arguments
        self,
        chunks: Iterable[Chunk],
        *,
        length: int | None = None,
        expected: Iterable[Digest] = (),
        max_size: int | None = None,
        ticket: AbstractContextManager[object] | None = None,
        under: Digest | None = None,
        promise: str | None = None,
    ) -> Receipt:
        """Store the bytes of `chunks` if they end without an error.

        A chunk stays valid until two more chunks have been requested. `length` is the announced number of
        bytes, `max_size` a limit in bytes in addition to the general one. `ticket` is entered around the
        publication, when the file is complete and correct. `under` is one of `expected` that has to lead to
        the file afterwards. The bytes may use the room of their own `promise`. Raises IncompleteBody,
        TooLarge, DigestMismatch, DigestCollision, StoreError and whatever `chunks` and `ticket` raise; then
        nothing is stored.
        """
        self.admit(length or 0, max_size, promise=promise)
        expected = tuple(expected)
        algorithm, *names = self._store.algorithms
        hasher = Hasher(algorithm, expected, names)
        with self.create() as staged:
            if self._early is not None:
                staged.ahead = self._early.begin(staged, length, expected)
            size = self.fill(staged, chunks, hasher.update, max_size=max_size, promise=promise)
            if length is not None and size != length:
                raise IncompleteBody(expected=length, actual=size)
            staged.digests = hasher.digests()
            return self.publish(staged, size, ticket, under)

    def fill(  # pylint: disable=too-many-arguments
        self,
        staged: StagedFile,
        chunks: Iterable[Chunk],
        update: Callable[[Chunk], object],
        *,
        size: int = 0,
        before: int = 0,
        max_size: int | None = None,
        promise: str | None = None,
    ) -> int:
        """Append the bytes of `chunks` to a file of `size` bytes; returns how many it has then.

        `update` gets each chunk before it is written. The limits are for a file that has `before` bytes more.
        The bytes may use the room of their own `promise`. Raises TooLarge, StoreError, and what `chunks` and
        `update` raise.
        """
        checked = flushed = size
        for chunk in chunks:
            size += len(chunk)
            self.limit(before + size, max_size)
            if size - checked >= SPACE_INTERVAL:
                self.admit(len(chunk), promise=promise)
                checked = size
            update(chunk)
            with disk_errors("cannot write the file"):
                write_all(staged.fd, chunk)
                if self._sync and size - flushed >= WRITEBACK_INTERVAL:
                    # Starts to write dirty pages, which stay in the page cache (posix_fadvise(2)).
                    os.posix_fadvise(staged.fd, flushed, size - flushed, os.POSIX_FADV_DONTNEED)
                    flushed = size
            if staged.ahead is not None:
                staged.ahead.grown(size)
        return size

    def publish(
        self,
        staged: StagedFile,
        size: int,
        ticket: AbstractContextManager[object] | None = None,
        under: Digest | None = None,
    ) -> Receipt:
        """Publish a complete file whose digests are known; see `receive`."""
        self._seal(staged, size)
        with ticket or nullcontext():
            stored = self._store.add(staged, under)
        return Receipt(stored.names[0], size, stored.added, stored.names, stored.ambiguous)

    def renew(
        self, expected: Sequence[Digest], size: int, ticket: AbstractContextManager[object] | None = None
    ) -> Receipt | None:
        """Do without the bytes of a file if the store holds it, which one of its digests has to prove.

        None if the bytes are needed. `ticket` is entered around the renewal. Raises StoreError and what
        `ticket` raises.
        """
        if self._renewal is None or not (names := names_of_one(self._store, expected, size)):
            return None
        with suppress(_Needed), ticket or nullcontext():
            stored = self._renewal.renew(names[0], size)
            if stored is None:
                raise _Needed  # so that the ticket is not used up
            known = {name.algorithm: name for name in (*names, *stored.names)}
            ordered = tuple(known[one] for one in self._store.algorithms if one in known)
            return Receipt(stored.names[0], size, stored.added, ordered)
        return None

    def _seal(self, staged: StagedFile, size: int) -> None:
        """Make the file read-only and durable."""
        with disk_errors("cannot write the file"):
            set_mode(staged.fd, 0o444)
            if os.fstat(staged.fd).st_size != size:
                # A bug elsewhere in this process may write to the number of a closed descriptor.
                raise StoreUnavailable("something else wrote to the file")
            if self._sync:
                os.fsync(staged.fd)

    def check(self) -> None:
        """Raise StoreUnavailable if a file could not be received now or, from a read-only store, be sent.

        A test file is written and synced like an upload and never published; then the store checks itself.
        """
        if not self._store.read_only:
            self._write_test_file()
        self._check_store()

    def _check_store(self) -> None:
        try:
            self._store.check()
        except WrongStore as error:
            raise StoreUnavailable("the store cannot be used") from error

    def _write_test_file(self) -> None:
        try:
            # With all room promised, those who have the promises can go on.
            self._require_room(1, 0)
            with self.create() as staged, disk_errors("cannot write a test file"):
                os.write(staged.fd, b"?")
                if self._sync:
                    os.fsync(staged.fd)
        except StorageFull as error:
            # Here a full disk is the state of this service, not the answer to an upload.
            raise StoreUnavailable(error.message, **error.evidence) from error.__cause__

    def create(self) -> StagedFile:
        """Create an empty file to be filled and published; raises StoreError."""
        with disk_errors("cannot create a file"):
            if self._nameless is None:
                try:
                    self._nameless = self._can_link_nameless()
                except WrongStore as error:
                    raise StoreUnavailable("the store cannot be used") from error
            if self._nameless is not False:
                return StagedFile(os.open(self._directory, NAMELESS, 0o600))
            return StagedFile.named(self._directory)

    def _can_link_nameless(self) -> bool | None:
        """Test whether nameless files work: they vanish with their last descriptor and need no sweep.

        None if a full or read-only disk hides the answer. Raises WrongStore if files with names cannot
        be published either.
        """
        name = secrets.token_hex(16)
        try:
            with (
                Directory(self._directory) as directory,
                StagedFile(os.open(self._directory, NAMELESS, 0o600)) as staged,
            ):
                staged.link(name, directory.fd)
                with suppress(FileNotFoundError):  # another process swept it at its start
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
