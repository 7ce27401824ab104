"""A blob of a local disk, read from its beginning to its end."""

import io
import os

from wsgi_store.errors import StoreUnavailable, disk_errors
from wsgi_store.stores import Blob


class LocalReader(io.FileIO):
    """Part of a local file, at the offset where it begins."""

    _stop = 0

    def __init__(self, fd: int, blob: Blob, start: int, length: int | None) -> None:
        super().__init__(fd)
        self.blob = blob
        self.start = start
        self._stop = blob.size if length is None else min(start + length, blob.size)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes of the part; raises StoreUnavailable when the file was cut."""
        with disk_errors("cannot read the blob"):
            # From the offset, not from a count: waitress reads, seeks back and reads again.
            left = max(0, self._stop - self.tell())
            if size is None or size < 0 or size > left:
                size = left
            data = super().read(size) or b""
        if size and not data:
            raise self._cut()
        return data

    def close(self) -> None:
        """Close the file; raises StoreUnavailable when it was cut meanwhile.

        Who sent it by sendfile(2) may have sent less than announced, and not know.
        """
        if not self.closed:
            with disk_errors("cannot read the blob"):
                try:
                    size = os.fstat(self.fileno()).st_size
                finally:
                    super().close()
            if size < self._stop:
                raise self._cut()

    def _cut(self) -> StoreUnavailable:
        hash_ = self.blob.digest.hex
        return StoreUnavailable(f"the blob {hash_} is shorter than it was when it was opened", hash=hash_)
