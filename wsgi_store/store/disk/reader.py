"""Reading a blob from a local disk."""

import os
import warnings
from collections.abc import Iterator
from functools import partial

from wsgi_store.errors import StoreUnavailable
from wsgi_store.filesystem import disk_errors
from wsgi_store.store.contract import Blob
from wsgi_store.store.disk.names import stamp_of

READ_SIZE = 1 << 18


class LocalReader:
    """Reads part of a local file; the offset of its descriptor is where the part begins.

    `fileno`, `seek` and `tell` are for servers that send the file themselves.
    """

    closed = True  # if __init__ fails, there is nothing to close

    def __init__(
        self, fd: int, blob: Blob, status: os.stat_result, start: int = 0, length: int | None = None
    ) -> None:
        self.blob = blob
        self.status = status
        self.start = start
        self._fd = fd
        self._at = start
        self._stop = blob.size if length is None else min(start + length, blob.size)
        self._whole = False  # whether the last byte was read, so that the file cannot have been truncated
        self.closed = False

    @property
    def stamp(self) -> object:
        """What differs for every other file, and changes with every write since this one was opened."""
        return stamp_of(self.status)

    def __del__(self) -> None:
        if not self.closed:
            warnings.warn(f"unclosed reader of {self.blob.digest}", ResourceWarning, source=self)
            os.close(self._fd)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes of the part; raises StoreUnavailable if the file was truncated."""
        left = self._stop - self._at
        if size < 0 or size > left:
            size = left
        if size <= 0:
            return b""
        with disk_errors("cannot read the blob"):
            data = os.pread(self._fd, size, self._at)
        if not data:
            raise self._cut()
        self._at += len(data)
        if self._at == self._stop:
            self._whole = True
        return data

    def __iter__(self) -> Iterator[bytes]:
        return iter(partial(self.read, READ_SIZE), b"")

    def fill(self, buffer: memoryview, flags: int = 0) -> int:
        """Read the next bytes of the part into a buffer; returns their number, 0 only at the end.

        `flags` are those of preadv2(2). Raises OSError, and StoreUnavailable if the file was truncated.
        """
        left = self._stop - self._at
        if left <= 0:
            return 0
        length = os.preadv(self._fd, [buffer[:left]], self._at, flags)
        if not length:
            raise self._cut()
        self._at += length
        self._whole = self._at == self._stop
        return length

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Continue at `offset` in bytes, by default from the beginning of the blob (lseek(2))."""
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += self._stop
        self._at = offset
        return offset

    def tell(self) -> int:
        """Return where the next read begins, in bytes from the beginning of the blob."""
        return self._at

    def fileno(self) -> int:
        """Return the descriptor, for sendfile(2); its offset stays where the part begins."""
        return self._fd

    def close(self) -> None:
        """Close the file; raises StoreUnavailable if it was truncated while it was open.

        A server that used sendfile(2) may have sent fewer bytes than announced without noticing.
        """
        if self.closed:
            return
        self.closed = True
        with disk_errors("cannot read the blob"):
            try:
                cut = not self._whole and os.fstat(self._fd).st_size < self._stop
            finally:
                os.close(self._fd)
        if cut:
            raise self._cut()

    def _cut(self) -> StoreUnavailable:
        hash_ = self.blob.digest.hex
        return StoreUnavailable(f"the blob {hash_} is shorter than it was when it was opened", hash=hash_)
