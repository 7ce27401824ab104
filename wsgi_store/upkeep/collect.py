"""Collecting what may go, counting what there is, and listing it for other programs to check."""

import enum
import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, ReadOnly
from wsgi_store.store.abilities import Leftovers
from wsgi_store.store.contract import Store
from wsgi_store.store.staged import leftovers

# An upload that is under way gets parts all the time: what got none for so long is nobody's.
DAY = 86400.0


class Kind(enum.Enum):
    """What can be collected."""

    STAGED = "staged"
    """A staged file that no process uses any more."""
    UPLOAD = "upload"
    """Parts of an upload to an object store that nobody completes any more."""
    LITTER = "litter"
    """A lock, or an object that tried the object store, which no process uses any more."""
    QUARANTINED = "quarantined"
    BLOB = "blob"


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed: of which kind, how many bytes, and of which digest where it has one."""

    kind: Kind
    size: int
    digest: Digest | None = None


def collect(  # pylint: disable=too-many-arguments
    store: Store,
    *,
    older: float | None = None,
    max_bytes: int | None = None,
    quarantined_older: float | None = None,
    uploads_older: float = DAY,
    dry_run: bool = False,
) -> Iterator[Collected]:
    """Remove what may go, and yield each thing when it is gone; with `dry_run` only tell what it would be.

    Staged files that a killed process left always may, and so may uploads to an object store to
    which no part was added for `uploads_older` seconds, and locks and the like that are as old in a
    bucket, and at least an hour. Blobs may that were last added more than
    `older` seconds ago, and then, the oldest first, as many as bring all blobs together down to
    `max_bytes`; what is in quarantine for more than `quarantined_older` seconds. A blob that is
    uploaded meanwhile stays, also if the upload found it held, and one that is younger than the
    `granularity` of the store, even where more than `max_bytes` are left so. Raises StoreError.
    """
    if store.read_only and not dry_run:
        raise ReadOnly
    now = time.time()
    for size in leftovers(store.staging_directory, remove=not dry_run):
        yield Collected(Kind.STAGED, size)
    if quarantined_older is not None:
        yield from _collect_quarantined(store, now - quarantined_older, dry_run)
    # What was added since may have been added again without a sign.
    settled = now - store.granularity
    if older is not None:
        for blob in store.iterate():
            if blob.modified < min(now - older, settled) and (
                dry_run or store.expire(blob.digest, blob.modified)
            ):
                yield Collected(Kind.BLOB, blob.size, blob.digest)
    if max_bytes is not None:
        # A dry run has removed nothing, so that what is told already is left out of the account.
        since = now - older if dry_run and older is not None else float("-inf")
        yield from _collect_oldest(store, max_bytes, since, settled, dry_run)
    if isinstance(store, Leftovers):
        for size in store.litter(now - uploads_older, remove=not dry_run):
            yield Collected(Kind.LITTER, size)
        # Last, because keys that are allowed all the rest may not be allowed to list these.
        for upload in store.abandoned(now - uploads_older, remove=not dry_run):
            yield Collected(Kind.UPLOAD, upload.size, upload.digest)


def _collect_quarantined(store: Store, before: float, dry_run: bool) -> Iterator[Collected]:
    for blob in store.quarantined():
        if blob.modified < before:
            try:
                if not dry_run:
                    store.discard(blob.digest)
            except BlobNotFound:
                continue  # healed meanwhile
            yield Collected(Kind.QUARANTINED, blob.size, blob.digest)


def _collect_oldest(
    store: Store, max_bytes: int, since: float, settled: float, dry_run: bool
) -> Iterator[Collected]:
    excess = sum(blob.size for blob in store.iterate() if blob.modified >= min(since, settled)) - max_bytes
    # The oldest blobs that together are large enough, the youngest of them on top: memory grows
    # with what is to go and not with the store.
    going: list[tuple[float, bytes, int]] = []
    size = 0
    for blob in store.iterate() if excess > 0 else ():
        if min(since, settled) <= blob.modified < settled:
            heapq.heappush(going, (-blob.modified, blob.digest.raw, blob.size))
            size += blob.size
            while size - going[0][2] >= excess:
                size -= heapq.heappop(going)[2]
    for negative, raw, length in sorted(going, reverse=True):
        digest = Digest(store.algorithm, raw)
        if dry_run or store.expire(digest, -negative):
            yield Collected(Kind.BLOB, length, digest)
