"""Which upload of an owner is that of which content.

For each digest that was announced, a record in the directory of the owner has the id of the last upload for
which it was. Whoever reads a record compares what was announced: it may be that of an upload that has ended.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from wsgi_store.digest import Digest
from wsgi_store.filesystem import Directory, locked
from wsgi_store.uploads import records

PREFIX = ".of-"
ID = re.compile(b"[0-9a-f]{32}")


def noted(own: int, expected: Iterable[Digest]) -> Iterator[str]:
    """Yield the ids of the uploads for which these digests were announced; raises OSError."""
    for digest in expected:
        identity = _read(_name(digest), own)
        if identity is not None:
            yield identity


def note(own: int, expected: Iterable[Digest], identity: str, *, sync: bool) -> None:
    """Record the id of the upload for which these digests were announced; raises OSError."""
    for digest in expected:
        records.replace(_name(digest), identity.encode(), own, sync=sync)


def sweep(own: str) -> None:
    """Remove the records of uploads that are gone, unless one is being made; raises OSError."""
    with Directory(own) as place:
        found = [name for name in os.listdir(place.fd) if name.startswith(PREFIX)]
        # The creation of an upload holds the lock until the records lead there.
        with suppress(BlockingIOError), locked(place.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, needed=False):
            for name in found:
                identity = _read(name, place.fd)
                if identity is None or not records.exists(identity, place.fd):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=place.fd)


def _read(name: str, own: int) -> str | None:
    """Return the id in a record; None if there is none, or a power failure has damaged it."""
    try:
        data = records.read(name, own)
    except FileNotFoundError:
        return None
    return data.decode() if ID.fullmatch(data) else None


def _name(digest: Digest) -> str:
    return f"{PREFIX}{digest.algorithm.value}-{digest.hex}"
