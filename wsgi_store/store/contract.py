"""What a store is: the contract in its docstrings, and the values it deals in."""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.staged import StagedFile


class Durability(enum.Enum):
    """What is synced before an upload is acknowledged (fsync(2))."""

    FULL = "full"
    """The file and the directory that names it: survives a power failure."""
    FILE = "file"
    """The file: after a power failure it may have lost its name."""
    NONE = "none"
    """Nothing: survives the end of this process, not that of the machine."""


class Added(enum.Enum):
    """What became of a staged file given to a store."""

    CREATED = "created"
    """It is a blob now; there was none under its digest."""
    HELD = "held"
    """There was such a blob already."""
    HEALED = "healed"
    """It is a blob now, in the place of a damaged one or of one in quarantine."""


@dataclass(frozen=True, slots=True)
class Blob:
    """An immutable file in a store: its digest, its size in bytes, when it was last added.

    An upload that found it already held added it, too. See `Store.granularity`.
    """

    digest: Digest
    size: int
    modified: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Remote:
    """How an object store is reached, beside its URL and the variables that its clients know."""

    staging: str
    """The local directory that uploads are received in."""
    endpoint: str | None = None
    path_style: bool = True
    timeout: float = 10.0
    """Seconds that the store may leave a request unanswered."""


class BlobReader(Protocol):
    """Part of a blob's bytes, read from its beginning to its end.

    A reader of a local file also has `fileno()`, whose offset is that of the first byte.
    """

    blob: Blob

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, b"" only at the end of the part."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the rest in pieces, for servers and hosts that ask a body for no more than that."""

    def seek(self, offset: int, /) -> int:
        """Go on from `offset`, a number of bytes from the beginning of the blob."""

    def close(self) -> None:
        """Release what the reader holds; more than once does no harm.

        Raises StoreUnavailable when the blob turned out to be damaged, so that no answer made
        of it ends as if it were whole.
        """


class Store(Protocol):
    """Immutable blobs, each under the digest of its bytes.

    `add` is given staged files only: whole, hashed, counted, and synced where it keeps them.
    Implementations raise subclasses of StoreError, never OSError or a client library's own errors.
    Every method may be called by any number of threads and processes at once. What only some stores can
    do is in `abilities`.
    """

    algorithm: Algorithm
    staging_directory: str
    """Where a file has to be staged for `add` to take it."""
    keeps_staged: bool
    """Whether the staged file itself becomes the blob, so that it has to be synced before."""
    granularity: float
    """Seconds within which a blob may be added again and keep its `modified`."""
    read_only: bool
    """Whether nothing is written to it; what would be raises ReadOnly."""

    def check(self) -> None:
        """Ask the store now whether it is there and takes writes; raises StoreUnavailable.

        Raises WrongStore for what will not pass by itself.
        """

    def made(self) -> float:
        """When the store was made, in seconds since the epoch; raises StoreUnavailable."""

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob; raises BlobNotFound."""

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> BlobReader:
        """Open `length` bytes from `start` on, to the end by default; raises BlobNotFound.

        Removing the blob afterwards does not disturb the reader.
        """

    def add(self, staged: StagedFile) -> Added:
        """Publish a staged file whole and at once; tells what there was before.

        On return the blob survives a power failure, as far as the store was asked to see to
        it. A blob held that has another size is damaged, and is healed: exactly one of the
        uploads that find it so puts its bytes in that place. A blob in quarantine is healed
        too, and what lay in quarantine is removed.

        Where the algorithm is not collision resistant the bytes are compared as well. If they
        are others, a blob that has its digest makes this raise DigestCollision, and one that
        has not is damaged and healed.
        """

    def remove(self, digest: Digest, check: Callable[[Blob], object] | None = None) -> Blob:
        """Remove a blob and tell what it was; raises BlobNotFound.

        What `check` raises of the blob keeps it: an upload that renews it comes before, and is
        seen by that, or after, and then creates it.
        """

    def expire(self, digest: Digest, modified: float) -> bool:
        """Remove a blob unless it was added since it was `modified`; False when it stays or is gone.

        Safe beside uploads if `modified` was more than `granularity` ago when it was looked at; a
        younger blob may stay. It is not synced: after a power failure the blob may be there again.
        """

    def quarantine(self, digest: Digest) -> bool:
        """Take a blob out of service if its bytes do not have its digest; False when they do.

        It is absent from then on, and its bytes are kept aside. The store reads them itself, so
        that whatever others do meanwhile no good blob is moved away. Raises BlobNotFound.
        """

    def quarantined(self) -> Iterator[Blob]:
        """Yield what is in quarantine, in ascending order; `modified` is since when."""

    def discard(self, digest: Digest) -> None:
        """Remove what is in quarantine under a digest; raises BlobNotFound."""

    def load_note(self, name: str) -> bytes | None:
        """Read a note that was left in the store; None when there is none."""

    def update_note(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Put what `change` makes of a note in its place, whole and at once; None where there was none.

        Of several updates at once each begins with what the one before left, wherever the store
        has locks. A note holds what can be found out anew; its name is that of a hidden file.
        """

    def iterate(self, after: Digest | None = None) -> Iterator[Blob]:
        """Yield the blobs in ascending order of digest, from the one behind `after` on.

        One that cannot be looked at raises StoreUnavailable with its `hash`; the others may still
        be asked for from there on.
        """
