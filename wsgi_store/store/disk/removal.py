"""Removing a blob by any of its names."""

import fcntl
import os
from collections.abc import Callable

from wsgi_store.digest import Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.contract import Blob
from wsgi_store.store.disk.listing import describe
from wsgi_store.store.disk.names import stat_file
from wsgi_store.store.disk.naming import settle
from wsgi_store.store.disk.tree import Tree, locked_shards
from wsgi_store.store.marker import Marker

# Rounds, each of which a concurrent upload or migration can spoil.
ROUNDS = 100


def remove(
    tree: Tree, digest: Digest, marker: Marker, permit: Callable[[Blob], bool], *, synced: bool
) -> Blob | None:
    """Remove a blob if `permit` says so, under the locks of its names; returns its description.

    The caller keeps the marker as it is. The blob is gone with its file; the name that it was asked for by
    goes next, and its other names lead nowhere until they are collected. A removal that is not `synced`
    needs a file system with locks. Raises BlobNotFound, StoreUnavailable, what `permit` raises, and OSError.
    """
    settled: set[int] = set()
    for _ in range(ROUNDS):
        status, at = tree.find(digest, stat_file)
        try:
            if marker.names and status.st_nlink > 1 and status.st_ino not in settled:
                settle(tree, at, marker)
                settled.add(status.st_ino)
                continue
            with tree.shards((digest, at)) as shards:
                with locked_shards(shards, fcntl.LOCK_EX, needed=not synced):
                    again, now = tree.find(digest, stat_file)
                    if now != at or not os.path.samestat(again, status):
                        continue
                    if marker.names and again.st_nlink > 1 and again.st_ino not in settled:
                        continue
                    blob = describe(digest, again, at)
                    if not permit(blob):
                        return None
                    for name in dict.fromkeys((at, digest)):
                        os.unlink(name.hex, dir_fd=shards[name.hex[:2]].fd)
                if tree.full and synced:
                    for shard in shards.values():
                        shard.sync()
                return blob
        except FileNotFoundError:
            continue  # the next look says whether it is gone
    raise StoreUnavailable("the blob kept being replaced while it was removed", hash=digest.hex)
