"""What a store holds: its size, and a list for other programs."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from wsgi_store.filesystem import Directory, disk_errors
from wsgi_store.store.contract import Store
from wsgi_store.store.staged import STAGED_NAME


@dataclass
class Usage:
    """The numbers of blobs, files in quarantine and staged files, and their sizes in bytes."""

    blobs: int = 0
    bytes: int = 0
    quarantined: int = 0
    quarantined_bytes: int = 0
    staged: int = 0
    """Only files with a name, in use or left behind; nameless ones cannot be counted."""
    staged_bytes: int = 0


def usage(store: Store) -> Usage:
    """Count what a store holds; raises StoreError."""
    used = Usage()
    for blob in store.iterate():
        used.blobs += 1
        used.bytes += blob.size
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
    return used


def manifest(store: Store) -> Iterator[str]:
    """Yield a line for each blob that `md5sum --check` and similar programs read in the root of the store.

    For a bucket the paths are those that its blobs have in a store on a disk. Raises StoreError.
    """
    for blob in store.iterate():
        name = blob.digest.hex
        yield f"{name}  {name[:2]}/{name}"
