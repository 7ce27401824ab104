"""The directories of a store on a disk, and where in them a name leads."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.filesystem import (
    ABSENT,
    NAME,
    Directory,
    NoFile,
    locked,
    make_directory,
    open_file,
    sync_directory,
)
from wsgi_store.store.contract import Durability
from wsgi_store.store.disk.capabilities import QUARANTINE, SHARD, STAGING
from wsgi_store.store.disk.marker import OpenMarker
from wsgi_store.store.disk.names import followed, read_link
from wsgi_store.store.disk.shard import Shard
from wsgi_store.store.marker import Marker

T = TypeVar("T")

# A further name leads to an old one, that to a primary one; the rest is for links that change meanwhile.
HOPS = 6


class Tree:
    """The shards below the root of a store; methods raise OSError."""

    def __init__(self, root: str, marker: OpenMarker, durability: Durability) -> None:
        self.root = root
        self.marker = marker
        self.staging = os.path.join(root, STAGING)
        self.quarantine = os.path.join(root, QUARANTINE)
        self.sync = durability is not Durability.NONE
        """Whether files are synced."""
        self.full = durability is Durability.FULL
        """Whether directories are synced, too."""
        self._shards: set[str] = set()  # that exist and whose names are synced

    def find(self, digest: Digest, look: Callable[[str, int], T]) -> tuple[T, Digest]:
        """Call `look` with the name and directory of a blob's file; returns its result and that name.

        `look` raises NoFile for a link, which is read and never followed by the system. Raises BlobNotFound
        only after the marker was read again: a migration may have begun to name the blob otherwise.
        """
        marker = self.marker.last
        while True:
            found = self._find(digest, look, marker)
            if found is not None:
                return found
            before, marker = marker, self.marker.refresh()
            if marker == before:
                raise BlobNotFound(hash=digest.hex)

    def _find(self, digest: Digest, look: Callable[[str, int], T], marker: Marker) -> tuple[T, Digest] | None:
        for _ in range(HOPS):
            if digest.algorithm not in marker.algorithms:
                return None
            name = digest.hex
            try:
                with Directory(f"{self.root}/{name[:2]}", NAME) as shard:
                    try:
                        return look(name, shard.fd), digest
                    except NoFile:
                        text = read_link(name, shard.fd)
            except ABSENT:
                return None
            if text is not None:
                target = followed(text, digest.algorithm, marker)
                if target is None:
                    return None
                digest = target
        return None

    def shard(self, digest: Digest) -> Shard:
        """Open the directory of a name; raises FileNotFoundError if it does not exist."""
        return Shard(f"{self.root}/{digest.hex[:2]}")

    def make_shard(self, digest: Digest) -> Shard:
        """Open the directory of a name, and create it if it does not exist."""
        name = digest.hex[:2]
        if name not in self._shards:
            self.make_shards({name})
        return Shard(f"{self.root}/{name}")

    def make_shards(self, names: set[str]) -> None:
        """Create the directories with these names that do not exist."""
        if names <= self._shards:
            return
        for name in sorted(names - self._shards):
            make_directory(os.path.join(self.root, name))
        # All shards together, also those of other processes that have not synced them yet: after a start
        # the root is synced once, and not once for each shard.
        there = [found for found in os.listdir(self.root) if SHARD.fullmatch(found)]
        if self.full:
            sync_directory(self.root)
        self._shards.update(there)

    def forget_shards(self) -> None:
        """Create and sync shards anew: one was removed."""
        self._shards.clear()

    @contextmanager
    def shards(self, digests: Iterable[Digest], *, make: bool = False) -> Iterator[dict[str, Shard]]:
        """Open the directories of names, by the first two digits; raises FileNotFoundError unless `make`."""
        with ExitStack() as stack:
            opened: dict[str, Shard] = {}
            for digest in digests:
                if digest.hex[:2] not in opened:
                    shard = self.make_shard(digest) if make else self.shard(digest)
                    opened[digest.hex[:2]] = stack.enter_context(shard)
            yield opened


def discarded(digest: Digest, quarantine: Directory) -> bool:
    """Remove a blob from quarantine; False if it is not there. Raises OSError."""
    try:
        os.unlink(digest.hex, dir_fd=quarantine.fd)
    except ABSENT:
        return False
    return True


@contextmanager
def locked_shards(shards: dict[str, Shard], operation: int, *, needed: bool = True) -> Iterator[None]:
    """Hold a lock of several shards; whoever locks several does so in ascending order. Raises OSError."""
    with ExitStack() as stack:
        for name in sorted(shards):
            stack.enter_context(locked(shards[name].fd, operation, needed=needed))
        yield


class Nearby(ExitStack):
    """Finds the files of blobs that lie in one shard, by looking its directory up once."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self._root = tree.root
        self._name = ""
        self._fd = -1

    def find(self, digest: Digest) -> tuple[int, os.stat_result] | None:
        """Open a file to read it; None if the blob has to be looked for otherwise."""
        name = digest.hex
        try:
            if name[:2] != self._name:
                self.close()
                self._fd = self.enter_context(Directory(f"{self._root}/{name[:2]}", NAME)).fd
                self._name = name[:2]
            return open_file(name, self._fd)
        except OSError:
            return None  # the other way says what is wrong
