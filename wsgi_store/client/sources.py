"""What is uploaded: read in pieces, counted and hashed on its way."""

import io
from collections.abc import Callable
from typing import BinaryIO

from wsgi_store.digest import Algorithm, Digest, Hasher

Progress = Callable[[int], None]
"""Told how many bytes have been transferred so far; fewer than before where it begins anew."""


class SourceFailed(Exception):
    """Carries an error of the file past urllib3, which would take it for one of the connection."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class Source:
    """The bytes of a file from where it stands to its end.

    `size` in bytes is None where it is not known beforehand, in a pipe.
    """

    def __init__(self, file: BinaryIO, algorithm: Algorithm, progress: Progress | None) -> None:
        self._file = file
        self._algorithm = algorithm
        self._progress = progress
        self._hasher = Hasher(algorithm)
        self.done = 0
        """How many bytes were read."""
        self.rewindable = file.seekable()
        self.size: int | None = None
        if self.rewindable:
            self._start = file.tell()
            self.size = file.seek(0, io.SEEK_END) - self._start
            file.seek(self._start)
        # From a pipe what there is, not first a whole piece: the server does not wait for ever.
        self._read = file.read if self.rewindable else getattr(file, "read1", file.read)

    def rewind(self) -> None:
        """Begin, or begin anew."""
        if self.done:
            self._file.seek(self._start)
        self.done = 0
        self._hasher = Hasher(self._algorithm)

    def read(self, size: int) -> bytes:
        """Read a piece; raises SourceFailed."""
        if self.size is not None:
            # What is appended meanwhile was not announced.
            size = min(size, self.size - self.done)
        try:
            data: bytes = self._read(size) if size else b""
            if not data and self.done < (self.size or 0):
                raise OSError("the file became shorter while it was sent")
        except OSError as error:
            raise SourceFailed(error) from error
        self.done += len(data)
        self._hasher.update(data)
        if self._progress is not None:
            self._progress(self.done)
        return data

    def digest(self) -> Digest:
        """The digest of what was read."""
        return self._hasher.finish()
