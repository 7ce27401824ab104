"""Locks and test objects that killed processes left in a bucket."""

import time
from collections.abc import Iterator

import obstore

from wsgi_store.store.bucket.engine import PROBES
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.lock import LOCKS, remove_left
from wsgi_store.store.bucket.marked import MarkedBucket

# Seconds: longer than a process needs such an object, and than clocks may differ.
MIN_AGE = 3600.0


def litter(bucket: MarkedBucket, before: float, *, remove: bool) -> Iterator[int]:
    """Yield the sizes of those older than `before`, after removing each; raises StoreUnavailable."""
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
        with asking("cannot remove the test objects"):
            if remove:
                obstore.delete(bucket.client, meta["path"])
        yield meta["size"]
    if remove and locks:
        # After this time nobody holds a lock that did not change, whatever the clocks say.
        time.sleep(bucket.timeout)
    for meta in locks:
        if not remove or remove_left(bucket, meta):
            yield meta["size"]
