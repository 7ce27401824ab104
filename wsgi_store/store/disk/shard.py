"""A shard: a directory of blobs, in which names are given, replaced and removed."""

import errno
import fcntl
import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from wsgi_store.digest import Digest
from wsgi_store.errors import DigestCollision, StoreUnavailable
from wsgi_store.filesystem import NAME, Directory, NoFile, locked, make_directory, open_file, touch
from wsgi_store.hashing import blocks, hash_file
from wsgi_store.store.contract import Added
from wsgi_store.store.disk.names import is_link, read_link, target_of
from wsgi_store.store.staged import StagedFile


class Shard(Directory):
    """A directory of blobs, open while this is used as a context manager.

    Creating a name needs no lock, because link(2) and symlink(2) never replace one. Removing or replacing a
    name takes an exclusive lock of the directory (flock(2)), and acknowledging an upload by an existing name
    a shared one, so that the two never overlap.

    Methods raise OSError, FileNotFoundError also if the name was removed or changed meanwhile.
    """

    @contextmanager
    def held(self, digest: Digest) -> Iterator[int]:
        """Open the file of a digest; raises StoreUnavailable if it is not a regular file."""
        try:
            fd, _ = open_file(digest.hex, self.fd)
        except NoFile as error:
            if is_link(read_link(digest.hex, self.fd) or ""):
                raise FileNotFoundError(errno.ENOENT, "this name leads to another one now") from None
            raise not_a_file(digest) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def link(self, staged: StagedFile, digest: Digest) -> bool:
        """Link a staged file under its primary name; False if there is something under that name."""
        # EEXIST is the only sign of a duplicate: checking first would be a race.
        try:
            staged.link(digest.hex, self.fd)
        except FileExistsError:
            return False
        return True

    def meet(self, staged: StagedFile, digest: Digest, staging: str, sync: Callable[[int], object]) -> Added:
        """Let an existing file stand for a staged one, or replace it if it is damaged.

        `sync` gets the descriptor of a file that stands for it. Raises DigestCollision.
        """
        with self.held(digest) as held:
            whole = _stands_for(held, staged, digest)
            # The time of another user's file cannot be set: the staged file, which is newer, replaces it.
            if whole and self._renew(digest, held):
                sync(held)  # it may have been copied here, or added with a lower durability
                return Added.HELD
            self._replace(staged, digest, held, staging)
            return Added.HELD if whole else Added.HEALED

    def renew(self, digest: Digest, size: int, *, sync: bool) -> bool:
        """Let a file count as added now; False if it has not this size, or its time cannot be set."""
        with self.held(digest) as held:
            if os.fstat(held).st_size != size or not self._renew(digest, held):
                return False
            if sync:
                os.fsync(held)
        return True

    def name(self, name: Digest, primary: Digest) -> bool:
        """Make a name lead to a primary one; False if there is something under that name."""
        try:
            os.symlink(target_of(primary), name.hex, dir_fd=self.fd)
        except FileExistsError:
            return False
        return True

    def rename(self, names: Iterable[tuple[Digest, Digest]], staging: str) -> None:
        """Make names lead to primary ones instead of what is there; the caller holds the lock."""
        drafts = (f"{number:032x}" for number in itertools.count(secrets.randbits(127)))
        with Directory(staging, NAME) as place:
            for name, primary in names:
                self._rename(name.hex, target_of(primary), drafts, place.fd)

    def _rename(self, name: str, target: str, drafts: Iterator[str], place: int) -> None:
        while True:
            draft = next(drafts)
            os.symlink(target, draft, dir_fd=place)
            try:
                os.rename(draft, name, src_dir_fd=place, dst_dir_fd=self.fd)
                return
            except FileNotFoundError:
                # A link cannot be locked, so another process may have swept it.
                if _removed(draft, place):
                    raise
            except BaseException:
                _removed(draft, place)
                raise

    def leads(self, name: Digest, primary: Digest) -> bool:
        """Whether a name is a link to this primary one."""
        return read_link(name.hex, self.fd) == target_of(primary)

    def sync(self) -> None:
        """Make the names that were given and taken away survive a power failure (fsync(2))."""
        os.fsync(self.fd)

    def quarantine(self, digest: Digest, directory: str) -> bool:
        """Move a file to `directory` unless its bytes have its digest; returns whether it was moved."""
        with self.held(digest) as held:
            if has_digest(held, digest):
                return False
            make_directory(directory)
            with Directory(directory, NAME) as place, locked(self.fd):
                self.require(digest, held)
                os.rename(digest.hex, digest.hex, src_dir_fd=self.fd, dst_dir_fd=place.fd)
        return True

    def require(self, digest: Digest, held: int) -> None:
        """Raise FileNotFoundError unless the open file `held` has this name."""
        # The file is open, so its inode number cannot have been reused.
        there = os.stat(digest.hex, dir_fd=self.fd, follow_symlinks=False)
        if not os.path.samestat(there, os.fstat(held)):
            raise FileNotFoundError(errno.ENOENT, "another file now has this name")

    def _renew(self, digest: Digest, held: int) -> bool:
        """Set the time of a blob to now, so that it does not expire; False if its time cannot be set."""
        with locked(self.fd, fcntl.LOCK_SH, needed=False):
            self.require(digest, held)
            return touch(held)

    def _replace(self, staged: StagedFile, digest: Digest, held: int, staging: str) -> None:
        """Replace the file `held` by a staged one, if it still has the name."""
        if staged.path is None:
            # rename(2) needs a name, which is locked and swept like that of every staged file.
            fcntl.flock(staged.fd, fcntl.LOCK_EX)
            name = secrets.token_hex(16)
            with Directory(staging, NAME) as place:
                staged.link(name, place.fd)
            staged.path = os.path.join(staging, name)
        with locked(self.fd):
            self.require(digest, held)
            staged.rename(digest.hex, self.fd)


def _removed(name: str, directory: int) -> bool:
    """Remove a draft unless that fails, which leaves it to a sweep; False if there was none."""
    try:
        os.unlink(name, dir_fd=directory)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return True


def not_a_file(digest: Digest) -> StoreUnavailable:
    """Return the failure for a name that leads to no regular file."""
    return StoreUnavailable("the path of this blob is not a regular file", hash=digest.hex)


def has_digest(fd: int, digest: Digest) -> bool:
    """Whether the bytes of a file have a digest; raises OSError."""
    return hash_file(fd, (digest.algorithm,))[digest.algorithm] == digest


def same_bytes(first: int, second: int) -> bool:
    """Whether two files have the same bytes; raises OSError."""
    if os.fstat(first).st_size != os.fstat(second).st_size:
        return False
    return all(a == b for a, b in itertools.zip_longest(blocks(first), blocks(second)))


def _stands_for(held: int, staged: StagedFile, digest: Digest) -> bool:
    """Whether the existing file is the same blob as the staged one, not damaged; raises DigestCollision."""
    if digest.algorithm.collision_resistant:
        same = os.fstat(held).st_size == os.fstat(staged.fd).st_size
    else:
        same = same_bytes(staged.fd, held)
    if same:
        return True
    if has_digest(held, digest):
        raise DigestCollision(hash=digest.hex)
    return False
