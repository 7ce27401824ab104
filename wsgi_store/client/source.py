"""The bytes of an upload: read in pieces, counted and hashed on the way."""

import errno
import io
import logging
import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.hashing import Hasher

END = object()
# Bytes that are read at once to hash them again.
PIECE = 1 << 20
# Milliseconds before a message says that a pipe has no writer.
SILENT = 500
log = logging.getLogger(__name__)
Progress = Callable[[int], None]
"""Called with the number of bytes transferred so far; a repetition starts again from what is there."""


class SourceFailed(Exception):
    """Carries an OSError of the file through urllib3, which would blame the connection for it."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def reading(source: Any) -> Iterator[Any]:
    """Give a file that reads `source`: a path, a file, bytes or an iterable of bytes.

    Raises OSError, and TypeError for anything else.
    """
    if isinstance(source, str | os.PathLike):
        with opened(source) as file:
            yield file
        return
    try:
        view = memoryview(source)
    except TypeError:
        if hasattr(source, "read"):
            yield source
        elif isinstance(source, Iterable):
            yield _Pieces(iter(source))
        else:
            raise TypeError(
                f"expected a path, a file, bytes or an iterable of bytes, not {type(source).__name__}"
            ) from None
        return
    # A bytearray cannot grow, and an mmap cannot be closed, before its views are released.
    with view, _flat(view) as flat:
        yield _View(flat)


def _flat(view: memoryview) -> memoryview:
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # not contiguous, or with a byte order of its own
        return memoryview(view.tobytes())


class _View:
    """A buffer as a file, without a copy of it."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def seekable(self) -> bool:
        """A buffer can be read again."""
        return True

    def tell(self) -> int:
        """The position, in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position, relative to the beginning or the end."""
        self._at = offset if whence == io.SEEK_SET else len(self._view) + offset
        return self._at

    def read(self, size: int) -> bytes:
        """Read a piece."""
        data = bytes(self._view[self._at : self._at + size])
        self._at += len(data)
        return data


class _Pieces(io.RawIOBase):
    """An iterator of bytes as a file; it can be read once."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read from the next piece that is not empty."""
        while not self._rest:
            piece: Any = next(self._pieces, END)
            if piece is END:
                return 0
            self._rest = _flat(memoryview(piece))
        length = min(len(buffer), len(self._rest))
        buffer[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        return length


def opened(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a file, a pipe, a disk or a terminal to read it to its end.

    Raises OSError, also for directories and for devices that have no end.
    """
    file = io.FileIO(os.fspath(path), opener=lambda path, _: open_path(path))
    try:
        prepare(file, path)
    except BaseException:
        file.close()
        raise
    return file


def open_path(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of the file at a path, without waiting for a writer of a pipe; raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def prepare(file: io.FileIO, path: str | os.PathLike[str]) -> None:
    """Make ready to read to its end what was opened by `open_path`; raises OSError as `opened` does."""
    mode = os.fstat(file.fileno()).st_mode
    check_end(file, path)
    # An anonymous pipe has its writer already.
    if stat.S_ISFIFO(mode) and not os.readlink(f"/proc/self/fd/{file.fileno()}").startswith("pipe:"):
        _await_writer(file, path)
    os.set_blocking(file.fileno(), True)


def check_end(file: BinaryIO | io.FileIO, path: str | os.PathLike[str] = "standard input") -> None:
    """Raise OSError for a character device other than a terminal; such as /dev/zero never end."""
    try:
        fd = file.fileno()
        os.read(fd, 0)
    except io.UnsupportedOperation:
        return
    if stat.S_ISCHR(os.fstat(fd).st_mode) and not os.isatty(fd):
        raise OSError(errno.EINVAL, "the device may have no end: pipe the part you want to -", path)


def _size(file: BinaryIO, start: int) -> int | None:
    """Return the bytes from `start` to the end; None if the size is unknown, as for files in /proc."""
    try:
        size = file.seek(0, io.SEEK_END) - start
    except OSError:
        return None
    file.seek(start)
    if size or not file.read(1):
        return size
    file.seek(start)
    return None


def _await_writer(pipe: io.FileIO, path: str | os.PathLike[str]) -> None:
    """Wait for the first writer of a pipe, and log that; a pipe that had no writer yet reads as empty."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(SILENT):
        log.warning("%s: waiting for a writer of this pipe", os.fspath(path))
        poll.poll()


class Source:
    """The bytes of a file from its current position to its end.

    `size`, in bytes, is None if it is unknown beforehand, as of a pipe.
    """

    def __init__(
        self, file: BinaryIO, algorithm: Algorithm, progress: Progress | None, wanted: Digest | None = None
    ) -> None:
        self._file = file
        self._algorithm = algorithm
        self._progress = progress
        self.wanted = wanted
        """The digest that the bytes should have."""
        self._hasher: Hasher | None = Hasher(algorithm, self._expected())
        self.done = 0
        """The number of bytes that were read, or that the server has already."""
        self.known: Digest | None = None
        """The digest, where it is known before the bytes are sent."""
        self.continued_at = 0
        """How many bytes the server had at first."""
        self.rewindable = bool(getattr(file, "seekable", bool)())
        self.size: int | None = None
        if self.rewindable:
            self._start = file.tell()
            self.size = _size(file, self._start)
        # `read` of a slow pipe would wait for a whole piece, longer than the server waits for the client.
        self._read = file.read if self.rewindable else getattr(file, "read1", file.read)

    def _expected(self) -> tuple[Digest, ...]:
        return () if self.wanted is None else (self.wanted,)

    def rewind(self) -> None:
        """Go back to the beginning."""
        if self.done:
            self._file.seek(self._start)
        self.done = 0
        self._hasher = Hasher(self._algorithm, self._expected())

    def seek(self, offset: int) -> None:
        """Continue behind the bytes that the server has; the digest must be known."""
        self._file.seek(self._start + offset)
        self.done = offset
        self._hasher = None
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self.done)

    def read(self, size: int) -> bytes:
        """Read a piece; raises SourceFailed."""
        data = self._piece(size)
        if self._hasher is not None:
            self._hasher.update(data)
        self._tell()
        return data

    def _piece(self, size: int) -> bytes:
        if self.size is not None:
            # Bytes appended during the upload are beyond the Content-Length.
            size = min(size, self.size - self.done)
        try:
            data: bytes | None = self._read(size) if size else b""
            if data is None:
                raise BlockingIOError(errno.EAGAIN, "the file is non-blocking and has no data yet")
            if not data and self.done < (self.size or 0):
                raise OSError("the file shrank during the upload")
        except OSError as error:
            raise SourceFailed(error) from error
        self.done += len(data)
        return data

    def digest(self) -> Digest:
        """Return the digest of the bytes; raises DigestMismatch if those that were read lack `wanted`."""
        if self._hasher is not None:
            return self._hasher.finish()
        assert self.known is not None
        return self.known

    def hash(self, *algorithms: Algorithm, progress: Progress | None = None) -> dict[Algorithm, Digest]:
        """Read all bytes and return their digests; raises SourceFailed, and DigestMismatch like `digest`."""
        hasher = Hasher(algorithms[0], self._expected(), algorithms)
        self.rewind()
        while data := self._piece(PIECE):
            hasher.update(data)
            if progress is not None:
                progress(self.done)
        return hasher.digests()
