"""How much may still be received: the limit of a file, the free space of the disk, and the promised room."""

import os
from typing import Protocol

from wsgi_store.errors import ReadOnly, StorageFull, StoreUnavailable, TooLarge, WrongStore
from wsgi_store.filesystem import disk_errors, make_directory
from wsgi_store.store.contract import Store


class Promises(Protocol):
    """Room that is kept for uploads whose lengths were announced."""

    def promised(self, besides: str | None = None) -> int:
        """Return for how many bytes room is kept, apart from one promise."""

    def make_room(self) -> None:
        """Remove expired uploads, and count again what was promised; raises StoreError."""


class Space:
    """The room for the files that a store receives."""

    def __init__(
        self,
        store: Store,
        *,
        max_size: int | None = None,
        min_free: int = 0,
        promises: Promises | None = None,
    ) -> None:
        self._store = store
        self._directory = store.staging_directory
        self._promises = promises
        self._max_size = max_size
        self._min_free = min_free

    def admit(
        self, length: int, max_size: int | None = None, *, files: int = 0, promise: str | None = None
    ) -> None:
        """Raise TooLarge, StorageFull or ReadOnly if a file of `length` bytes cannot be stored.

        `files` further ones are made for it. It may use the room of its own `promise`.
        """
        self._require_writable()
        self.limit(length, max_size)
        self._require_unpromised(length, files, promise)

    def require_room(self, length: int) -> None:
        """Raise StorageFull or ReadOnly if there is no room for files of `length` bytes together."""
        self._require_writable()
        self._require_unpromised(length)

    def _require_writable(self) -> None:
        if self._store.read_only:
            raise ReadOnly

    def _require_unpromised(self, length: int, files: int = 0, promise: str | None = None) -> None:
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

    def _check_store(self) -> None:
        try:
            self._store.check()
        except WrongStore as error:
            raise StoreUnavailable("the store cannot be used") from error
