"""Listing the names in a store on a disk."""

import bisect
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.filesystem import ABSENT, NAME, Directory, Root, disk_errors, list_directory
from wsgi_store.store.contract import Blob
from wsgi_store.store.disk.capabilities import SHARD
from wsgi_store.store.disk.names import stat_file
from wsgi_store.store.disk.tree import Tree


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a shard and what is there: a regular file or a symbolic link."""

    digest: Digest
    status: os.stat_result

    @property
    def link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)


class Listing:
    """Lists the names in the shards; remembers those in one shard for the next page."""

    # Nanoseconds between two changes of a directory that certainly have different times. The kernel's clock
    # has steps of up to 10 ms, but some file systems keep whole seconds.
    settled = 2 * 10**9

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._listed: tuple[tuple[int, ...], list[str]] = (), []  # of the last shard that was listed

    def blobs(self, algorithm: Algorithm, after: Digest | None) -> Iterator[Blob]:
        """Yield the blobs that have a name by `algorithm`, beginning behind `after`.

        They come in ascending order of these names. Raises StoreUnavailable.
        """
        for entry in self.entries(algorithm, after):
            digest = entry.digest
            if not entry.link:
                yield describe(digest, entry.status, digest)
                continue
            with disk_errors(f"cannot stat the blob {digest.hex}", hash=digest.hex):
                try:
                    status, at = self._tree.find(digest, stat_file)
                except BlobNotFound:
                    continue
            yield describe(digest, status, at)

    def shards(self, last: str = "") -> list[str]:
        """Return the shards in order that may have names behind `last`; raises StoreUnavailable."""
        with disk_errors("cannot list the store"):
            names = list_directory(self._tree.root, Root)
        end = "f" * (len(last) - 2)
        return [name for name in names if SHARD.fullmatch(name) and name + end > last]

    def entries(self, algorithm: Algorithm, after: Digest | None) -> Iterator[Entry]:
        """Yield the files and links under names by `algorithm`, in order; raises StoreUnavailable."""
        last = after.hex if after is not None else ""
        for shard in self.shards(last):
            names = self.names(shard)
            first = bisect.bisect(names, last)
            if first < len(names):
                yield from self._described(shard, islice(names, first, None), algorithm)

    def _described(self, shard: str, names: Iterator[str], algorithm: Algorithm) -> Iterator[Entry]:
        """Yield those of these names in a shard that may be names of blobs."""
        with disk_errors(f"cannot list {shard} in the store"):
            try:
                directory = Directory(f"{self._tree.root}/{shard}", NAME)
            except ABSENT:
                return
        with directory:
            # Matched only when requested: a page is a small part of a large shard.
            for name in names:
                digest = digest_of(algorithm, name)
                if digest is None or not name.startswith(shard):
                    continue
                with disk_errors(f"cannot stat the blob {name}", hash=name):
                    try:
                        status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                    except ABSENT:
                        continue  # removed since the directory was read
                if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    yield Entry(digest, status)

    def files(self, algorithm: Algorithm, after: Digest | None) -> Iterator[Blob]:
        """Yield the blobs whose files have names by `algorithm`, in order; raises StoreUnavailable."""
        last = after.hex if after is not None else ""
        for shard in self.shards(last):
            for entry in self._described(shard, iter(_files(f"{self._tree.root}/{shard}", last)), algorithm):
                if not entry.link:
                    yield Blob(entry.digest, entry.status.st_size, entry.status.st_mtime)

    def names(self, shard: str) -> list[str]:
        """Return the names in a shard, sorted; remembered, because the next page continues in it."""
        with disk_errors(f"cannot list {shard} in the store"), suppress(*ABSENT):
            with Directory(f"{self._tree.root}/{shard}") as directory:
                status = os.fstat(directory.fd)
                # The ctime, because programs can set the mtime of a directory back (`rsync --times`).
                stamp = (status.st_dev, status.st_ino, status.st_ctime_ns)
                known, names = self._listed
                if stamp != known:
                    settled = time.time_ns() - status.st_ctime_ns > self.settled
                    names = sorted(os.listdir(directory.fd))
                    if settled:
                        self._listed = stamp, names
                return names
        return []


_LOWER = re.compile("[0-9a-f]+")


def _files(path: str, last: str) -> list[str]:
    """Return what is no link in a directory, sorted, beginning behind `last`; without a look at each file."""
    with disk_errors("cannot list a directory in the store"), suppress(*ABSENT), Directory(path) as shard:
        with os.scandir(shard.fd) as entries:
            return sorted(entry.name for entry in entries if not entry.is_symlink() and entry.name > last)
    return []


def digest_of(algorithm: Algorithm, name: str) -> Digest | None:
    """Return the digest that a file name is the hex form of, in lower case; None if it is none."""
    if len(name) != 2 * algorithm.size or not _LOWER.fullmatch(name):
        return None
    return Digest(algorithm, bytes.fromhex(name))


def describe(digest: Digest, status: os.stat_result, at: Digest) -> Blob:
    """Describe the regular file under the name `at` as a blob that was asked for by `digest`."""
    return Blob(digest, status.st_size, status.st_mtime, None if at == digest else at)
