"""What became of each entry of a tree."""

import errno
from collections.abc import Callable
from dataclasses import dataclass

from wsgi_store.client.tree.entry import Entry
from wsgi_store.errors import WSGIStoreError

Tell = Callable[[int, int], None]
"""Called with the bytes of the files that are restored so far, and with the bytes of all files."""

# Failures that will hit every file.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of an entry of a tree."""

    entry: Entry
    written: bool
    """Whether it was made or replaced; otherwise it was there already, or failed."""
    error: WSGIStoreError | OSError | None = None
    """Why it could not be restored."""
