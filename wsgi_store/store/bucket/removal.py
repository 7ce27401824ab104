"""Removing a blob from a bucket by any of its names."""

import time
from collections.abc import Callable, Container
from contextlib import suppress

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import described, key_of
from wsgi_store.store.bucket.lock import locked, remove
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.names import follow
from wsgi_store.store.bucket.places import find, has_name
from wsgi_store.store.bucket.version import Version, look, names_in, outwait, version_of
from wsgi_store.store.contract import Blob
from wsgi_store.store.marker import Marker

# Rounds, each of which another process can spoil.
ROUNDS = 100


def remove_blob(bucket: MarkedBucket, digest: Digest, permit: Callable[[Blob], bool]) -> Blob | None:
    """Remove a blob and return its description; None, and nothing is removed, unless `permit` is true.

    Further names stay, and lead nowhere. Raises BlobNotFound, StoreUnavailable, and what `permit` raises.
    """
    settled: set[Version] = set()
    for _ in range(ROUNDS):
        at = digest
        if digest.algorithm is not bucket.last.algorithm:
            _, at = find(bucket, digest)
            at = _first(bucket, at)
        # DELETE does not say whether the object existed, so this looks for it under the lock.
        with locked(bucket, at.hex) as until:
            # The marker, too: a blob that is about to move has this lock.
            marker = bucket.refresh()
            try:
                return _remove(bucket, marker, digest, at, until, permit, settled)
            except _Moved:
                continue
            except _Beside as error:
                beside = error
        outwait(bucket, key_of(beside.name), beside.there)
        settled.add(beside.there)
    raise StoreUnavailable("the blob kept being replaced while it was removed", hash=digest.hex)


class _Moved(Exception):
    """The object under this key is not, or not alone, what has to be removed."""


class _Beside(Exception):
    """The same bytes lie under another key, from where an upload may be about to remove them."""

    def __init__(self, name: Digest, there: Version) -> None:
        super().__init__(name.hex)
        self.name = name
        self.there = there


def _remove(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    bucket: MarkedBucket,
    marker: Marker,
    digest: Digest,
    at: Digest,
    until: float,
    permit: Callable[[Blob], bool],
    settled: Container[Version],
) -> Blob | None:
    with asking("cannot stat the blob"):
        try:
            there = bucket.describe(key_of(at))
        except FileNotFoundError:
            # A process that was stopped may have lost the lock, and the blob has moved.
            if digest == at and at.algorithm is bucket.refresh().algorithm:
                raise BlobNotFound(hash=digest.hex) from None
            raise _Moved from None
    if at.algorithm is not marker.algorithm:
        if _first(bucket, at) != at:
            raise _Moved
    elif digest != at and not digest.algorithm.collision_resistant:
        # While the blob is there, nobody gives its name to another one.
        lead = follow(bucket, digest)
        if lead is None or lead.target != at or lead.doubted:
            raise _Moved
    blob = described(digest, there.meta, at)
    if not permit(blob):
        return None
    # The same bytes lie under another name, too, if a migration or an upload during one was interrupted.
    for name in {digest, *names_in(there.attributes)} - {at}:
        stray = look(bucket, key_of(name)) if name.algorithm in marker.names else None
        if stray is None:
            continue
        if not version_of(there).takes_place_of(stray) and stray not in settled:
            raise _Beside(name, stray)
        with locked(bucket, name.hex) as still:
            remove(bucket, key_of(name), still)
        if time.monotonic() >= until:
            raise _Moved  # the other lock was somebody else's for too long; the next round finds one key less
    remove(bucket, key_of(at), until)
    # Whoever took over the lock may have removed the blob before, or have moved it to another key.
    if time.monotonic() >= until:
        raise StoreUnavailable("the lock expired while the blob was removed", hash=digest.hex)
    return blob


def _first(bucket: MarkedBucket, at: Digest) -> Digest:
    """Return the primary name of a blob if it has that key, too, otherwise `at`.

    A migration that was interrupted leaves both. The primary one is locked first, and removed last.
    """
    if at.algorithm is not bucket.last.algorithm:
        lead = follow(bucket, at)
        target = lead.target if lead else None
        if target is not None and target.algorithm is bucket.last.algorithm:
            with asking("cannot stat the blob"), suppress(FileNotFoundError):
                if has_name(bucket.describe(key_of(target)).attributes, at):
                    return target
    return at
