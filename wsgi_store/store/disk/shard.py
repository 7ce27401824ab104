"""A shard: a directory of blobs, in which names are linked, replaced and removed."""

import errno
import fcntl
import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from wsgi_store.digest import Digest
from wsgi_store.errors import DigestCollision, StoreUnavailable
from wsgi_store.filesystem import NAME, Directory, NoFile, locked, make_directory, open_file, touch
from wsgi_store.store.contract import Added
from wsgi_store.store.staged import StagedFile

COMPARE_SIZE = 1 << 20


class Shard(Directory):
    """A directory of blobs, open while this is used as a context manager.

    Creating a name needs no lock, because link(2) never replaces one. Removing or replacing a name takes an
    exclusive lock of the directory (flock(2)), and acknowledging an upload by an existing name a shared one,
    so that the two never overlap.

    Methods raise OSError, FileNotFoundError also if the name was removed meanwhile.
    """

    @contextmanager
    def held(self, digest: Digest) -> Iterator[int]:
        """Open the file of a digest; raises StoreUnavailable if it is not a regular file."""
        try:
            fd, _ = open_file(digest.hex, self.fd)
        except NoFile as error:
            message = "the path of this blob is not a regular file"
            raise StoreUnavailable(message, hash=digest.hex) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def add(self, staged: StagedFile, staging_directory: str, *, sync: bool) -> Added:
        """Link a staged file under its digest, unless a good one has that name; raises DigestCollision."""
        digest = staged.digest
        touch(staged.fd)  # its last byte may have been written long ago
        # EEXIST is the only sign of a duplicate: checking first would be a race.
        try:
            staged.link(digest.hex, self.fd)
            return Added.CREATED
        except FileExistsError:
            pass
        with self.held(digest) as held:
            whole = _stands_for(held, staged)
            # The time of another user's file cannot be set: the staged file, which is newer, replaces it.
            if whole and self._renew(digest, held):
                if sync:
                    os.fsync(held)  # it may have been copied here, or added with a lower durability
                return Added.HELD
            self._replace(staged, held, staging_directory)
            return Added.HELD if whole else Added.HEALED

    def sync(self) -> None:
        """Make the names that were given and taken away survive a power failure (fsync(2))."""
        os.fsync(self.fd)

    def expire(self, digest: Digest, modified: float) -> bool:
        """Remove a name unless its file was added again since `modified`; see Store."""
        with locked(self.fd):
            if os.stat(digest.hex, dir_fd=self.fd, follow_symlinks=False).st_mtime != modified:
                return False
            os.unlink(digest.hex, dir_fd=self.fd)
        return True

    def quarantine(self, digest: Digest, directory: str) -> bool:
        """Move a file to `directory` unless its bytes have its digest; returns whether it was moved."""
        with self.held(digest) as held:
            if _hashes(held, digest):
                return False
            make_directory(directory)
            with Directory(directory, NAME) as place, locked(self.fd):
                self._require_name(digest, held)
                os.rename(digest.hex, digest.hex, src_dir_fd=self.fd, dst_dir_fd=place.fd)
        return True

    def _renew(self, digest: Digest, held: int) -> bool:
        """Set the time of a blob to now, so that it does not expire; False if its time cannot be set."""
        with locked(self.fd, fcntl.LOCK_SH, needed=False):
            self._require_name(digest, held)
            return touch(held)

    def _replace(self, staged: StagedFile, held: int, staging_directory: str) -> None:
        """Replace the file `held` by a staged one, if it still has the name."""
        if staged.path is None:
            # rename(2) needs a name, which is locked and swept like that of every staged file.
            fcntl.flock(staged.fd, fcntl.LOCK_EX)
            name = secrets.token_hex(16)
            with Directory(staging_directory, NAME) as place:
                staged.link(name, place.fd)
            staged.path = os.path.join(staging_directory, name)
        with locked(self.fd):
            self._require_name(staged.digest, held)
            staged.rename(staged.digest.hex, self.fd)

    def _require_name(self, digest: Digest, held: int) -> None:
        # The file is open, so its inode number cannot have been reused.
        there = os.stat(digest.hex, dir_fd=self.fd, follow_symlinks=False)
        if not os.path.samestat(there, os.fstat(held)):
            raise FileNotFoundError(errno.ENOENT, "another file now has this name")


def _stands_for(held: int, staged: StagedFile) -> bool:
    """Whether the existing file is the same blob as the staged one, not damaged; raises DigestCollision."""
    digest = staged.digest
    same_size = os.fstat(held).st_size == os.fstat(staged.fd).st_size
    if same_size and (digest.algorithm.collision_resistant or _same_bytes(staged.fd, held)):
        return True
    if _hashes(held, digest):
        raise DigestCollision(hash=digest.hex)
    return False


def _hashes(fd: int, digest: Digest) -> bool:
    hashed = digest.algorithm.new()
    for block in _blocks(fd):
        hashed.update(block)
    return hashed.digest() == digest.raw


def _blocks(fd: int) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(fd, COMPARE_SIZE, offset):
        yield block
        offset += len(block)


def _same_bytes(first: int, second: int) -> bool:
    return all(a == b for a, b in itertools.zip_longest(_blocks(first), _blocks(second)))
