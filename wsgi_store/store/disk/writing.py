"""What a write has open: the shards, and the files that have to be synced before it is acknowledged."""

import os
from collections.abc import Iterable
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

    def shard(self, digest: Digest) -> Shard:
        """Open the directory of a name, and create it if it does not exist."""
        name = digest.hex[:2]
        shard = self._shards.get(name)
        if shard is None:
            shard = self._shards[name] = self._tree.make_shard(digest)
        self.used.append(shard)
        return shard

    def shards(self, digests: Iterable[Digest]) -> dict[str, Shard]:
        """Open the directories of names, by the first two digits, and create those that do not exist."""
        return {digest.hex[:2]: self.shard(digest) for digest in digests}

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

    def sync(self, needed: Iterable[Iterable[object]] | None = None) -> None:
        """Sync what is open, or what is `needed` of it, to the extent of the durability, and close it."""
        unsynced = [*self._copies, *(self._shards.values() if self._tree.full else ())]
        if unsynced and needed is not None:
            all_needed = {one for some in needed for one in some}
            unsynced = [one for one in unsynced if one in all_needed]
        if unsynced:
            failures = sync_all([one.fd for one in unsynced])
            self._failures |= {one: error for one, error in zip(unsynced, failures, strict=True) if error}
        self._close()

    def failure(self, used: Iterable[object]) -> OSError | None:
        """Return the failure of syncing one of these, if there is one."""
        return next((self._failures[one] for one in used if one in self._failures), None)

    def _close(self) -> None:
        fds = [*(copy.fd for copy in self._copies), *(shard.fd for shard in self._shards.values())]
        self._copies.clear()
        self._shards.clear()
        failures = []
        for fd in fds:
            try:
                os.close(fd)
            except OSError as error:  # the others are closed, too
                failures.append(error)
        if failures:
            raise failures[0]
