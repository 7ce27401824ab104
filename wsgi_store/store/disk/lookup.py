"""Finding and renewing many blobs, with one look at each directory."""

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from typing import TypeAlias

from wsgi_store.digest import Digest
from wsgi_store.filesystem import ABSENT, NAME, Directory, NoFile, locked, open_file, touch
from wsgi_store.store.disk.names import followed, read_link
from wsgi_store.store.disk.publish import renew
from wsgi_store.store.disk.tree import HOPS, Tree
from wsgi_store.store.marker import Marker

# Directories whose files are synced at once: file systems do such work together.
SYNCS = 8

Places: TypeAlias = list[tuple[Digest, Digest]]
"""Blobs that are asked for, each with the name under which to look."""


def find_all(tree: Tree, digests: Iterable[Digest]) -> dict[Digest, tuple[int, Digest]]:
    """Find blobs as Tree.find does; returns the size of each file, and the name under which it lies.

    Absent blobs are left out. Raises StoreUnavailable and OSError.
    """
    found: dict[Digest, tuple[int, Digest]] = {}
    wanted = list(digests)
    marker = tree.marker.last
    while True:
        places = [(digest, digest) for digest in wanted if digest.algorithm in marker.algorithms]
        for _ in range(HOPS):
            places = list(_look(tree, places, marker, found))
        wanted = [digest for digest in wanted if digest not in found]
        if not wanted:
            return found
        # A migration may have begun to name the blobs otherwise.
        before, marker = marker, tree.marker.refresh()
        if marker == before:
            return found


def _look(
    tree: Tree, places: Places, marker: Marker, found: dict[Digest, tuple[int, Digest]]
) -> Iterator[tuple[Digest, Digest]]:
    """Add the blobs whose files have these names to `found`; yields where to look for others next."""
    places.sort(key=lambda place: place[1].raw)
    for first, group in groupby(places, key=lambda place: place[1].raw[0]):
        with suppress(*ABSENT), Directory(f"{tree.root}/{first:02x}", NAME) as shard:
            for digest, at in group:
                try:
                    status = os.stat(at.hex, dir_fd=shard.fd, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found[digest] = status.st_size, at
                    elif stat.S_ISLNK(status.st_mode):
                        text = read_link(at.hex, shard.fd)
                        # If it is no link any more, it is worth another look.
                        target = at if text is None else followed(text, at.algorithm, marker)
                        if target is not None:
                            yield digest, target
                except FileNotFoundError:
                    continue


def renew_all(tree: Tree, blobs: Mapping[Digest, int], marker: Marker) -> set[Digest]:
    """Renew blobs as Renewal.renew_all does; the caller keeps the marker as it is.

    Raises StoreUnavailable and OSError.
    """
    asked: dict[Digest, list[Digest]] = {}
    for digest, (size, at) in find_all(tree, blobs).items():
        # Another name of a file is an old one: an upload would give it its primary name.
        if size == blobs[digest] and at.algorithm is marker.algorithm:
            asked.setdefault(at, []).append(digest)
    renewed: set[Digest] = set()
    unsynced: dict[Digest, list[Digest]] = {}
    for group in _by_shard(asked):
        touched, changed = _touch(tree, group, {at: blobs[asked[at][0]] for at in group})
        for at in touched:
            renewed.update(asked[at])
        for at in changed:
            renewed.update(one for one in asked[at] if renew(tree, one, blobs[one], marker) is not None)
        unsynced[group[0]] = touched
    if tree.sync:
        _sync(tree, unsynced, renewed)
    return renewed


def _by_shard(names: Iterable[Digest]) -> Iterator[list[Digest]]:
    """Yield those of these names that lie in one directory, in ascending order."""
    for _, group in groupby(sorted(names, key=lambda name: name.raw), key=lambda name: name.raw[0]):
        yield list(group)


def _touch(tree: Tree, names: list[Digest], sizes: Mapping[Digest, int]) -> tuple[list[Digest], list[Digest]]:
    """Set the times of the files of one shard to now.

    Returns the names of those whose times were set, and of those that were removed or replaced meanwhile.
    """
    touched: list[Digest] = []
    changed: list[Digest] = []
    try:
        # Whoever removes a file takes this lock, too, and then sees the new time.
        with tree.make_shard(names[0]) as shard, locked(shard.fd, fcntl.LOCK_SH, needed=False):
            for name in names:
                try:
                    fd, status = open_file(name.hex, shard.fd)
                except (FileNotFoundError, NoFile):
                    changed.append(name)
                    continue
                try:
                    if status.st_size == sizes[name] and touch(fd):
                        touched.append(name)
                finally:
                    os.close(fd)
    except FileNotFoundError:  # the shard was removed
        tree.forget_shards()
        return [], names
    return touched, changed


def _sync(tree: Tree, touched: Mapping[Digest, list[Digest]], renewed: Iterable[Digest]) -> None:
    """Sync these files, given by a name in each shard, and the directories of all `renewed` names."""
    work = dict(touched)
    if tree.full:
        shards = {name.raw[0] for name in work}
        for group in _by_shard(renewed):
            if group[0].raw[0] not in shards:
                work[group[0]] = []
    with ThreadPoolExecutor(SYNCS, "wsgi_store-renewal") as pool:
        for _ in pool.map(lambda item: _sync_shard(tree, *item), work.items()):
            pass


def _sync_shard(tree: Tree, first: Digest, names: list[Digest]) -> None:
    # Whoever removed or replaced a file or a directory meanwhile has synced what is there now.
    with suppress(FileNotFoundError), tree.make_shard(first) as shard:
        for name in names:
            with suppress(FileNotFoundError, NoFile):
                fd, _ = open_file(name.hex, shard.fd)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        if tree.full:
            shard.sync()
