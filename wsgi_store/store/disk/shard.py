"""A directory of blobs: how names are given to files, passed on to better ones and taken away."""

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
    """A directory of blobs, open as long as this is used as a context manager.

    A new name takes no lock, because link(2) never replaces one. Whoever takes a name away, or
    passes it on, holds an exclusive lock of the directory meanwhile (flock(2)), and whoever
    acknowledges an upload by a name that is there a shared one. So neither can cross another.

    Methods raise OSError: FileNotFoundError also where the name was taken away meanwhile.
    """

    @contextmanager
    def held(self, digest: Digest) -> Iterator[int]:
        """Open the file that has the name; raises StoreUnavailable where it is not a file."""
        try:
            fd, _ = open_file(digest.hex, self.fd)
        except NoFile as error:
            message = "what lies in the place of this blob is not a file"
            raise StoreUnavailable(message, hash=digest.hex) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def add(self, staged: StagedFile, staging_directory: str, *, sync: bool) -> Added:
        """Name a staged file, unless the name is held by a good one; raises DigestCollision."""
        digest = staged.digest
        touch(staged.fd)  # the last of its bytes may have been written long before
        # EEXIST is the dedup signal, and the only one.
        try:
            staged.link(digest.hex, self.fd)
            return Added.CREATED
        except FileExistsError:
            pass
        with self.held(digest) as held:
            whole = _stands_for(held, staged)
            # Where the file is another user's, ours, which is younger, goes in its place.
            if whole and self._renew(digest, held):
                if sync:
                    os.fsync(held)  # it may have been copied here, or added with less durability
                return Added.HELD
            self._replace(staged, held, staging_directory)
            return Added.HELD if whole else Added.HEALED

    def sync(self) -> None:
        """Make the names that were given and taken away survive a power failure (fsync(2))."""
        os.fsync(self.fd)

    def expire(self, digest: Digest, modified: float) -> bool:
        """Take a name away unless its file was added since; see Store."""
        with locked(self.fd):
            if os.stat(digest.hex, dir_fd=self.fd, follow_symlinks=False).st_mtime != modified:
                return False
            os.unlink(digest.hex, dir_fd=self.fd)
        return True

    def quarantine(self, digest: Digest, directory: str) -> bool:
        """Move a file whose bytes do not have its name into a directory; False when they do."""
        with self.held(digest) as held:
            if _hashes(held, digest):
                return False
            make_directory(directory)
            with Directory(directory, NAME) as place, locked(self.fd):
                self._require_name(digest, held)
                os.rename(digest.hex, digest.hex, src_dir_fd=self.fd, dst_dir_fd=place.fd)
        return True

    def _renew(self, digest: Digest, held: int) -> bool:
        """Have the blob added now, so that it does not expire; False where that cannot be told of it."""
        with locked(self.fd, fcntl.LOCK_SH, needed=False):
            self._require_name(digest, held)
            return touch(held)

    def _replace(self, staged: StagedFile, held: int, staging_directory: str) -> None:
        """Pass the name on to a staged file, if it is still that of the file held."""
        if staged.path is None:
            # rename(2) needs a name. It is locked like that of every staged file, and swept like one.
            fcntl.flock(staged.fd, fcntl.LOCK_EX)
            name = secrets.token_hex(16)
            with Directory(staging_directory, NAME) as place:
                staged.link(name, place.fd)
            staged.path = os.path.join(staging_directory, name)
        with locked(self.fd):
            self._require_name(staged.digest, held)
            staged.rename(staged.digest.hex, self.fd)

    def _require_name(self, digest: Digest, held: int) -> None:
        # The file is open, so that no other can have got its inode number.
        there = os.stat(digest.hex, dir_fd=self.fd, follow_symlinks=False)
        if not os.path.samestat(there, os.fstat(held)):
            raise FileNotFoundError(errno.ENOENT, "another file has got this name")


def _stands_for(held: int, staged: StagedFile) -> bool:
    """Whether the file held may stand for the staged one, or is damaged; raises DigestCollision."""
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
