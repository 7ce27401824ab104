"""Finding many blobs in a bucket with few requests."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import blob_keys, described, key_of
from wsgi_store.store.bucket.listing import object_page
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.places import find
from wsgi_store.threads import pool_of

if TYPE_CHECKING:
    from obstore import ObjectMeta

T = TypeVar("T")

# Requests at once.
AT_ONCE = 16
# Wanted blobs on a page of a listing from which on the page takes less time than a request for each.
DENSE = 50


@dataclass(frozen=True, slots=True)
class Seen:
    """The object of a blob: its size in bytes, its time, and the name under whose key it lies."""

    size: int
    modified: float  # seconds since the epoch
    at: Digest


def find_all(bucket: MarkedBucket, digests: Collection[Digest]) -> dict[Digest, Seen]:
    """Find blobs as `find` does; absent ones are left out. Raises StoreUnavailable."""
    marker = bucket.last
    primary = sorted(
        (digest for digest in digests if digest.algorithm is marker.algorithm), key=lambda digest: digest.raw
    )
    found: dict[Digest, Seen] = {}
    unlisted = _list(bucket, primary, found)
    for digest, seen in each(unlisted, lambda digest: _under_own_key(bucket, digest)):
        if seen is not None:
            found[digest] = seen
    others = [digest for digest in digests if digest.algorithm is not marker.algorithm]
    # A migration may have begun to name the blobs otherwise.
    if len(found) < len(primary) and bucket.refresh() != marker:
        others += (digest for digest in primary if digest not in found)
    for digest, seen in each(others, lambda digest: _anywhere(bucket, digest)):
        if seen is not None:
            found[digest] = seen
    return found


def each(digests: Iterable[Digest], ask: Callable[[Digest], T]) -> Iterator[tuple[Digest, T]]:
    """Yield each digest with what `ask` returns for it, which several threads call."""
    asked = list(digests)
    if asked:
        with pool_of(AT_ONCE, "wsgi_store-lookup") as pool:
            yield from zip(asked, pool.map(ask, asked), strict=True)


def _list(bucket: MarkedBucket, wanted: list[Digest], found: dict[Digest, Seen]) -> list[Digest]:
    """Find blobs by listing their keys, while that is worthwhile; returns those that are left to ask for.

    `wanted` are in ascending order. Hashes are spread evenly, so one page tells how dense the others are.
    """
    begin = 0
    while len(wanted) - begin >= DENSE:
        # The last key before the wanted one, or nearly so.
        page, end = object_page(bucket, blob_keys([wanted[0].algorithm]), key_of(wanted[begin])[:-1])
        stop = begin
        while stop < len(wanted) and (end is None or key_of(wanted[stop]) <= end):
            meta = page.get(wanted[stop].hex)
            if meta is not None:
                found[wanted[stop]] = _seen(wanted[stop], meta)
            stop += 1
        if end is None:
            return []
        if stop - begin < DENSE:
            return wanted[stop:]
        begin = stop
    return wanted[begin:]


def _under_own_key(bucket: MarkedBucket, digest: Digest) -> Seen | None:
    with asking("cannot stat the blob"), suppress(FileNotFoundError):
        return _seen(digest, bucket.describe(key_of(digest)).meta)
    return None


def _anywhere(bucket: MarkedBucket, digest: Digest) -> Seen | None:
    with suppress(BlobNotFound):
        there, at = find(bucket, digest)
        return _seen(at, there.meta)
    return None


def _seen(at: Digest, meta: "ObjectMeta") -> Seen:
    blob = described(at, meta)
    return Seen(blob.size, blob.modified, at)
