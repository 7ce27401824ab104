"""Listing the blobs and the further names in a bucket."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import obstore

from wsgi_store.digest import Algorithm, Digest, parse_any
from wsgi_store.errors import BlobNotFound
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import (
    BEFORE_BLOBS,
    NAMES,
    QUARANTINE,
    blob_keys,
    described,
    key_of,
    name_of,
    quarantine_keys,
)
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.names import follow
from wsgi_store.store.bucket.places import find
from wsgi_store.store.contract import Blob
from wsgi_store.store.marker import Marker
from wsgi_store.threads import pool_of

if TYPE_CHECKING:
    from obstore import ObjectMeta

Page: TypeAlias = "dict[str, ObjectMeta | None]"
T = TypeVar("T")
R = TypeVar("R")

# Requests at once where each name needs some of its own.
AT_ONCE = 8
# Keys in one answer of an engine.
PAGE = 1000


def blobs(bucket: MarkedBucket, after: Digest | None, algorithm: Algorithm | None) -> Iterator[Blob]:
    """Yield the blobs as Store.iterate does. Raises StoreUnavailable."""
    marker = bucket.last
    by = algorithm or (after.algorithm if after else None)
    behind: str | None = key_of(after) if after else BEFORE_BLOBS
    while behind is not None:
        page, end = _page(bucket, marker, by or marker.listed, behind)
        # The marker is read after the page: if it has not changed, no blob had moved.
        before, marker = marker, bucket.refresh()
        if marker == before:
            # From now on the order stays, whatever happens to the store.
            by, behind = by or marker.listed, end
            yield from _resolved(bucket, by, page)


def strays(bucket: MarkedBucket, algorithm: Algorithm, after: Digest | None) -> Iterator[Blob]:
    """Yield the blobs that lie under names by `algorithm`, in ascending order. Raises StoreUnavailable."""
    offset: str | None = key_of(after) if after else BEFORE_BLOBS
    while offset is not None:
        found, offset = object_page(bucket, blob_keys([algorithm]), offset)
        for hash_, meta in found.items():
            yield described(algorithm.parse(hash_), meta)


def links(
    bucket: MarkedBucket, algorithm: Algorithm, after: Digest | None
) -> Iterator[tuple[Digest, Digest]]:
    """Yield the names by `algorithm` and where they lead, in ascending order. Raises StoreUnavailable."""
    start = after.hex if after else ""
    for name, lead in at_once(names(bucket, algorithm, start), partial(follow, bucket)):
        if lead is not None and lead.target is not None:
            yield name, lead.target


def names(bucket: MarkedBucket, algorithm: Algorithm | None = None, after: str = "") -> Iterator[Digest]:
    """Yield the names by an algorithm behind a hash, or all names, in ascending order.

    Raises StoreUnavailable.
    """
    prefix = f"{NAMES}/{algorithm.value}" if algorithm else NAMES
    for name, _ in _names(bucket, prefix, f"{prefix}/{after}" if after else None):
        yield name


def name_sizes(bucket: MarkedBucket) -> Iterator[int]:
    """Yield the size of the object of each name. Raises StoreUnavailable."""
    for _, meta in _names(bucket, NAMES, None):
        yield meta["size"]


def _names(bucket: MarkedBucket, prefix: str, offset: str | None) -> Iterator[tuple[Digest, "ObjectMeta"]]:
    with asking("cannot list the names"):
        for page in obstore.list(bucket.client, prefix=prefix, offset=offset, chunk_size=PAGE):
            for meta in page:
                name = name_of(meta["path"])
                if name is not None:
                    yield name, meta


def quarantined(bucket: MarkedBucket) -> Iterator[Blob]:
    """Yield the blobs in quarantine in ascending order. Raises StoreUnavailable."""
    key = quarantine_keys(bucket.last.algorithms)
    with asking("cannot list the quarantine"):
        for page in obstore.list(bucket.client, prefix=QUARANTINE, chunk_size=PAGE):
            for meta in page:
                match = key.fullmatch(meta["path"])
                if match is not None:
                    yield described(parse_any(bucket.last.algorithms, match["hash"]), meta)


def at_once(items: Iterator[T], ask: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Yield each item with what `ask` returns for it, which several threads call."""
    with pool_of(AT_ONCE, "wsgi_store-names") as pool:
        while batch := list(islice(items, 4 * AT_ONCE)):
            yield from zip(batch, pool.map(ask, batch), strict=True)


def _resolved(bucket: MarkedBucket, by: Algorithm, page: "Page") -> Iterator[Blob]:
    def resolve(entry: "tuple[str, ObjectMeta | None]") -> Blob | None:
        name, meta = by.parse(entry[0]), entry[1]
        if meta is not None:
            return described(name, meta)
        with suppress(BlobNotFound):
            there, at = find(bucket, name, hash=name.hex)
            return described(name, there.meta, at)
        return None

    if all(page.values()):
        yield from filter(None, map(resolve, page.items()))
    else:
        yield from filter(None, (blob for _, blob in at_once(iter(page.items()), resolve)))


def _page(bucket: MarkedBucket, marker: Marker, by: Algorithm, behind: str) -> tuple["Page", str | None]:
    """Return the next hashes in ascending order, each with its object or, if it is only a name, None.

    Also returns behind which key the next page begins, None if this is the last one.
    """
    objects, end = object_page(bucket, blob_keys([by]), behind)
    page: Page = {**objects}
    if by not in marker.names:
        return page, end
    # After the objects: a blob that moves gets the name before it loses its old key.
    for name in _names_behind(bucket, by, behind):
        if end is not None and key_of(name) > end:
            break
        page.setdefault(name.hex)
        if len(page) >= len(objects) + PAGE:
            end = key_of(name)
            break
    kept = (hash_ for hash_ in sorted(page) if end is None or f"{hash_[:2]}/{hash_}" <= end)
    return {hash_: page[hash_] for hash_ in kept}, end


def _names_behind(bucket: MarkedBucket, algorithm: Algorithm, behind: str) -> Iterator[Digest]:
    """Yield the names of blobs whose keys, if they had one, would come after this key."""
    shard, _, rest = behind.partition("/")
    for name in names(bucket, algorithm, rest if rest.startswith(shard) else shard):
        if key_of(name) > behind:
            yield name


def object_page(
    bucket: MarkedBucket, key: re.Pattern[str], offset: str
) -> tuple[dict[str, "ObjectMeta"], str | None]:
    """Return one page of the objects whose keys match, by hash; and its last key, None at the end."""
    with asking("cannot list the store"):
        page = next(iter(obstore.list(bucket.client, offset=offset, chunk_size=PAGE)), ())
    matches = ((key.fullmatch(meta["path"]), meta) for meta in page)
    found = {match["hash"]: meta for match, meta in matches if match}
    return found, page[-1]["path"] if len(page) == PAGE else None
