"""Locks and trials of the engine that processes left in a bucket when they were killed."""

import time
from collections.abc import Iterator

import obstore

from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.lock import LOCKS, remove_left
from wsgi_store.store.bucket.engine import PROBES
from wsgi_store.store.bucket.marked import MarkedBucket

# Longer than any process needs one of them, and longer than clocks may differ: seconds.
MIN_AGE = 3600.0


def litter(bucket: MarkedBucket, before: float, *, remove: bool) -> Iterator[int]:
    """Yield the sizes of those that are as old as that, removing each first; raises StoreUnavailable."""
    before = min(before, time.time() - MIN_AGE)
    with asking("cannot list the locks"):
        probes, locks = (
            [
                meta
                for page in obstore.list(bucket.client, prefix=prefix)
                for meta in page
                if meta["last_modified"].timestamp() < before
            ]
            for prefix in (PROBES, LOCKS)
        )
    if remove and (probes or locks):
        bucket.require_writable()
    for meta in probes:
        with asking("cannot remove what was tried"):
            if remove:
                obstore.delete(bucket.client, meta["path"])
        yield meta["size"]
    if remove and locks:
        # From then on the holder of what did not change holds it no more, whatever the clocks say.
        time.sleep(bucket.timeout)
    for meta in locks:
        if not remove or remove_left(bucket, meta):
            yield meta["size"]
