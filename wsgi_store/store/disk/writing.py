"""What a write has open: the shards, and the files that have to be synced before it is acknowledged."""

import os
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from wsgi_store.digest import Digest
from wsgi_store.filesystem import sync_all
from wsgi_store.store.disk.shard import Shard
from wsgi_store.store.disk.tree import Tree


class _Copy:
    """A descriptor of a file that is synced later."""

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)


class Writing:
    """Shards, each opened once for many blobs, and files; everything is synced together.

    Leaving this context manager closes them. Methods raise OSError.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._shards: dict[str, Shard] = {}
        self._copies: list[_Copy] = []
        self._failures: dict[object, OSError] = {}
        self.used: list[object] = []
        """What was used since the caller emptied this list."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def shards(self, digests: Iterable[Digest]) -> dict[str, Shard]:
        """Open the directories of names, by the first two digits, and create those that do not exist."""
        opened: dict[str, Shard] = {}
        for digest in digests:
            name = digest.hex[:2]
            if name not in self._shards:
                self._shards[name] = self._tree.make_shard(digest)
            opened[name] = self._shards[name]
        self.used += opened.values()
        return opened

    def later(self, fd: int) -> None:
        """Have an open file synced by the next `sync`, if the store syncs files."""
        if self._tree.sync:
            try:
                copy = _Copy(fd)
            except OSError:
                os.fsync(fd)
            else:
                self._copies.append(copy)
                self.used.append(copy)

    def sync(self, needed: Collection[object] | None = None) -> None:
        """Sync what is open, or what is `needed` of it, to the extent of the durability, and close it."""
        unsynced = [*self._copies, *(self._shards.values() if self._tree.full else ())]
        if needed is not None:
            unsynced = [one for one in unsynced if one in needed]
        failures = sync_all([one.fd for one in unsynced])
        self._failures |= {one: failure for one, failure in zip(unsynced, failures, strict=True) if failure}
        self._close()

    def require_synced(self, used: Iterable[object]) -> None:
        """Raise the OSError of syncing one of these."""
        for one in used:
            if one in self._failures:
                raise self._failures[one]

    def _close(self) -> None:
        # Closes the others, too, if one fails.
        with ExitStack() as stack:
            for copy in self._copies:
                stack.callback(os.close, copy.fd)
            for shard in self._shards.values():
                stack.callback(os.close, shard.fd)
            self._copies.clear()
            self._shards.clear()
