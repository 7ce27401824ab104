"""Letting a blob in a bucket count as added again, although its bytes are not sent again."""

import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.store.bucket.adoption import Adoption
from wsgi_store.store.bucket.keys import key_of
from wsgi_store.store.bucket.lock import locked
from wsgi_store.store.bucket.lookup import each, find_all
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.places import find
from wsgi_store.store.bucket.version import Version, look, metadata, names_in, version_of
from wsgi_store.store.contract import Added, Publication

if TYPE_CHECKING:
    from wsgi_store.store.bucket.copying import Copier

# Rounds, each of which another process can spoil.
ROUNDS = 100


class Renewing:
    """The ability Renewal of a store in a bucket."""

    _bucket: MarkedBucket
    _adoption: Adoption
    granularity: float

    def renew(self, digest: Digest, size: int) -> Publication | None:
        """Let a blob of this size count as added now; None if that takes its bytes.

        An old object gets a new time by a copy onto itself. Raises StoreUnavailable.
        """
        bucket = self._bucket
        bucket.require_writable()
        for _ in range(ROUNDS):
            marker = bucket.last
            try:
                found, at = find(bucket, digest)
            except BlobNotFound:
                return None
            there = version_of(found)
            if there.size != size or at.algorithm is not marker.algorithm:
                return None
            names = names_in(found.attributes)
            if time.time() >= there.modified + self.granularity / 2:
                if bucket.scheme != "s3":
                    return None  # other engines copy the time, too, or refuse
                if not _copied(bucket, at, there, names, self._adoption.copier):
                    continue
            if bucket.refresh() == marker:
                kept = (name for one in marker.names for name in names if name.algorithm is one)
                return Publication(Added.HELD, (at, *kept))
        raise StoreUnavailable("the blob kept being replaced while it was renewed", hash=digest.hex)

    def renew_all(self, blobs: Mapping[Digest, int]) -> set[Digest]:
        """Let blobs of these sizes count as added now; returns those that do."""
        bucket = self._bucket
        bucket.require_writable()
        found = find_all(bucket, blobs.keys())
        marker = bucket.last
        young = time.time() - self.granularity / 2
        same = [digest for digest, seen in found.items() if seen.size == blobs[digest]]
        renewed = {
            digest
            for digest in same
            if found[digest].modified > young and found[digest].at.algorithm is marker.algorithm
        }
        # Until the marker was read again, such a blob may have moved before it was found.
        if bucket.refresh() != marker:
            renewed.clear()
        old = [digest for digest in same if digest not in renewed]
        return renewed | {
            digest
            for digest, known in each(old, lambda digest: self.renew(digest, blobs[digest]))
            if known is not None
        }


def _copied(bucket: MarkedBucket, at: Digest, there: Version, names: list[Digest], copier: "Copier") -> bool:
    """Copy an object onto itself; False if it has changed."""
    key, attributes = key_of(at), metadata(names, secrets.token_hex(8))
    with (
        suppress(BlobNotFound),
        copier.copying(key, there, key, attributes) as complete,
        # Removing and expiring hold it, too: nothing changes between the look and the copy.
        locked(bucket, at.hex) as until,
    ):
        if look(bucket, key) != there or time.monotonic() >= until:
            return False
        complete()
        copy = look(bucket, key)
        if copy is None or (copy.size, copy.token) != (there.size, attributes["upload"]):
            raise StoreUnavailable("the object store did not copy the blob as it should", hash=at.hex)
        return True
    return False
