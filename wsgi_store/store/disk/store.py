"""Blobs as plain files on a local disk: `ab/abcdef…` below the root."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

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
)
from wsgi_store.store.contract import Blob, Durability, Publication
from wsgi_store.store.disk import marker as markers
from wsgi_store.store.disk.capabilities import STAGING, require_one_disk
from wsgi_store.store.disk.keeping import NameKeeping
from wsgi_store.store.disk.listing import Listing, describe, digest_of
from wsgi_store.store.disk.lookup import find_all, renew_all
from wsgi_store.store.disk.names import is_link, stat_file
from wsgi_store.store.disk.pieces import PieceKeeping
from wsgi_store.store.disk.publish import publish, renew
from wsgi_store.store.disk.reader import LocalReader
from wsgi_store.store.disk.removal import remove
from wsgi_store.store.disk.tree import Nearby, Tree, discarded
from wsgi_store.store.marker import NAME as MARKER
from wsgi_store.store.marker import Marker, Wanted
from wsgi_store.store.pieces import LENGTH
from wsgi_store.store.staged import StagedFile

# Looks for a file that is replaced or gets another name each time.
ROUNDS = 100


class LocalStore(NameKeeping, PieceKeeping):
    """A store in a directory of a local file system that has hard links."""

    granularity = 2.0  # some file systems keep whole seconds
    keeps_staged = True
    read_only = False

    def __init__(
        self,
        root: str,
        algorithm: Algorithm | None,
        durability: Durability = Durability.FULL,
        *,
        names: Sequence[Algorithm] | None = None,
        create: bool = False,
    ) -> None:
        self.root = os.path.abspath(root)
        self.staging_directory = os.path.join(self.root, STAGING)
        self._wanted = Wanted.of(algorithm, names, create)
        with disk_errors(f"cannot open the store {self.root}"):
            marker = self._prepare(self._wanted)
        self._tree = Tree(self.root, markers.OpenMarker(self.root, marker), durability)
        self.listing = Listing(self._tree)

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms of the names, the primary one first, as last read."""
        return self._tree.marker.last.algorithms

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the primary names, as last read."""
        return self._tree.marker.last.algorithm

    def refresh(self) -> tuple[Algorithm, ...]:
        """Read `algorithms` anew; raises StoreUnavailable."""
        return self._tree.marker.refresh().algorithms

    def check(self) -> None:
        """Raise StoreUnavailable unless the store is there; Staging tests that it can be written.

        Raises WrongStore if it is another one.
        """
        self._require_store()
        with disk_errors("cannot check the store"):
            require_one_disk(self.root)

    def made(self) -> float:
        """Return when the store was created, in seconds since the epoch; raises StoreUnavailable."""
        made = self._tree.marker.refresh().made
        with disk_errors("cannot stat the store"):
            return os.stat(os.path.join(self.root, MARKER)).st_mtime if made is None else made

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob; raises BlobNotFound."""
        with disk_errors("cannot stat the blob"):
            status, at = self._tree.find(digest, stat_file)
        return describe(digest, status, at)

    def sizes(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """Return the sizes in bytes of those of these blobs that the store has."""
        with disk_errors("cannot stat the blobs"):
            return {digest: size for digest, (size, _) in find_all(self._tree, digests).items()}

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> LocalReader:
        """Open `length` bytes from `start`, by default to the end; raises BlobNotFound."""
        with disk_errors("cannot open the blob"):
            (fd, status), at = self._tree.find(digest, open_file)
            try:
                blob = describe(digest, status, at)
                if start:
                    start = os.lseek(fd, min(start, blob.size), os.SEEK_SET)
                return LocalReader(fd, blob, status, start, length)
            except BaseException:
                os.close(fd)
                raise

    @contextmanager
    def nearby(self) -> Iterator[Callable[[Digest], LocalReader]]:
        """Yield a function that opens blobs, and looks up the directory only of the first in a shard."""
        with Nearby(self._tree) as nearby:

            def open_(digest: Digest) -> LocalReader:
                found = nearby.find(digest)
                if found is None:
                    return self.open(digest)
                fd, status = found
                return LocalReader(fd, describe(digest, status, digest), status)

            yield open_

    def add(self, staged: StagedFile, under: Digest | None = None) -> Publication:
        """Publish a staged file in one atomic step, by all its names."""
        (outcome,) = publish(self._tree, [staged], under)
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def add_all(self, staged: Sequence[StagedFile]) -> list[Publication | StoreError]:
        """Publish staged files as `add` does; returns the outcome of each."""
        return publish(self._tree, staged)

    def renew(self, digest: Digest, size: int) -> Publication | None:
        """Let a blob of this size count as added now; None if that takes its bytes."""
        with disk_errors("cannot renew the blob"), self._tree.marker.held() as marker:
            return renew(self._tree, digest, size, marker)

    def renew_all(self, blobs: Mapping[Digest, int]) -> set[Digest]:
        """Let blobs of these sizes count as added now; returns those that do."""
        with disk_errors("cannot renew the blobs"), self._tree.marker.held() as marker:
            return renew_all(self._tree, blobs, marker)

    def remove(self, digest: Digest, check: Callable[[Blob], object] | None = None) -> Blob:
        """Remove a blob and return its description; raises BlobNotFound."""

        def permit(blob: Blob) -> bool:
            if check is not None:
                check(blob)
            return True

        with disk_errors("cannot remove the blob"), self._tree.marker.held() as marker:
            blob = remove(self._tree, digest, marker, permit, synced=True)
        assert blob is not None  # it was permitted
        if blob.size > LENGTH:
            self.forget_pieces(blob.names[0])
        return blob

    def expire(self, digest: Digest, modified: float) -> bool:
        """Remove a blob unless it was added again since `modified`; returns whether it was removed."""
        with disk_errors("cannot remove the blob"), self._tree.marker.held() as marker:
            try:
                gone = remove(
                    self._tree, digest, marker, lambda blob: blob.modified == modified, synced=False
                )
            except BlobNotFound:
                return False
        if gone is not None and gone.size > LENGTH:
            self.forget_pieces(gone.names[0])
        return gone is not None

    def quarantine(self, digest: Digest) -> bool:
        """Move a blob to quarantine if its bytes do not have its digest; returns whether it was damaged."""
        with disk_errors("cannot move the blob to quarantine"), self._tree.marker.held():
            for _ in range(ROUNDS):
                at = self._find(digest)
                # Not ABSENT: a directory in the way in quarantine does not mean that the blob is absent.
                with suppress(FileNotFoundError, NotADirectoryError), self._tree.shard(at or digest) as shard:
                    moved = shard.quarantine(at or digest, self._tree.quarantine)
                    if moved and self._tree.full:
                        with Directory(self._tree.quarantine) as quarantine:
                            os.fsync(quarantine.fd)
                        shard.sync()
                    if moved:
                        self.forget_pieces(at or digest)
                    return moved
                if at is None:
                    raise BlobNotFound(hash=digest.hex)
            raise StoreUnavailable(
                "the blob kept being replaced while it was moved to quarantine", hash=digest.hex
            )

    def quarantined(self) -> Iterator[Blob]:
        """Yield the blobs in quarantine in ascending order; `modified` is when each was moved there."""
        with disk_errors("cannot list the quarantine"):
            names = list_directory(self._tree.quarantine)
        algorithms = self.refresh()
        for name in names:
            for digest in filter(None, (digest_of(one, name) for one in algorithms)):
                with disk_errors("cannot stat a blob in quarantine"), suppress(*ABSENT):
                    with Directory(self._tree.quarantine, NAME) as quarantine:
                        status = os.stat(name, dir_fd=quarantine.fd, follow_symlinks=False)
                    # rename(2) sets the ctime; the mtime may hint at the cause of the damage.
                    yield Blob(digest, status.st_size, status.st_ctime)

    def discard(self, digest: Digest) -> None:
        """Remove a blob from quarantine; raises BlobNotFound."""
        if not self._discarded(digest):
            self._tree.marker.refresh()
            raise BlobNotFound(hash=digest.hex)

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
            if self._tree.sync:
                os.fsync(draft.fd)
            draft.rename(name, root.fd)
            if self._tree.full:
                os.fsync(root.fd)

    def iterate(self, after: Digest | None = None, algorithm: Algorithm | None = None) -> Iterator[Blob]:
        """Yield the blobs in ascending order of their names by an algorithm, beginning behind `after`."""
        if algorithm is None:
            algorithm = after.algorithm if after is not None else self._tree.marker.refresh().listed
        yield from self.listing.blobs(algorithm, after)
        self._tree.marker.refresh()  # if the disk was unmounted meanwhile, blobs are missing

    def local_path(self, digest: Digest) -> str:
        """Return the path of a name relative to the root, whether or not it exists."""
        return f"{digest.hex[:2]}/{digest.hex}"

    def _require_store(self) -> None:
        # A migration may have changed the names, but keeps the algorithm as one of them.
        Wanted(self._wanted.algorithm).require(self._tree.marker.refresh(), self.root)

    def _prepare(self, wanted: Wanted) -> Marker:
        """Create what the store lacks; raises WrongStore, StoreUnavailable and OSError."""
        marker = markers.check(self.root, wanted)
        if marker is None:
            if not wanted.create:
                raise StoreUnavailable(f"there is no store at {self.root}")
            marker = markers.claim(self.root, self.staging_directory, wanted)
        require_one_disk(self.root)
        with suppress(OSError):  # a disk that cannot be written can still be read
            make_directory(self.staging_directory)
        return marker

    def _find(self, digest: Digest) -> Digest | None:
        """Return the name of a blob's file; None if something else may be there. Raises BlobNotFound."""
        try:
            return self._tree.find(digest, stat_file)[1]
        except BlobNotFound:
            if is_link(self._text(digest.hex) or ""):
                raise
            return None

    def _discarded(self, digest: Digest) -> bool:
        with disk_errors("cannot clear the quarantine"):
            try:
                with Directory(self._tree.quarantine, NAME) as quarantine:
                    return discarded(digest, quarantine)
            except ABSENT:
                return False
