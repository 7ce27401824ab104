"""Archives as a server sends them: tar, with blobs as files named by their hashes and nothing else.

The module tarfile reads any archive; for small files it takes several times as long as this.
"""

import re
from collections.abc import Iterator

from wsgi_store.errors import UnexpectedAnswer

# POSIX.1-2017, pax, section "ustar Interchange Format": headers and files are padded to whole blocks,
# and two empty blocks are the end.
BLOCK = 512
END = bytes(2 * BLOCK)
# Blocks that a file takes besides its bytes: two headers, one of them with records, and padding.
MOST_BLOCKS = 4
_USTAR = b"ustar\x0000"
# The record of an extended header with a hash that is too long for the header of a file.
_PATH = re.compile(rb"^[0-9]+ path=([0-9a-f]+)$", re.MULTILINE)


class Cut(Exception):
    """An archive stops before its end."""


def files(archive: bytes | bytearray) -> Iterator[tuple[str, memoryview]]:
    """Yield names and bytes of the files; raises Cut after the last whole one, and UnexpectedAnswer."""
    view = memoryview(archive)
    at = 0
    long_name = b""
    while True:
        header = bytes(view[at : at + BLOCK])
        if header.startswith(b"\0"):
            if bytes(view[at : at + len(END)]) == END:
                return
            raise Cut if len(view) < at + len(END) else _strange()
        if len(header) < BLOCK:
            raise Cut
        kind = header[156:157]
        if header[257:265] != _USTAR or kind not in (b"0", b"x"):
            raise _strange()
        try:
            size = int(header[124:135], 8)
        except ValueError:
            raise _strange() from None
        at += BLOCK
        data = view[at : at + size]
        at += size + -size % BLOCK
        if at > len(view):
            raise Cut
        if kind == b"x":
            found = _PATH.search(data)
            if found is None:
                raise _strange()
            long_name = found[1]
            continue
        name, long_name = long_name or header[:100].rstrip(b"\0"), b""
        yield name.decode("ascii", "replace"), data


def _strange() -> UnexpectedAnswer:
    return UnexpectedAnswer("the server sent an archive with something other than blobs")
