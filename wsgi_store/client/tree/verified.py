"""Files on this machine whose bytes are compared with a digest."""

import os

from wsgi_store.digest import Digest
from wsgi_store.filesystem import open_file

# Bytes that are read at once.
PIECE = 1 << 20


def open_verified(name: bytes, around: int, digest: Digest) -> int | None:
    """Return a descriptor of a regular file if it can be read and its bytes have the digest."""
    try:
        fd, _ = open_file(os.fsdecode(name), around)
    except OSError:
        return None
    found = digest.algorithm.new()
    is_equal = False
    try:
        while data := os.read(fd, PIECE):
            found.update(data)
        is_equal = found.digest() == digest.raw
    except OSError:
        pass
    finally:
        if not is_equal:
            os.close(fd)
    return fd if is_equal else None
