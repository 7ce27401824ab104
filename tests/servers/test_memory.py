"""A worker's memory does not grow with the size of the files it transfers.

TEST_FILE_SIZE is the file's size in bytes, TEST_FILE_DIRECTORY where it and the store go:
`TEST_FILE_SIZE=$((2 << 30)) TEST_FILE_DIRECTORY=/var/tmp pytest -rP tests/servers/test_memory.py`.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.exchanges import told
from tests.support.peaks import Peak
from tests.support.servers import Server, gunicorn, uwsgi
from tests.support.speakers import DRAFT, create
from tests.support.wire import Connection, message

pytestmark = pytest.mark.races
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


def patch(port: int, size: int) -> str:
    """Upload `size` bytes in one piece of a resumable upload."""
    url = create(DRAFT, port, size)
    with Connection(port) as connection:
        connection.send(DRAFT.patch(url, 0, Content_Length=size))
        for _ in range(size // len(BLOCK)):
            connection.send(BLOCK)
        return told(connection.receive())[0]


def tiny(port: int, size: int) -> str:
    """Upload `size` bytes, at most 1 MiB, of a resumable upload in chunks of one byte."""
    size = min(size, 1 << 20)
    url = create(DRAFT, port, size)
    with Connection(port) as connection:
        connection.send(DRAFT.patch(url, 0, Transfer_Encoding="chunked"))
        connection.send(b"1\r\na\r\n" * size, b"0\r\n\r\n")
        return told(connection.receive())[0]


def opened(port: int, _: int) -> str:
    """Create 1,000 resumable uploads."""
    with Connection(port) as connection:
        for _ in range(1000):
            answer = connection.ask(DRAFT.creation(1000))
            assert answer.status == 201, answer
            if answer.fields.get("connection") == "close":
                return ""
    return answer.fields["location"]


def download(port: int, hash_: str, **fields: str) -> int:
    """Download a blob, or part of it; return the number of bytes received, header included."""
    with Connection(port) as connection:
        connection.send(message("GET", f"/{hash_}", Connection="close", **fields))
        received = 0
        while data := connection.socket.recv(1 << 20):
            received += len(data)
    return received


UPLOADS: dict[str, Callable[[int, int], str]] = {
    "raw": raw,
    "chunked": chunked,
    "form": form,
    "patch": patch,
    "tiny": tiny,
}


def grown(peak: Peak, what: str) -> int:
    """Return how much a worker's memory has grown, and print it for pytest -rP."""
    before, growth = sum(peak.before.values()), peak.growth()
    print(f"{what} of {SIZE >> 20} MiB: {before / 2**20:.1f} MiB + {growth / 2**20:.1f} MiB")
    return growth


@pytest.mark.parametrize("way", UPLOADS)
def test_upload(server: Server, way: str) -> None:
    """An upload of any size takes little memory."""
    peak = Peak(server.processes())
    UPLOADS[way](server.port, SIZE)
    assert grown(peak, f"{way} upload") <= LIMIT


def test_open_uploads(server: Server) -> None:
    """Many unfinished uploads take little memory."""
    peak = Peak(server.processes())
    assert opened(server.port, 0)
    assert grown(peak, "1,000 uploads") <= LIMIT


def test_uwsgi() -> None:
    """A resumable upload of any size takes little memory under uWSGI, too."""
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory, uwsgi(Path(directory)) as server:
        for _ in range(4):  # each of its processes gets some
            patch(server.port, 3 << 20)
            tiny(server.port, 32 << 10)
        peak = Peak(server.processes())
        patch(server.port, SIZE)
        tiny(server.port, 32 << 10)
        assert grown(peak, "uploads by uWSGI") <= LIMIT


@pytest.mark.parametrize(
    "field", [None, "bytes=1-", f"bytes=0-1000,{SIZE // 2}-"], ids=["whole", "range", "parts"]
)
def test_download(server: Server, field: str | None) -> None:
    """A download of any size takes little memory."""
    hash_ = raw(server.port, SIZE)
    peak = Peak(server.processes())
    received = download(server.port, hash_, **({"Range": field} if field else {}))
    assert received > SIZE // 2
    assert grown(peak, f"download ({field or 'whole'})") <= LIMIT
