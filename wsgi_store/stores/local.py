"""Blobs as plain files on a local disk: `ab/abcdef…` below the root."""

import itertools
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BlobNotFound,
    DigestCollision,
    StoreUnavailable,
    disk_errors,
)
from wsgi_store.stores import Blob, Durability, StagedFile, marker
from wsgi_store.stores.reader import LocalReader

STAGING = ".staging"
SHARD = re.compile("[0-9a-f]{2}")
BLOCK = 1 << 20
# Each round of `add` that finds a blob or a shard and then does not was crossed by a removal.
ROUNDS = 100
# Not blocking: a pipe in a blob's place must not hold its caller for ever.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Nothing is there, or something that is no blob.
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalStore:
    """A store in a directory of a local file system that has hard links."""

    def __init__(self, root: str, algorithm: Algorithm, durability: Durability = Durability.FULL) -> None:
        self.root = os.path.abspath(root)
        self.algorithm = algorithm
        self.staging_directory = os.path.join(self.root, STAGING)
        self._sync = durability is not Durability.NONE
        self._full = durability is Durability.FULL
        self._shards: set[str] = set()  # known to be there, and their names synced
        with disk_errors(f"cannot open the store {self.root}"):
            if not marker.check(self.root, algorithm):
                marker.claim(self.root, self.staging_directory, algorithm)
        with suppress(OSError):  # a disk that cannot be written is still read
            os.makedirs(self.staging_directory, exist_ok=True)

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob; raises BlobNotFound."""
        with disk_errors("cannot look at the blob"):
            try:
                return _blob(digest, os.stat(self._path(digest)))
            except ABSENT:
                raise self._absent(digest) from None

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> LocalReader:
        """Open `length` bytes from `start` on, to the end by default; raises BlobNotFound."""
        with disk_errors("cannot open the blob"):
            try:
                fd = os.open(self._path(digest), READ)
            except ABSENT:
                raise self._absent(digest) from None
            try:
                blob = _blob(digest, os.fstat(fd))
                start = os.lseek(fd, min(start, blob.size), os.SEEK_SET)
                return LocalReader(fd, blob, start, length)  # which looks at the file itself, too
            except BaseException:
                os.close(fd)
                raise

    def add(self, staged: StagedFile) -> bool:
        """Publish a staged file whole and at once; False when the blob was already held."""
        digest = staged.digest
        name = digest.hex[:2]
        with disk_errors("cannot publish the blob"):
            for _ in range(ROUNDS):
                try:
                    shard = self._open_shard(name)
                    try:
                        created = self._link(staged, shard, digest)
                        # After a dedup hit as well: whoever linked the blob may not have synced
                        # yet, and this upload is about to be acknowledged too.
                        if self._full:
                            os.fsync(shard)
                        return created
                    finally:
                        os.close(shard)
                except FileNotFoundError:
                    self._shards.discard(name)  # it may be the shard that was removed
        raise StoreUnavailable("the blob or its directory is removed as fast as it is made")

    def remove(self, digest: Digest) -> None:
        """Remove a blob; raises BlobNotFound."""
        path = self._path(digest)
        with disk_errors("cannot remove the blob"):
            try:
                os.unlink(path)
            except ABSENT:
                raise self._absent(digest) from None
            if self._full:
                with suppress(FileNotFoundError):  # the shard may be removed once it is empty
                    marker.sync_directory(os.path.dirname(path))

    def iterate(self, after: Digest | None = None) -> Iterator[Blob]:
        """Yield the blobs in ascending order of digest, from the one behind `after` on."""
        last = after.hex if after is not None else ""
        name_of_blob = re.compile(f"[0-9a-f]{{{2 * self.algorithm.size}}}")
        for shard in self._list("", SHARD):
            if shard < last[:2]:
                continue
            for name in self._list(shard, name_of_blob):
                if name > last and name.startswith(shard):
                    try:
                        yield self.stat(self.algorithm.parse(name))
                    except BlobNotFound:
                        continue  # removed since the directory was read
        self._require_marker()  # else a disk unmounted meanwhile would pass for fewer blobs

    def local_path(self, digest: Digest) -> str | None:
        """The blob's path relative to the root."""
        return f"{digest.hex[:2]}/{digest.hex}"

    def _path(self, digest: Digest) -> str:
        name = digest.hex
        return f"{self.root}/{name[:2]}/{name}"

    def _absent(self, digest: Digest) -> BlobNotFound:
        self._require_marker()
        return BlobNotFound(digest.hex)

    def _require_marker(self) -> None:
        """Raise unless the store is there: a disk that is not mounted is not an empty store."""
        if not os.path.exists(os.path.join(self.root, marker.NAME)):
            raise StoreUnavailable("the store's directory is not there")

    def _list(self, directory: str, pattern: re.Pattern[str]) -> list[str]:
        with disk_errors("cannot list the store"):
            try:
                names = os.listdir(os.path.join(self.root, directory))
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name for name in names if pattern.fullmatch(name))

    def _open_shard(self, name: str) -> int:
        path = os.path.join(self.root, name)
        if name not in self._shards:
            try:
                os.mkdir(path)
            except FileExistsError:
                pass  # by another process perhaps, which may not have synced it yet
            if self._full:
                marker.sync_directory(self.root)
            self._shards.add(name)
        return os.open(path, DIRECTORY)

    def _link(self, staged: StagedFile, shard: int, digest: Digest) -> bool:
        """Name the staged file; raises FileNotFoundError when a removal crossed it."""
        # link(2) never replaces a file, so EEXIST is the dedup signal, and the only one.
        # `dst_dir_fd` is what makes CPython call linkat(2), which can follow /proc's link.
        source = staged.path or f"/proc/self/fd/{staged.fd}"
        try:
            os.link(source, digest.hex, dst_dir_fd=shard, follow_symlinks=True)
            return True
        except FileExistsError:
            held = os.open(digest.hex, READ, dir_fd=shard)
        try:
            self._compare(staged, held, digest)
            if self._sync:
                os.fsync(held)  # it may have been copied here, or added with less durability
            return False
        finally:
            os.close(held)

    def _compare(self, staged: StagedFile, held: int, digest: Digest) -> None:
        """Raise unless the file held may stand for the staged one."""
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise StoreUnavailable("what lies in the place of this blob is not a file", hash=digest.hex)
        same_size = os.fstat(held).st_size == os.fstat(staged.fd).st_size
        if same_size and (digest.algorithm.collision_resistant or _same_bytes(staged.fd, held)):
            return
        hashed = digest.algorithm.new()
        for block in _blocks(held):
            hashed.update(block)
        if hashed.digest() == digest.raw:
            raise DigestCollision(digest.hex)
        raise StoreUnavailable("the file held under this hash is damaged", hash=digest.hex)


def _blob(digest: Digest, status: os.stat_result) -> Blob:
    if not stat.S_ISREG(status.st_mode):
        raise BlobNotFound(digest.hex)
    return Blob(digest, status.st_size, status.st_mtime)


def _blocks(fd: int) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(fd, BLOCK, offset):
        yield block
        offset += len(block)


def _same_bytes(first: int, second: int) -> bool:
    return all(a == b for a, b in itertools.zip_longest(_blocks(first), _blocks(second)))
