"""Removing what a store no longer needs."""

import enum
import heapq
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, ReadOnly
from wsgi_store.store.abilities import Leftovers, Names, Pieces
from wsgi_store.store.contract import Store
from wsgi_store.store.staged import leftovers
from wsgi_store.upkeep.ranges import every_blob
from wsgi_store.uploads.room import Room, directory_of

# Seconds. An upload in progress gets parts all the time; one that got none for a day is abandoned.
DAY = 86400.0


class Kind(enum.Enum):
    """What can be collected."""

    STAGED = "staged"
    """A staged file that no process uses any more."""
    UPLOAD = "upload"
    """Parts of an abandoned upload to an object store."""
    EXPIRED = "expired"
    """An unfinished upload of a client, or the result of a finished one, whose time is over."""
    LITTER = "litter"
    """A lock or test object in an object store that no process uses any more."""
    QUARANTINED = "quarantined"
    BLOB = "blob"
    PIECES = "pieces"
    """The hashes of the pieces of a blob that is gone."""
    NAME = "name"
    """A further name that leads nowhere, or one by an algorithm that the store does not keep."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Something that was removed: its kind, its size in bytes, and its digest if it has one."""

    kind: Kind
    size: int
    digest: Digest | None = None
    name: str | None = None
    """The hash that is a further name."""


def collect(  # pylint: disable=too-many-arguments
    store: Store,
    *,
    older: float | None = None,
    max_bytes: int | None = None,
    quarantined_older: float | None = None,
    uploads_older: float | None = None,
    dry_run: bool = False,
) -> Iterator[Collected]:
    """Remove what is not needed, and yield each item after its removal; `dry_run` removes nothing.

    Always removed: staged files that a killed process left, uploads of clients that have expired, further
    names that lead nowhere or are not kept any more, and in an object store uploads that got no part for
    `uploads_older` seconds, by default a day, and locks and test objects of that age, but at least an hour
    old. Uploads of clients that got no byte for `uploads_older` seconds go, too, unless a request holds them.

    `older` removes blobs last added more than that many seconds ago. `max_bytes` then removes the oldest
    blobs until the others have at most that many bytes. `quarantined_older` removes what has been in
    quarantine for more than that many seconds.

    A blob that is uploaded meanwhile stays, even if the store had it already. So does one younger than the
    `granularity` of the store, even if more than `max_bytes` remain. Raises StoreError.
    """
    if store.read_only and not dry_run:
        raise ReadOnly
    now = time.time()
    for size in leftovers(store.staging_directory, remove=not dry_run):
        yield Collected(Kind.STAGED, size)
    idle = math.inf if uploads_older is None else uploads_older
    expired = Room(directory_of(store)).sweep(older=idle, dry_run=dry_run)
    yield from (Collected(Kind.EXPIRED, one.size) for one in expired)
    uploads_older = DAY if uploads_older is None else uploads_older
    if quarantined_older is not None:
        yield from _collect_quarantined(store, now - quarantined_older, dry_run)
    # A younger blob may have been added again without a change of its time.
    settled = now - store.granularity
    if older is not None:
        for blob in every_blob(store):
            if blob.modified < min(now - older, settled) and (
                dry_run or store.expire(blob.digest, blob.modified)
            ):
                yield Collected(Kind.BLOB, blob.size, blob.digest)
    if max_bytes is not None:
        # A dry run has removed nothing: blobs that it yielded already are not counted again.
        since = now - older if dry_run and older is not None else float("-inf")
        yield from _collect_oldest(store, max_bytes, since, settled, dry_run)
    # After the blobs, whose names lead nowhere now.
    yield from _collect_remains(store, dry_run)
    if isinstance(store, Leftovers):
        for size in store.litter(now - uploads_older, remove=not dry_run):
            yield Collected(Kind.LITTER, size)
        # Last, because keys that are allowed all the rest may not be allowed to list these.
        for upload in store.abandoned(now - uploads_older, remove=not dry_run):
            yield Collected(Kind.UPLOAD, upload.size, upload.digest)


def _collect_remains(store: Store, dry_run: bool) -> Iterator[Collected]:
    """Remove what is left of blobs that are gone."""
    if isinstance(store, Names):
        for name in store.sweep_names(remove=not dry_run):
            yield Collected(Kind.NAME, 0, name=name)
    if isinstance(store, Pieces):
        for size in store.sweep_pieces(remove=not dry_run):
            yield Collected(Kind.PIECES, size)


def _collect_quarantined(store: Store, before: float, dry_run: bool) -> Iterator[Collected]:
    for blob in store.quarantined():
        if blob.modified < before:
            try:
                if not dry_run:
                    store.discard(blob.digest)
            except BlobNotFound:
                continue  # an upload healed it meanwhile
            yield Collected(Kind.QUARANTINED, blob.size, blob.digest)


def _collect_oldest(
    store: Store, max_bytes: int, since: float, settled: float, dry_run: bool
) -> Iterator[Collected]:
    sizes = (blob.size for blob in every_blob(store) if blob.modified >= min(since, settled))
    excess = sum(sizes) - max_bytes
    # A heap of the oldest blobs that together are large enough, the youngest on top: memory grows with
    # what is removed, not with the store.
    going: list[tuple[float, bytes, int, Algorithm]] = []
    size = 0
    for blob in every_blob(store) if excess > 0 else ():
        if min(since, settled) <= blob.modified < settled:
            heapq.heappush(going, (-blob.modified, blob.digest.raw, blob.size, blob.digest.algorithm))
            size += blob.size
            while size - going[0][2] >= excess:
                size -= heapq.heappop(going)[2]
    going.sort(key=lambda one: one[:2], reverse=True)
    for negative, raw, length, algorithm in going:
        digest = Digest(algorithm, raw)
        if dry_run or store.expire(digest, -negative):
            yield Collected(Kind.BLOB, length, digest)
