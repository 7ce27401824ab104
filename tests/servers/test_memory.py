"""A worker's memory does not grow with the size of the files it transfers.

TEST_FILE_SIZE is the file's size in bytes, TEST_FILE_DIRECTORY where it and the store go:
`TEST_FILE_SIZE=$((2 << 30)) TEST_FILE_DIRECTORY=/var/tmp pytest -rP tests/servers/test_memory.py`.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.exchanges import told
from tests.support.servers import Server, gunicorn
from tests.support.wire import Connection, message

SIZE = int(os.environ.get("TEST_FILE_SIZE", 256 << 20))
# In memory by default, as the disk is not under test.
DIRECTORY = os.environ.get("TEST_FILE_DIRECTORY", "/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
BLOCK = bytes(range(256)) * (4 << 10)
LIMIT = 16 << 20
assert SIZE % len(BLOCK) == 0, "TEST_FILE_SIZE: expected whole MiB"


@pytest.fixture(scope="module", name="server")
def fixture_server() -> Iterator[Server]:
    """One worker as in production, warmed up with each kind of transfer."""
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        with gunicorn(Path(directory), workers=1, python=()) as server:
            for upload in UPLOADS.values():
                upload(server.port, 3 << 20)
            download(server.port, raw(server.port, 3 << 20))
            yield server


def raw(port: int, size: int) -> str:
    """Upload `size` bytes with a Content-Length."""
    with Connection(port) as connection:
        connection.send(message("POST", "/", Content_Length=size))
        for _ in range(size // len(BLOCK)):
            connection.send(BLOCK)
        return told(connection.receive())[0]


def chunked(port: int, size: int) -> str:
    """Upload `size` bytes in chunks of 1 MiB."""
    with Connection(port) as connection:
        connection.send(message("POST", "/", Transfer_Encoding="chunked"))
        for _ in range(size // len(BLOCK)):
            connection.send(b"%x\r\n" % len(BLOCK), BLOCK, b"\r\n")
        connection.send(b"0\r\n\r\n")
        return told(connection.receive())[0]


def form(port: int, size: int) -> str:
    """Upload `size` bytes as the file of a form."""
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    tail = b"\r\n--x--\r\n"
    length = len(head) + size + len(tail)
    kind = "multipart/form-data; boundary=x"
    with Connection(port) as connection:
        connection.send(message("POST", "/", Content_Length=length, Content_Type=kind), head)
        for _ in range(size // len(BLOCK)):
            connection.send(BLOCK)
        connection.send(tail)
        return told(connection.receive())[0]


def download(port: int, hash_: str, **fields: str) -> int:
    """Download a blob, or part of it; return the number of bytes received, header included."""
    with Connection(port) as connection:
        connection.send(message("GET", f"/{hash_}", Connection="close", **fields))
        received = 0
        while data := connection.socket.recv(1 << 20):
            received += len(data)
    return received


UPLOADS: dict[str, Callable[[int, int], str]] = {"raw": raw, "chunked": chunked, "form": form}


class Peak:
    """The rise of a worker's peak resident memory from now on, in bytes (proc(5))."""

    def __init__(self, server: Server) -> None:
        (self._pid,) = server.processes()
        # 5 resets the high-water mark to the current resident memory.
        Path(f"/proc/{self._pid}/clear_refs").write_text("5", encoding="ascii")
        self._before = self._mark()

    def _mark(self) -> int:
        status = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii")
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) << 10

    def growth(self, what: str) -> int:
        """Return the rise so far, and print it for pytest -rP."""
        growth = self._mark() - self._before
        print(f"{what} of {SIZE >> 20} MiB: {self._before / 2**20:.1f} MiB + {growth / 2**20:.1f} MiB")
        return growth


@pytest.mark.parametrize("way", UPLOADS)
def test_upload(server: Server, way: str) -> None:
    """An upload of any size takes little memory."""
    peak = Peak(server)
    UPLOADS[way](server.port, SIZE)
    assert peak.growth(f"{way} upload") <= LIMIT


@pytest.mark.parametrize(
    "field", [None, "bytes=1-", f"bytes=0-1000,{SIZE // 2}-"], ids=["whole", "range", "parts"]
)
def test_download(server: Server, field: str | None) -> None:
    """A download of any size takes little memory."""
    hash_ = raw(server.port, SIZE)
    peak = Peak(server)
    received = download(server.port, hash_, **({"Range": field} if field else {}))
    assert received > SIZE // 2
    assert peak.growth(f"download ({field or 'whole'})") <= LIMIT
