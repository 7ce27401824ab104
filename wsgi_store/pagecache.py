"""Reading files without a trace in the page cache: what others read stays, nothing else comes."""

import ctypes
import mmap
import os
from collections.abc import Iterator

from wsgi_store.stores import BlobReader
from wsgi_store.stores.reader import LocalReader

BLOCK = 256 << 10  # larger ones leave the processor's cache before they are hashed
_LIBC = ctypes.CDLL(None)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_ssize_t]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_PROT_NONE = 0
_MAP_FAILED = ctypes.c_void_p(-1).value


def blocks(reader: BlobReader) -> Iterator[bytes]:
    """Yield the bytes of a whole blob; of a local file, blocks that were not cached are dropped again.

    O_DIRECT would leave no trace either, but reads the disk for what is in memory, does not
    read ahead, and is refused by some file systems. Raises what the reader raises.
    """
    fd = reader.fileno() if isinstance(reader, LocalReader) else None
    cached = [True] if fd is None else _cached(fd, reader.blob.size)
    offset = 0
    while block := reader.read(BLOCK):
        if fd is not None and not cached[min(offset // BLOCK, len(cached) - 1)]:
            os.posix_fadvise(fd, offset, len(block), os.POSIX_FADV_DONTNEED)
        offset += len(block)
        yield block


def _cached(fd: int, size: int) -> list[bool]:
    if size <= BLOCK:
        # For small files mincore(2) takes half as long as reading and hashing them. Where this
        # starts to read ahead, nothing but this file is read.
        try:
            os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
            return [True]
        except BlockingIOError:
            return [False]
        except OSError:
            pass  # the file system does not say
    return resident(fd, size)


def resident(fd: int, size: int) -> list[bool]:
    """Tell of each block of a file whether any page of it is in the page cache (mincore(2)).

    True for all of them where the kernel does not tell, as of files that this user may not write.
    """
    if not size:
        return [True]
    number = -(-size // BLOCK)
    address = _LIBC.mmap(None, size, _PROT_NONE, mmap.MAP_SHARED, fd, 0)
    if address == _MAP_FAILED:
        return [True] * number
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    try:
        if _LIBC.mincore(address, size, pages):
            return [True] * number
    finally:
        _LIBC.munmap(address, size)
    # The other bits of a byte are reserved.
    present = bytes(pages.raw).translate(bytes(value & 1 for value in range(256)))
    per_block = BLOCK // mmap.PAGESIZE
    return [b"\1" in present[at : at + per_block] for at in range(0, len(present), per_block)]
