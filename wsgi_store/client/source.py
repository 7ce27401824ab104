"""What is uploaded: read in pieces, counted and hashed on its way."""

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
# Milliseconds for which a pipe is waited for without a word.
SILENT = 500
log = logging.getLogger(__name__)
Progress = Callable[[int], None]
"""Told how many bytes have been transferred so far; fewer than before where it begins anew."""


class SourceFailed(Exception):
    """Carries an error of the file past urllib3, which would take it for one of the connection."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def reading(source: Any) -> Iterator[Any]:
    """A file to read from: `source` itself, what its path leads to, its bytes, or the pieces it yields.

    Raises TypeError for what is nothing of that, OSError.
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
    # Released in the end: what is viewed cannot be closed or grow until then.
    with view, _flat(view) as flat:
        yield _View(flat)


def _flat(view: memoryview) -> memoryview:
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # not in one piece, or of foreign numbers
        return memoryview(view.tobytes())


class _View:
    """Bytes of any kind as a file, not copied as a whole."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def seekable(self) -> bool:
        """They can be read again."""
        return True

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere, from the beginning or the end."""
        self._at = offset if whence == io.SEEK_SET else len(self._view) + offset
        return self._at

    def read(self, size: int) -> bytes:
        """Read a piece."""
        data = bytes(self._view[self._at : self._at + size])
        self._at += len(data)
        return data


class _Pieces(io.RawIOBase):
    """What an iterator yields as a file, to be read once."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It can be read from."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what the next piece has; an empty one is not the end."""
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
    """Open a file, a pipe, a disk or a terminal to be uploaded to its end.

    Raises OSError, also for what has no end or none that is its own: other devices, directories.
    """

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)

    file = io.FileIO(os.fspath(path), opener=opener)
    try:
        mode = os.fstat(file.fileno()).st_mode
        check_end(file, path)
        # The end of a nameless one belongs to whoever made it.
        if stat.S_ISFIFO(mode) and not os.readlink(f"/proc/self/fd/{file.fileno()}").startswith("pipe:"):
            _await_writer(file, path)
        os.set_blocking(file.fileno(), True)
    except BaseException:
        file.close()
        raise
    return file


def check_end(file: BinaryIO | io.FileIO, path: str | os.PathLike[str] = "standard input") -> None:
    """Raise OSError for a device that gives nothing, or bytes for ever; a terminal does not."""
    try:
        fd = file.fileno()
        os.read(fd, 0)
    except io.UnsupportedOperation:
        return
    if stat.S_ISCHR(os.fstat(fd).st_mode) and not os.isatty(fd):
        raise OSError(errno.EINVAL, "a device without an end: pipe what is wanted of it to -", path)


def _size(file: BinaryIO, start: int) -> int | None:
    """The bytes from there to the end; None where nobody knows before it is read: files of the kernel."""
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
    """Wait until somebody has written to a pipe or closed it, and say so; before, it seems empty."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(SILENT):
        log.warning("%s: waiting for somebody to write to this pipe", os.fspath(path))
        poll.poll()


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
        self.rewindable = bool(getattr(file, "seekable", bool)())
        self.size: int | None = None
        if self.rewindable:
            self._start = file.tell()
            self.size = _size(file, self._start)
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
            data: bytes | None = self._read(size) if size else b""
            if data is None:
                raise BlockingIOError(errno.EAGAIN, "a file that does not wait has nothing yet")
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
