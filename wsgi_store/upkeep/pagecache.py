"""Reading files without a change of the page cache: cached blocks stay, others are not added."""

import ctypes
import mmap
import os
from collections.abc import Iterator

from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.contract import BlobReader
from wsgi_store.store.disk.reader import LocalReader

BLOCK_SIZE = 256 << 10  # larger blocks would not stay in the cache of the processor until they are hashed
WINDOW_SIZE = 1 << 30
_LIBC = ctypes.CDLL(None)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_ssize_t]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.fstatfs.argtypes = [ctypes.c_int, ctypes.c_char_p]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_PROT_NONE = 0
# statfs(2): file systems that keep their files in memory.
_TMPFS, _RAMFS = 0x01021994, 0x858458F6
# Of what mincore(2) tells of a page, only the lowest bit is defined.
_LOWEST_BIT = bytes(value & 1 for value in range(256))


class Blocks:
    """Reads blobs one after another, block by block into the same page-aligned memory.

    New memory for each block would have to be mapped and zeroed each time.
    """

    def __init__(self) -> None:
        self._buffer = memoryview(mmap.mmap(-1, BLOCK_SIZE))
        self._in_memory: bool | None = None  # the file system, as of the first file

    def of(self, reader: BlobReader) -> Iterator[memoryview | bytes]:
        """Yield the bytes of a whole blob; each block is valid until the next one is requested.

        Blocks of a local file that were not cached before are dropped from the page cache. Raises
        StoreError.
        """
        return self._local(reader) if isinstance(reader, LocalReader) else _other(reader)

    def _local(self, reader: LocalReader) -> Iterator[memoryview]:
        fd = reader.fileno()
        if self._in_memory is None:
            self._in_memory = _in_memory(fd)
        try:
            length, cached = (0, None) if self._in_memory else self._probe(reader)
            if length:
                yield self._buffer[:length]
            while length := reader.fill(self._buffer):
                yield self._buffer[:length]
                offset = reader.tell() - length
                if cached and not cached[min(offset // BLOCK_SIZE, len(cached) - 1)]:
                    os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            message = f"cannot read the blob: {error.strerror}"
            raise StoreUnavailable(message, hash=reader.blob.digest.hex) from error

    def _probe(self, reader: LocalReader) -> tuple[int, bytes | None]:
        """Find out which blocks are cached, None for all; this reads a small file that is cached."""
        fd, size = reader.fileno(), reader.blob.size
        if size <= BLOCK_SIZE:
            # Cheaper than mincore(2). It may start readahead, but only of this file; if the disk is faster
            # than the answer, the file counts as cached and stays.
            try:
                length = reader.fill(self._buffer, os.RWF_NOWAIT)
                return length, None if length == size else b"\0"
            except BlockingIOError:
                return 0, b"\0"
            except OSError:
                pass  # the file system does not support the flag, or reading fails
        return 0, resident(fd, size)


def _other(reader: BlobReader) -> Iterator[bytes]:
    while block := reader.read(BLOCK_SIZE):
        yield block


def _in_memory(fd: int) -> bool:
    """Whether a file is on a file system that keeps its files in memory."""
    status = ctypes.create_string_buffer(256)
    _LIBC.fstatfs(fd, status)  # if it fails, the type stays 0
    return ctypes.c_long.from_buffer(status).value in (_TMPFS, _RAMFS)


def resident(fd: int, size: int, window: int = WINDOW_SIZE) -> bytes:
    """Return a byte for each block of a file: 1 if any page of it is in the page cache (mincore(2)), else 0.

    All are 1 if the kernel does not say, as for files that this user may not write.
    """
    # In windows, because the kernel returns a byte for each page.
    return b"".join(_resident(fd, start, min(window, size - start)) for start in range(0, size, window))


def _resident(fd: int, start: int, size: int) -> bytes:
    number = -(-size // BLOCK_SIZE)
    address = _LIBC.mmap(None, size, _PROT_NONE, mmap.MAP_SHARED, fd, start)
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    # What mmap(2) returns when it fails is no address of a page, so the others fail as well.
    failed = _LIBC.mincore(address, size, pages)
    _LIBC.munmap(address, size)
    if failed:
        return b"\1" * number
    present = pages.raw.translate(_LOWEST_BIT)
    per_block = BLOCK_SIZE // mmap.PAGESIZE
    return bytes(b"\1" in present[at : at + per_block] for at in range(0, len(present), per_block))
