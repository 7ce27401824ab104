"""Blobs as plain files on a local disk: `ab/abcdef…` below the root."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreError, StoreUnavailable
from wsgi_store.filesystem import (
    ABSENT,
    NAME,
    Directory,
    NoFile,
    Root,
    disk_errors,
    list_directory,
    locked,
    make_directory,
    open_file,
    read_file,
    set_mode,
    sync_directory,
)
from wsgi_store.store.contract import Added, Blob, Durability
from wsgi_store.store.disk import marker
from wsgi_store.store.disk.capabilities import QUARANTINE, SHARD, STAGING, require_one_disk
from wsgi_store.store.disk.listing import Listing, describe
from wsgi_store.store.disk.reader import LocalReader
from wsgi_store.store.disk.shard import Shard
from wsgi_store.store.marker import NAME as MARKER
from wsgi_store.store.staged import StagedFile

# Rounds of `add`, each of which a concurrent removal can spoil.
ROUNDS = 100


class LocalStore:
    """A store in a directory of a local file system that has hard links."""

    granularity = 2.0  # some file systems keep whole seconds
    keeps_staged = True
    read_only = False

    def __init__(
        self, root: str, algorithm: Algorithm | None, durability: Durability = Durability.FULL
    ) -> None:
        algorithm = algorithm or marker.algorithm_at(root)
        self.root = os.path.abspath(root)
        self.algorithm = algorithm
        self.staging_directory = os.path.join(self.root, STAGING)
        self._quarantine = os.path.join(self.root, QUARANTINE)
        self.listing = Listing(self.root, algorithm)
        self._sync = durability is not Durability.NONE
        self._full = durability is Durability.FULL
        self._shards: set[str] = set()  # that exist and whose names are synced
        with disk_errors(f"cannot open the store {self.root}"):
            self._prepare()

    def check(self) -> None:
        """Raise StoreUnavailable unless the store is there; Staging tests that it can be written."""
        self._require_marker()
        with disk_errors("cannot check the store"):
            require_one_disk(self.root)

    def made(self) -> float:
        """Return when the store was created, in seconds since the epoch; raises StoreUnavailable."""
        with disk_errors("cannot stat the store"):
            return os.stat(os.path.join(self.root, MARKER)).st_mtime

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob; raises BlobNotFound."""
        with disk_errors("cannot stat the blob"):
            try:
                with self._in_shard(digest) as shard:
                    return describe(digest, os.stat(digest.hex, dir_fd=shard.fd, follow_symlinks=False))
            except ABSENT:
                raise self._absent(digest) from None

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> LocalReader:
        """Open `length` bytes from `start`, by default to the end; raises BlobNotFound."""
        with disk_errors("cannot open the blob"):
            try:
                with self._in_shard(digest) as shard:
                    fd, status = open_file(digest.hex, shard.fd)
            except ABSENT:
                raise self._absent(digest) from None
            try:
                blob = describe(digest, status)
                if start:
                    start = os.lseek(fd, min(start, blob.size), os.SEEK_SET)
                return LocalReader(fd, blob, start, length)
            except BaseException:
                os.close(fd)
                raise

    def add(self, staged: StagedFile) -> Added:
        """Publish a staged file in one atomic step; returns what the store had before."""
        name = staged.digest.hex[:2]
        with disk_errors("cannot publish the blob"):
            for _ in range(ROUNDS):
                try:
                    with self._make_shard(name) as shard:
                        added = shard.add(staged, self.staging_directory, sync=self._sync)
                        # Also for a duplicate: the upload that linked the blob may not have synced it yet,
                        # and this one is about to be acknowledged.
                        if self._full:
                            shard.sync()
                    break
                except FileNotFoundError:
                    self._shards.discard(name)  # perhaps the shard was removed
            else:
                raise StoreUnavailable(
                    "the blob or its directory kept being removed while the blob was added"
                )
        # Not earlier: until now the file in quarantine was all that was left of the blob.
        if added is Added.CREATED:
            with suppress(StoreError):  # the blob is published, even if the damaged one stays
                return Added.HEALED if self._discarded(staged.digest) else Added.CREATED
        return added

    def remove(self, digest: Digest, check: Callable[[Blob], object] | None = None) -> Blob:
        """Remove a blob and return its description; raises BlobNotFound."""
        with disk_errors("cannot remove the blob"):
            try:
                with self._open_shard(digest) as shard:
                    with locked(shard.fd, needed=False):
                        blob = self.stat(digest)
                        if check is not None:
                            check(blob)
                        os.unlink(digest.hex, dir_fd=shard.fd)
                    if self._full:
                        shard.sync()
                    return blob
            except ABSENT:
                raise self._absent(digest) from None

    def expire(self, digest: Digest, modified: float) -> bool:
        """Remove a blob unless it was added again since `modified`; returns whether it was removed."""
        with disk_errors("cannot remove the blob"):
            try:
                with self._open_shard(digest) as shard:
                    return shard.expire(digest, modified)
            except ABSENT:
                self._require_marker()
                return False

    def quarantine(self, digest: Digest) -> bool:
        """Move a blob to quarantine if its bytes do not have its digest; returns whether it was damaged."""
        with disk_errors("cannot move the blob to quarantine"):
            try:
                with self._open_shard(digest) as shard:
                    moved = shard.quarantine(digest, self._quarantine)
                    if moved and self._full:
                        with Directory(self._quarantine) as quarantine:
                            os.fsync(quarantine.fd)
                        shard.sync()
                    return moved
            # Not ABSENT: a directory in the way in quarantine does not mean that the blob is absent.
            except (FileNotFoundError, NotADirectoryError):
                raise self._absent(digest) from None

    def quarantined(self) -> Iterator[Blob]:
        """Yield the blobs in quarantine in ascending order; `modified` is when each was moved there."""
        with disk_errors("cannot list the quarantine"):
            names = list_directory(self._quarantine)
        for name in filter(self.listing.name_of_blob.fullmatch, names):
            with disk_errors("cannot stat a blob in quarantine"), suppress(*ABSENT):
                with Directory(self._quarantine, NAME) as quarantine:
                    status = os.stat(name, dir_fd=quarantine.fd, follow_symlinks=False)
                # rename(2) sets the ctime; the mtime may hint at the cause of the damage.
                yield Blob(self.algorithm.parse(name), status.st_size, status.st_ctime)

    def discard(self, digest: Digest) -> None:
        """Remove a blob from quarantine; raises BlobNotFound."""
        if not self._discarded(digest):
            raise self._absent(digest)

    def load_note(self, name: str) -> bytes | None:
        """Return the contents of a note in the store, None if there is none."""
        with disk_errors("cannot read the note"), suppress(FileNotFoundError, NoFile):
            return read_file(os.path.join(self.root, name))
        return None

    def update_note(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a note atomically by the result of `change`, which gets the contents or None."""
        with (
            disk_errors("cannot write the note"),
            Root(self.root) as root,
            locked(root.fd, needed=False),
            StagedFile.named(self.staging_directory) as draft,
        ):
            with open(draft.fd, "wb", closefd=False) as file:
                file.write(change(self.load_note(name)))
            set_mode(draft.fd, 0o644)
            if self._sync:
                os.fsync(draft.fd)
            draft.rename(name, root.fd)
            if self._full:
                os.fsync(root.fd)

    def iterate(self, after: Digest | None = None) -> Iterator[Blob]:
        """Yield the blobs in ascending order of digest, beginning behind `after`."""
        yield from self.listing.blobs(after)
        self._require_marker()  # if the disk was unmounted meanwhile, blobs are missing

    def local_path(self, digest: Digest) -> str:
        """Return the path of a blob relative to the root, whether or not the blob exists."""
        return f"{digest.hex[:2]}/{digest.hex}"

    def _prepare(self) -> None:
        """Create what the store lacks; raises WrongStore and OSError."""
        if not marker.check(self.root, self.algorithm):
            marker.claim(self.root, self.staging_directory, self.algorithm)
        require_one_disk(self.root)
        with suppress(OSError):  # a disk that cannot be written can still be read
            make_directory(self.staging_directory)

    def _discarded(self, digest: Digest) -> bool:
        with disk_errors("cannot clear the quarantine"):
            try:
                with Directory(self._quarantine, NAME) as quarantine:
                    os.unlink(digest.hex, dir_fd=quarantine.fd)
                return True
            except ABSENT:
                return False

    def _in_shard(self, digest: Digest) -> Directory:
        """Open the directory of a blob, to look the blob up."""
        return Directory(f"{self.root}/{digest.hex[:2]}", NAME)

    def _absent(self, digest: Digest) -> BlobNotFound:
        self._require_marker()
        return BlobNotFound(hash=digest.hex)

    def _require_marker(self) -> None:
        """Raise StoreUnavailable unless the store is there: an unmounted disk is not an empty store."""
        if not os.path.exists(os.path.join(self.root, MARKER)):
            raise StoreUnavailable("the store's directory is missing")

    def _make_shard(self, name: str) -> Shard:
        path = os.path.join(self.root, name)
        if name not in self._shards:
            make_directory(path)
            # All shards together, also those of other processes that have not synced them yet: after a start
            # the root is synced once, and not once for each shard.
            there = [found for found in os.listdir(self.root) if SHARD.fullmatch(found)]
            if self._full:
                sync_directory(self.root)
            self._shards.update(there)
        return Shard(path)

    def _open_shard(self, digest: Digest) -> Shard:
        return Shard(os.path.join(self.root, digest.hex[:2]))
