"""The contract of a store, written as the docstrings of Store, and the types that it uses."""

import enum
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import StoreError
from wsgi_store.store.staged import StagedFile


class Durability(enum.Enum):
    """How much is synced before an upload is acknowledged (fsync(2))."""

    FULL = "full"
    """The file and the directory that names it: survives a power failure."""
    FILE = "file"
    """The file: after a power failure its name may be missing."""
    NONE = "none"
    """Nothing: survives the end of the process, not that of the machine."""


class Added(enum.Enum):
    """The result of adding a staged file to a store."""

    CREATED = "created"
    """It became a blob; the store had none with its digest."""
    HELD = "held"
    """The store had the blob already."""
    HEALED = "healed"
    """It became a blob, and replaced a damaged one or one in quarantine."""


@dataclass(frozen=True, slots=True)
class Blob:
    """An immutable file in a store: a name of it, its size in bytes, and when it was last added.

    `digest` is the name by which it was asked for or listed. An upload of a blob that the store already has
    counts as adding it. See `Store.granularity`.
    """

    digest: Digest
    size: int
    modified: float  # seconds since the epoch
    primary: Digest | None = None
    """Its primary name if `digest` is another one; its old name as long as it awaits a migration."""

    @property
    def names(self) -> tuple[Digest, ...]:
        """The names that the store knows at this moment, the primary one first."""
        return (self.digest,) if self.primary is None else (self.primary, self.digest)


@dataclass(frozen=True, slots=True)
class Publication:
    """The result of adding a staged file: what the store had before, and the names that lead to the blob."""

    added: Added
    names: tuple[Digest, ...]
    """The primary name first."""
    ambiguous: tuple[Algorithm, ...] = ()
    """Algorithms that are not collision resistant and by which another blob has the same name."""


@dataclass(frozen=True, slots=True)
class Remote:
    """How to reach an object store, in addition to its URL and the variables that its clients read."""

    staging: str
    """The local directory in which uploads are received."""
    endpoint: str | None = None
    path_style: bool = True
    timeout: float = 10.0
    """Seconds that the store may take to answer a request."""


class BlobReader(Protocol):
    """Reads part of a blob from its beginning to its end.

    A reader of a local file also has `fileno()`; the offset of that descriptor is where the part begins.
    """

    blob: Blob

    @property
    def stamp(self) -> object:
        """What differs for every other file or object that this name has led to or will lead to."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, b"" only at the end of the part; raises StoreUnavailable."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the rest in pieces, for servers that iterate over a body."""

    def seek(self, offset: int, /) -> int:
        """Continue at `offset`, in bytes from the beginning of the blob."""

    def close(self) -> None:
        """Release the file or connection; may be called more than once.

        Raises StoreUnavailable if the blob turned out to be damaged, so that a response with its bytes does
        not end as if it were complete.
        """


class Store(Protocol):
    """Immutable blobs, each under the digest of its bytes.

    `add` gets only staged files that are complete, hashed and, if `keeps_staged`, synced. Implementations
    raise subclasses of StoreError, never OSError or the errors of a client library. Any number of threads
    and processes may call every method at once. Methods that only some stores have are in `abilities`.

    A blob has one primary name and may have further ones, by other algorithms. Every method takes any.
    """

    staging_directory: str
    """The directory in which files for `add` are staged."""
    keeps_staged: bool
    """Whether the staged file itself becomes the blob, so that it has to be synced first."""
    granularity: float
    """Seconds within which a blob may be added again without a change of its `modified`."""
    read_only: bool
    """Whether nothing is written to the store; methods that would raise ReadOnly."""

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms of the names, the primary one first, as last read; see `refresh`."""

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the primary names, the first of `algorithms`."""

    def check(self) -> None:
        """Test that the store is there and can be written; raises StoreUnavailable.

        Raises WrongStore for a problem that will not pass by itself.
        """

    def refresh(self) -> tuple[Algorithm, ...]:
        """Read `algorithms` anew: a migration may have changed them; raises StoreUnavailable."""

    def made(self) -> float:
        """Return when the store was created, in seconds since the epoch; raises StoreUnavailable."""

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob; raises BlobNotFound."""

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> BlobReader:
        """Open `length` bytes from `start`, by default to the end; raises BlobNotFound.

        A reader keeps working if the blob is removed.
        """

    def add(self, staged: StagedFile, under: Digest | None = None) -> Publication:
        """Publish a staged file in one atomic step, by all its names.

        On return the blob survives a power failure, to the extent of the store's durability. A stored blob
        of a different size is damaged and gets healed: exactly one of the uploads that find it replaces it.
        A blob in quarantine is healed too, and its bytes in quarantine are removed.

        If the primary algorithm is not collision resistant, the bytes are compared as well. If they differ
        and the stored blob has its digest, this raises DigestCollision; otherwise it is damaged, and gets
        healed. If a further name belongs to another file, that name stays as it is and is `ambiguous`; if it
        is the name `under`, this raises DigestCollision, and nothing is stored.
        """

    def add_all(self, staged: Sequence[StagedFile]) -> list[Publication | StoreError]:
        """Publish staged files as `add` does, in less time; returns the outcome of each.

        Each is published or not for itself. On return all that were published survive a power failure, to
        the extent of the store's durability. Equal files may be among them: the first one is created.
        """

    def sizes(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """Return the sizes in bytes of those of these blobs that the store has.

        Each digest is looked up as by `stat`, in less time.
        """

    def remove(self, digest: Digest, check: Callable[[Blob], object] | None = None) -> Blob:
        """Remove a blob and return its description; raises BlobNotFound.

        The blob stays if `check` raises an error. A concurrent upload of the same blob takes effect either
        before, so that `check` sees it, or after, so that it creates the blob anew.
        """

    def expire(self, digest: Digest, modified: float) -> bool:
        """Remove a blob unless it was added again since `modified`; returns whether it was removed.

        Safe during uploads if `modified` was more than `granularity` ago when it was read; a younger blob
        may stay. The removal is not synced: after a power failure the blob may be back.
        """

    def quarantine(self, digest: Digest) -> bool:
        """Move a blob to quarantine if its bytes do not match its digest; returns whether it was damaged.

        A blob in quarantine counts as absent, but its bytes are kept. The store hashes them itself, so that
        it never moves a good blob, even during other operations. Raises BlobNotFound.
        """

    def quarantined(self) -> Iterator[Blob]:
        """Yield the blobs in quarantine in ascending order; `modified` is the time of the move."""

    def discard(self, digest: Digest) -> None:
        """Remove a blob from quarantine by the name that `quarantined` yields; raises BlobNotFound."""

    def load_note(self, name: str) -> bytes | None:
        """Return the contents of a note in the store, or None if it does not exist."""

    def update_note(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a note atomically by the result of `change`, which gets the contents or None.

        Concurrent updates run one after another if the store has locks. A note holds only data that can be
        computed again. Its name begins with a dot.
        """

    def iterate(self, after: Digest | None = None, algorithm: Algorithm | None = None) -> Iterator[Blob]:
        """Yield the blobs in ascending order of their names by an algorithm, starting after `after`.

        Blobs without such a name are left out. The default is the algorithm of `after`, else the primary one
        or, during a migration, the old one, by which every blob is found.

        Raises StoreUnavailable with the `hash` of a blob that cannot be described; to get the rest, call this
        again with that digest as `after`.
        """
