"""Staged files: created, filled with the bytes of an upload, and sealed."""

import errno
import os
import secrets
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from wsgi_store.digest import Chunk
from wsgi_store.errors import StorageFull, StoreError, StoreUnavailable, WrongStore
from wsgi_store.filesystem import Directory, disk_errors, set_mode, sync_all, write_all
from wsgi_store.readiness import Readiness
from wsgi_store.staging.space import Promises, Space
from wsgi_store.store.abilities import EarlyUploads, Renewal
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.disk.capabilities import try_names
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


# The mode of a blob; files without a name are made with it, unless the umask takes some of it.
READABLE = 0o444


class Filling(Space):
    """Creates staged files, fills them and seals them."""

    def __init__(
        self,
        store: Store,
        *,
        max_size: int | None = None,
        min_free: int = 0,
        durability: Durability = Durability.FULL,
        promises: Promises | None = None,
    ) -> None:
        super().__init__(store, max_size=max_size, min_free=min_free, promises=promises)
        self.readiness = Readiness(self.check)
        """Whether a file could be received now, checked at most once a second."""
        self._renewal = store if isinstance(store, Renewal) else None
        self._early = store if isinstance(store, EarlyUploads) else None
        self._sync = store.keeps_staged and durability is not Durability.NONE
        self._nameless: bool | None = None
        if not store.read_only:
            self._nameless = self._can_link_nameless()
            with suppress(StoreError):  # a disk that cannot be written can still be read
                sweep(self._directory)

    def create(self) -> StagedFile:
        """Create an empty file to be filled and published; raises StoreError."""
        with disk_errors("cannot create a file"):
            if self._nameless is None:
                try:
                    self._nameless = self._can_link_nameless()
                except WrongStore as error:
                    raise StoreUnavailable("the store cannot be used") from error
            if self._nameless is not False:
                return StagedFile(os.open(self._directory, NAMELESS, READABLE))
            return StagedFile.named(self._directory)

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

    def seal(self, staged: StagedFile, size: int) -> None:
        """Make a complete file read-only and durable; raises StoreError."""
        with disk_errors("cannot write the file"):
            self._complete(staged, size)
            if self._sync:
                os.fsync(staged.fd)

    def seal_all(self, files: Collection[tuple[StagedFile, int]]) -> list[StoreError | None]:
        """Seal files, each with its size in bytes, in less time; returns the failure of each."""
        failures: list[StoreError | None] = []
        complete: list[tuple[int, int]] = []
        for number, (staged, size) in enumerate(files):
            failures.append(None)
            try:
                with disk_errors("cannot write the file"):
                    self._complete(staged, size)
                    if self._sync:
                        if len(files) > 1:
                            # Starts to write all of them, before the first one is waited for.
                            os.posix_fadvise(staged.fd, 0, size, os.POSIX_FADV_DONTNEED)
                        complete.append((number, staged.fd))
            except StoreError as error:
                failures[number] = error
        unsynced = sync_all([fd for _, fd in complete])
        for (number, _), failure in zip(complete, unsynced, strict=True):
            try:
                with disk_errors("cannot write the file"):
                    if failure is not None:
                        raise failure
            except StoreError as error:
                failures[number] = error
        return failures

    def _complete(self, staged: StagedFile, size: int) -> None:
        status = os.fstat(staged.fd)
        if status.st_size != size:
            # A bug elsewhere in this process may write to the number of a closed descriptor.
            raise StoreUnavailable("something else wrote to the file")
        if status.st_mode & 0o777 != READABLE:
            set_mode(staged.fd, READABLE)

    def check(self) -> None:
        """Raise StoreUnavailable if a file could not be received now or, from a read-only store, be sent.

        A test file is written and synced like an upload and never published; then the store checks itself.
        """
        if not self._store.read_only:
            self._write_test_file()
        self._check_store()

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
