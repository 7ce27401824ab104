"""Where in a bucket a blob lies that is asked for by any of its names."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import key_of
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.names import follow
from wsgi_store.store.bucket.version import names_in
from wsgi_store.store.marker import Marker

if TYPE_CHECKING:
    from obstore import GetResult

# A further name leads to an old one, that to a primary one.
HOPS = 3


def find(
    bucket: MarkedBucket,
    digest: Digest,
    ask: Callable[[str], "GetResult"] | None = None,
    doing: str = "cannot stat the blob",
    **evidence: str,
) -> tuple["GetResult", Digest]:
    """Ask for the object of a blob; returns the answer, and the name under whose key the object lies.

    `ask` gets a key, and raises what obstore raises; by default the object is described. Raises
    BlobNotFound, and StoreUnavailable with that message and evidence.
    """
    for place in _places(bucket, digest):
        with asking(doing, **evidence):
            try:
                result = (ask or bucket.describe)(key_of(place))
            except FileNotFoundError:
                continue
        if place == digest or has_name(result.attributes, digest):
            return result, place
    raise BlobNotFound(hash=digest.hex)


def has_name(attributes: Mapping[str, str], name: Digest) -> bool:
    """Whether an object may have a name that leads to it: not if it says that its own one is another."""
    return all(own == name for own in names_in(attributes) if own.algorithm is name.algorithm)


def _places(bucket: MarkedBucket, digest: Digest) -> Iterator[Digest]:
    """Yield under whose keys a blob may lie, the likely one first, all of them before this ends.

    At the end the marker was read again: a migration may have begun to name the blob otherwise.
    """
    marker = bucket.last
    while True:
        yield from _by(bucket, marker, digest, HOPS)
        before, marker = marker, bucket.refresh()
        if marker == before:
            return


def _by(bucket: MarkedBucket, marker: Marker, digest: Digest, hops: int) -> Iterator[Digest]:
    if digest.algorithm is marker.algorithm:
        yield digest
    if digest.algorithm not in marker.names or not hops:
        return
    # While a blob moves it has both keys, then only a name: whoever looks for the name last misses neither.
    if marker.migrating is digest.algorithm:
        yield digest
    yield from _led(bucket, marker, digest, hops)
    if marker.migrating is not digest.algorithm:
        yield digest
        yield from _led(bucket, marker, digest, hops)


def _led(bucket: MarkedBucket, marker: Marker, name: Digest, hops: int) -> Iterator[Digest]:
    lead = follow(bucket, name)
    if lead is not None and lead.target is not None and lead.target.algorithm is not name.algorithm:
        yield from _by(bucket, marker, lead.target, hops - 1)
