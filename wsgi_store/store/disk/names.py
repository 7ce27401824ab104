"""Further names of blobs: relative symbolic links where a blob of that name would lie."""

import errno
import os
import re
import stat

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.filesystem import NoFile
from wsgi_store.store.marker import Marker

_TARGET = re.compile(r"\.\./([0-9a-f]{2})/(\1[0-9a-f]+)")


def target_of(primary: Digest) -> str:
    """Return the text of a link to a blob (symlink(7))."""
    return f"../{primary.hex[:2]}/{primary.hex}"


def read_link(name: str, directory: int) -> str | None:
    """Return the text of a link, None for anything else; raises FileNotFoundError and other OSErrors."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # readlink(2)
            raise
        return None


def followed(text: str, algorithm: Algorithm, marker: Marker) -> Digest | None:
    """Return the name that a link under a name by `algorithm` leads to; None if it is no name of a blob."""
    match = _TARGET.fullmatch(text)
    # A primary name is that of the file itself, and an old one leads only to a primary one.
    if match is not None and algorithm in marker.names:
        for leading in (marker.algorithm, marker.migrating):
            if leading not in (None, algorithm) and len(match[2]) == 2 * leading.size:
                return Digest(leading, bytes.fromhex(match[2]))
    return None


def is_link(text: str) -> bool:
    """Whether this is the text of a link that a store makes."""
    return _TARGET.fullmatch(text) is not None


def stat_file(name: str, directory: int) -> os.stat_result:
    """Describe a regular file; raises NoFile for anything else, FileNotFoundError and other OSErrors."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise NoFile("not a regular file")
    return status


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs for every other file, and changes with every write to this one."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
