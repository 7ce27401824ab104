"""Optional abilities of a store, as protocols beside Store.

A caller tests for an ability once, with isinstance, when it gets the store.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import Blob, BlobReader, Publication
from wsgi_store.store.marker import Marker
from wsgi_store.store.pieces import PieceHashes
from wsgi_store.store.staged import Ahead, StagedFile


@runtime_checkable
class LocalPaths(Protocol):
    """A store whose blobs are files below one directory. It can be pickled for another process."""

    def local_path(self, digest: Digest) -> str:
        """Return the path of a blob relative to the root, whether or not the blob exists."""

    def nearby(self) -> AbstractContextManager[Callable[[Digest], BlobReader]]:
        """Yield a function that opens blobs as `open` does, in less time if they lie side by side."""


@runtime_checkable
class Pieces(Protocol):
    """A store that can tell the hashes of a blob's pieces. Every method raises StoreError."""

    def pieces(self, digest: Digest) -> PieceHashes:
        """Return the hashes of the pieces of a blob.

        Where none are kept, the whole blob is read and compared with its name. Raises BlobNotFound,
        StoreUnavailable if the blob is damaged, and Busy while another request does that.
        """

    def kept_pieces(self, blob: Blob) -> PieceHashes | None:
        """Return the hashes that are kept for a blob; None if none are, as for one that is a single piece."""

    def keep_pieces(self, blob: Blob, stamp: object, pieces: PieceHashes) -> None:
        """Keep the hashes of the pieces of a blob with this stamp (`BlobReader`), if there is room."""

    def sweep_pieces(self, *, remove: bool) -> Iterator[int]:
        """Yield the sizes in bytes of what is kept for blobs that are gone, after removing each.

        With `remove=False` nothing is removed.
        """


@runtime_checkable
class SignedURLs(Protocol):
    """A store from which clients can download blobs directly."""

    def url(self, digest: Digest, seconds: int, content_type: str, disposition: str) -> str | None:
        """Return a URL at which anybody can download a blob for `seconds`, whether or not it exists.

        Its responses have these values of Content-Type and Content-Disposition. Returns None if there is no
        key to sign a URL with. Raises StoreUnavailable.
        """


@runtime_checkable
class EarlyUploads(Protocol):
    """A store that can start to upload a file while the file is still being received."""

    def begin(self, staged: StagedFile, size: int | None, expected: Sequence[Digest]) -> Ahead | None:
        """Start to upload a file with the announced size and digests, if that is worthwhile.

        The caller puts the result in `staged.ahead`. Raises StoreError if the file could not be added.
        """


@runtime_checkable
class Renewal(Protocol):
    """A store that can renew a blob, as if it were added again, without its bytes."""

    def renew(self, digest: Digest, size: int) -> Publication | None:
        """Do what `add` does for a file that the store holds; returns the names that are known without it.

        `digest` is by an algorithm that is collision resistant, `size` is in bytes. Returns None, and
        changes nothing, if the store has no such blob of this size, or needs its bytes for that. Raises
        StoreError.
        """

    def renew_all(self, blobs: Mapping[Digest, int]) -> set[Digest]:
        """Renew blobs of these sizes in bytes, in less time; returns those that were renewed.

        Raises StoreError; then some may have been renewed.
        """


@runtime_checkable
class Leftovers(Protocol):
    """A store in which a killed process can leave more behind than a staged file."""

    def abandoned(self, before: float, *, remove: bool) -> Iterator[Blob]:
        """Yield the unfinished uploads that received no bytes since `before`, after removing each.

        `before` is in seconds since the epoch. `size` is the total of the received parts, `modified` the
        time of the last one. With `remove=False` nothing is removed. Raises StoreError.
        """

    def litter(self, before: float, *, remove: bool) -> Iterator[int]:
        """Yield the sizes of locks and test objects older than `before`, after removing each.

        The size is in bytes. With `remove=False` nothing is removed. Raises StoreError.
        """


@dataclass(frozen=True, slots=True)
class Hashed:
    """A blob that was read to its end: the name, what identified the file or object, and all its digests."""

    digest: Digest
    stamp: object
    """`BlobReader.stamp` when it was read."""
    digests: Mapping[Algorithm, Digest]


class Adopted(enum.Enum):
    """What became of a file under a further name that was to get its primary name."""

    NAMED = "named"
    """It has it now, and the further name leads to it."""
    JOINED = "joined"
    """It had both, as after a killed process or a copy by hand; now the further name leads to the blob."""
    HELD = "held"
    """It had it already."""
    GONE = "gone"
    """It was removed."""
    CHANGED = "changed"
    """Another file has the name now, or the store names its blobs otherwise: read it again."""
    DAMAGED = "damaged"
    """A damaged blob had the primary name; it is in quarantine now. Try again."""
    UNLINKABLE = "unlinkable"
    """The system does not let this user link the file (fs.protected_hardlinks)."""


@runtime_checkable
class Names(Protocol):
    """A store that can give its blobs further names, and other primary ones, while it is in use.

    Every method raises StoreError.
    """

    def marker(self) -> Marker:
        """Read by which algorithms the store names its blobs."""

    def change_marker(self, change: Callable[[Marker], Marker]) -> Marker:
        """Replace the marker when no write is under way; returns the new one.

        `change` gets the present marker; what it raises leaves that as it is. Raises StoreUnavailable if a
        write takes too long, WrongStore if the store cannot exclude writes.
        """

    def strays(self, algorithm: Algorithm, after: Digest | None = None) -> Iterator[Blob]:
        """Yield the blobs that have only a name by `algorithm`, a further one, in ascending order."""

    def adopt(self, found: Sequence[Hashed]) -> list[Adopted]:
        """Give strays their primary names, and their other names; returns what became of each.

        Their digests match their names. Their names begin with the same two digits.
        """

    def give_names(
        self, found: Iterable[Hashed], mended: list[Digest] | None = None
    ) -> dict[Digest, list[Algorithm]]:
        """Give blobs, by their primary names, all further names that they lack.

        Returns by which algorithms a name belongs to another blob; blobs that were removed are left out.
        Names that led to a blob without that digest, and now lead to the right one, are added to `mended`.
        """

    def links(self, algorithm: Algorithm, after: Digest | None = None) -> Iterator[tuple[Digest, Digest]]:
        """Yield the further names by `algorithm`, each with the name it leads to, even if that is absent."""

    def remove_link(self, name: Digest, target: Digest) -> bool:
        """Remove a further name if it still leads to `target`; returns whether it was removed."""

    def sweep_names(self, *, remove: bool) -> Iterator[str]:
        """Yield the further names that lead nowhere, and those by algorithms that are not kept.

        Each is removed before; with `remove=False` nothing is.
        """

    def name_sizes(self) -> Iterator[int]:
        """Yield for each further name the bytes that it takes, apart from an inode."""

    def require_room(self, names: int) -> None:
        """Raise StorageFull unless there is room for so many more names of every blob."""

    def settle_names(self) -> Iterator[Digest]:
        """Make names that lead to an old name lead to the primary one instead; yields each."""
