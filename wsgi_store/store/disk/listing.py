"""Listing the blobs of a store on a disk."""

import bisect
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.filesystem import ABSENT, NAME, Directory, Root, disk_errors, list_directory
from wsgi_store.store.contract import Blob
from wsgi_store.store.disk.capabilities import SHARD


class Listing:
    """Lists the blobs in the shards below a root; remembers the names in one shard for the next page."""

    # Nanoseconds between two changes of a directory that certainly have different times. The kernel's clock
    # has steps of up to 10 ms, but some file systems keep whole seconds.
    settled = 2 * 10**9

    def __init__(self, root: str, algorithm: Algorithm) -> None:
        self._root = root
        self._algorithm = algorithm
        self.name_of_blob = re.compile(f"[0-9a-f]{{{2 * algorithm.size}}}")
        self._listed: tuple[tuple[int, ...], list[str]] = (), []  # of the last shard that was listed

    def blobs(self, after: Digest | None) -> Iterator[Blob]:
        """Yield the blobs in ascending order of digest, beginning behind `after`; raises StoreUnavailable."""
        last = after.hex if after is not None else ""
        with disk_errors("cannot list the store"):
            shards = list_directory(self._root, Root)
        for shard in filter(SHARD.fullmatch, shards):
            if shard < last[:2]:
                continue
            names = self._names(shard)
            first = bisect.bisect(names, last)
            if first < len(names):
                yield from self._described(shard, islice(names, first, None))

    def _described(self, shard: str, names: Iterable[str]) -> Iterator[Blob]:
        """Yield the blobs among these names in a shard."""
        with disk_errors(f"cannot list {shard} in the store"):
            try:
                directory = Directory(f"{self._root}/{shard}", NAME)
            except ABSENT:
                return
        with directory:
            # Matched only when requested: a page is a small part of a large shard.
            for name in names:
                if name.startswith(shard) and self.name_of_blob.fullmatch(name):
                    digest = Digest(self._algorithm, bytes.fromhex(name))
                    with disk_errors(f"cannot stat the blob {name}", hash=name):
                        try:
                            blob = describe(digest, os.stat(name, dir_fd=directory.fd, follow_symlinks=False))
                        except (BlobNotFound, *ABSENT):
                            continue  # removed since the directory was read, or not ours
                    yield blob

    def _names(self, shard: str) -> list[str]:
        """Return the names in a shard, sorted; remembered, because the next page continues in it."""
        with disk_errors(f"cannot list {shard} in the store"), suppress(*ABSENT):
            with Directory(f"{self._root}/{shard}") as directory:
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


def describe(digest: Digest, status: os.stat_result) -> Blob:
    """Describe a file as a blob; raises BlobNotFound if it is not a regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise BlobNotFound(hash=digest.hex)
    return Blob(digest, status.st_size, status.st_mtime)
