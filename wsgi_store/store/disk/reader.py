"""A blob of a local disk, read from its beginning to its end."""

import os
import warnings
from collections.abc import Iterator
from functools import partial

from wsgi_store.errors import StoreUnavailable
from wsgi_store.filesystem import disk_errors
from wsgi_store.store.contract import Blob

READ_SIZE = 1 << 18


class LocalReader:
    """Part of a local file, whose descriptor stands where the part begins.

    It has what servers ask of a file that they send themselves: `fileno`, `seek`, `tell`.
    """

    closed = True  # until there is something to close

    def __init__(self, fd: int, blob: Blob, start: int, length: int | None) -> None:
        self.blob = blob
        self.start = start
        self._fd = fd
        self._at = start
        self._stop = blob.size if length is None else min(start + length, blob.size)
        self._whole = False  # whether the last byte was read, which proves that the file was not cut
        self.closed = False

    def __del__(self) -> None:
        if not self.closed:
            warnings.warn(f"unclosed reader of {self.blob.digest}", ResourceWarning, source=self)
            os.close(self._fd)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes of the part; raises StoreUnavailable when the file was cut."""
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
        """Read the next bytes of the part into a buffer; returns how many, 0 only at its end.

        `flags` are those of preadv2(2). Raises OSError, and StoreUnavailable when the file was cut.
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
        """Go on from `offset` in bytes, by default from the beginning of the blob (lseek(2))."""
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += self._stop
        self._at = offset
        return offset

    def tell(self) -> int:
        """Where the next read begins, in bytes from the beginning of the blob."""
        return self._at

    def fileno(self) -> int:
        """The descriptor, for sendfile(2); its offset stays where the part begins."""
        return self._fd

    def close(self) -> None:
        """Close the file; raises StoreUnavailable when it was cut meanwhile.

        Who sent it by sendfile(2) may have sent less than announced, and not know.
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
