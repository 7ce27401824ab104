"""Optional abilities of a store, as protocols beside Store.

A caller tests for an ability once, with isinstance, when it gets the store.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from wsgi_store.digest import Digest
from wsgi_store.store.contract import Blob
from wsgi_store.store.staged import Ahead, StagedFile


@runtime_checkable
class LocalPaths(Protocol):
    """A store whose blobs are files below one directory. It can be pickled for another process."""

    def local_path(self, digest: Digest) -> str:
        """Return the path of a blob relative to the root, whether or not the blob exists."""


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
