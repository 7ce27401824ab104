"""What a store holds: its size, and a list for other programs."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.filesystem import Directory, disk_errors
from wsgi_store.store.abilities import Names
from wsgi_store.store.contract import Store
from wsgi_store.store.staged import STAGED_NAME
from wsgi_store.upkeep.ranges import every_blob
from wsgi_store.uploads.room import Room, directory_of


@dataclass
class Usage:
    """The numbers of blobs, names, quarantined and staged files and uploads, and their sizes in bytes."""

    blobs: int = 0
    bytes: int = 0
    quarantined: int = 0
    quarantined_bytes: int = 0
    staged: int = 0
    """Only files with a name, in use or left behind; nameless ones cannot be counted."""
    staged_bytes: int = 0
    names: int = 0
    """Further names; those that lead nowhere count, too."""
    names_bytes: int = 0
    """What they take of the disk, apart from an inode for each."""
    uploads: int = 0
    """Unfinished uploads of clients."""
    uploads_bytes: int = 0
    promised: int = 0
    """Those of them for whose rest room is kept."""
    promised_bytes: int = 0


def usage(store: Store) -> Usage:
    """Count what a store holds; raises StoreError."""
    used = Usage()
    for blob in every_blob(store):
        used.blobs += 1
        used.bytes += blob.size
    if isinstance(store, Names):
        for size in store.name_sizes():
            used.names += 1
            used.names_bytes += size
    for blob in store.quarantined():
        used.quarantined += 1
        used.quarantined_bytes += blob.size
    with (
        disk_errors("cannot list the staged files"),
        suppress(FileNotFoundError),  # a copy of a store has no staging directory
        Directory(store.staging_directory) as staging,
    ):
        for name in filter(STAGED_NAME.fullmatch, os.listdir(staging.fd)):
            with suppress(FileNotFoundError):  # published or abandoned meanwhile
                used.staged_bytes += os.stat(name, dir_fd=staging.fd, follow_symlinks=False).st_size
                used.staged += 1
    now = time.time()
    for upload in Room(directory_of(store)).unfinished():
        used.uploads += 1
        used.uploads_bytes += upload.size
        if promised := upload.promised(now):
            used.promised += 1
            used.promised_bytes += promised
    return used


def manifest(store: Store, algorithm: Algorithm | None = None) -> Iterator[str]:
    """Yield a line for each blob that `sha256sum --check` and similar programs read in the root of the store.

    The names are those by the primary algorithm, or by a further one. For a bucket the paths are those that
    its blobs have in a store on a disk. Raises ConfigError if the store keeps no such names, and StoreError.
    """
    kept = store.refresh()
    if algorithm is not None and algorithm not in kept:
        told = ", ".join(one.value for one in kept)
        raise ConfigError(f"this store has no {algorithm.value} names, but {told}")
    for blob in store.iterate(algorithm=algorithm or kept[0]):
        name = blob.digest.hex
        yield f"{name}  {name[:2]}/{name}"
