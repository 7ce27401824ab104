"""Whether a store holds a file of which only digests are known."""

from collections.abc import Sequence
from contextlib import suppress

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.store.contract import Store


def names_of_one(store: Store, digests: Sequence[Digest], size: int) -> list[Digest]:
    """Return those of the digests that are names of one blob of this size, first one that proves its bytes.

    None if no digest does, or if the store cannot tell whether another one belongs to the same bytes. Raises
    StoreError.
    """
    kept = [digest for digest in digests if digest.algorithm in store.algorithms]
    kept.sort(key=lambda digest: not digest.algorithm.collision_resistant)
    if not kept or not kept[0].algorithm.collision_resistant:
        return []
    with suppress(BlobNotFound):
        blobs = [store.stat(digest) for digest in kept]
        if len({blob.names[0] for blob in blobs}) == 1 and blobs[0].size == size:
            return kept
    return []
