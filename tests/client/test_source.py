"""Everything that holds bytes goes up from Python, and what comes down is a file."""

import array
import collections
import ctypes
import hashlib
import io
import mmap
import os
import pydoc
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wsgi_store.client
from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import reply, saying
from tests.support.servers import Server, gunicorn
from wsgi_store.client import Client, transport
from wsgi_store.errors import BlobNotFound, DigestMismatch, MalformedHash, Unreachable


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that everybody may use."""
    with gunicorn(tmp_path_factory.mktemp("files")) as server:
        yield server
        assert not server.staged()


@pytest.fixture(name="client")
def fixture_client(server: Server) -> Iterator[Client]:
    """A client of it."""
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client


def mapped() -> mmap.mmap:
    """A file in memory."""
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def pieces() -> Iterator[bytes]:
    """Pieces of any size, an empty one too."""
    yield b""
    yield DATA[:1]
    yield memoryview(DATA)[1:2_000_000]
    yield b""
    yield bytearray(DATA[2_000_000:])


class OnlyRead:
    """Something that can be read, and nothing else."""

    def __init__(self) -> None:
        self._file = io.BytesIO(DATA)

    def read(self, size: int) -> bytes:
        """Read a piece."""
        return self._file.read(size)


@pytest.mark.parametrize(
    "source",
    [
        lambda: bytearray(DATA),
        lambda: memoryview(DATA),
        lambda: memoryview(bytes(5) + DATA)[5:],
        lambda: memoryview(bytes(byte for byte in DATA[:999] for _ in "12"))[::2],
        mapped,
        lambda: array.array("B", DATA),
        lambda: (ctypes.c_char * SIZE).from_buffer_copy(DATA),
        pieces,
        lambda: [DATA[:5], DATA[5:]],
        lambda: iter((DATA,)),
        lambda: collections.deque([DATA]),
        lambda: io.BytesIO(DATA),
        OnlyRead,
    ],
)
def test_what_can_be_uploaded(client: Client, source: Callable[[], Any]) -> None:
    """Bytes by any name, and what yields them, are the bytes that arrive."""
    given = source()
    is_short = isinstance(given, memoryview) and len(given) == 999
    assert client.put(given).hash == (hashlib.md5(DATA[:999]).hexdigest() if is_short else HASH)
    if isinstance(given, mmap.mmap):
        given.close()  # nothing holds it any more
    if isinstance(given, bytearray):
        given.append(1)


def test_numbers_and_nothing(client: Client) -> None:
    """The bytes of wider numbers are those of memory; nothing at all is a file, too."""
    numbers = array.array("d", [1.5, 2.5])
    assert client.put(numbers).hash == hashlib.md5(numbers.tobytes()).hexdigest()
    for nothing in (b"", bytearray(), [], iter(()), memoryview(b"")):
        assert client.put(nothing).size == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [5, None, object(), ["text"], [None], [b"x", 5], io.StringIO("text")])
def test_what_cannot(client: Client, source: Any) -> None:
    """What holds no bytes is a TypeError, and nothing is stored of it."""
    with pytest.raises(TypeError):
        client.put(source)


def test_an_iterator_that_fails(client: Client) -> None:
    """Its own failure is what comes out."""

    def failing(error: Exception) -> Iterator[bytes]:
        yield b"some"
        raise error

    for error in (OSError("no disk"), ValueError("no sense")):
        with pytest.raises(type(error), match="^no "):
            client.put(failing(error))


def test_an_iterator_is_not_sent_twice() -> None:
    """What was yielded is gone, so that there is nothing to try again with."""
    with saying(b"") as peer, Client(peer.url) as client, pytest.raises(Unreachable):
        client.put(iter([b"once"]))
    assert len(peer.seen("POST")) == 1


def test_a_file_that_does_not_wait(client: Client) -> None:
    """What has nothing yet is not taken for what has ended."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with io.FileIO(reader) as pipe, io.FileIO(writer, "w"), pytest.raises(BlockingIOError):
        client.put(pipe)


def test_seeking(client: Client) -> None:
    """A download is read from anywhere, as a file on a disk is."""
    client.put(DATA)
    with client.open(HASH) as download, io.BytesIO(DATA) as file:
        assert download.seekable() and download.readable() and not download.writable()
        for offset, whence in (
            (SIZE // 2, 0),
            (-10, 2),
            (5, 0),
            (100, 1),
            (-50, 1),
            (200_000, 1),
            (9, 2),
            (0, 0),
        ):
            assert download.seek(offset, whence) == file.seek(offset, whence) == download.tell()
            assert download.read(1000) == file.read(1000)
            assert download.tell() == file.tell()
        download.seek(0)
        assert download.read() == DATA
        assert download.read() == b""
        with pytest.raises((OSError, ValueError)):
            download.seek(-1)
        assert download.size == SIZE
    with pytest.raises(ValueError, match="closed"):
        download.read()


def test_lines(client: Client) -> None:
    """It is iterated by lines, and text can be put around it."""
    text = "".join(f"line {number} ä\n" for number in range(50_000))
    blob = client.put(text.encode())
    with client.open(blob.hash) as download:
        assert list(download) == text.encode().splitlines(keepends=True)
    with io.TextIOWrapper(client.open(blob.hash), encoding="utf-8") as lines:
        assert lines.readline() == "line 0 ä\n"
        assert lines.read() == text.removeprefix("line 0 ä\n")
    with client.open(blob.hash) as download:
        assert download.readline() == b"line 0 \xc3\xa4\n"
        assert download.peek(4).startswith(b"line")


def test_archives(client: Client, tmp_path: Path) -> None:
    """zipfile and tarfile read members from a server."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("big", DATA)
        archive.writestr("small", b"hello")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("a.zip",):
            tar.add(tmp_path / name, name)
    with client.open(client.put(tmp_path / "a.zip").hash) as download, zipfile.ZipFile(download) as archive:
        assert archive.read("small") == b"hello"
        assert archive.read("big") == DATA
        assert archive.testzip() is None
    with client.open(client.put(tmp_path / "a.tar").hash) as download, tarfile.open(fileobj=download) as tar:
        member = tar.extractfile("a.zip")
        assert member is not None and member.read() == (tmp_path / "a.zip").read_bytes()


def test_a_seek_back_to_the_beginning_is_checked() -> None:
    """Whoever reads all of it from there gets no other bytes than those of the hash."""
    false = DATA[:-1] + b"?"
    with saying(reply(false)) as peer, Client(peer.url) as client, client.open(HASH) as download:
        assert download.read(10) == DATA[:10]
        download.seek(0)
        with pytest.raises(DigestMismatch):
            download.read()


def test_a_size_that_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """From an end that nobody knows nobody can seek; the rest works."""
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.01)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, DATA)
    with saying(chunked) as peer, Client(peer.url) as client, client.open(HASH) as download:
        with pytest.raises(io.UnsupportedOperation):
            download.seek(0, io.SEEK_END)
        assert download.read() == DATA


def test_asking(client: Client) -> None:
    """Small blobs come as bytes; whether one is there is a question of its own."""
    client.put(DATA)
    assert client.get_bytes(HASH) == DATA
    assert client.exists(HASH) and not client.exists("0" * 32)
    assert client.stat(HASH).size == SIZE
    with pytest.raises(BlobNotFound):
        client.get_bytes("0" * 32)
    with pytest.raises(MalformedHash):
        client.exists("nonsense")
    with saying(reply(DATA[:-1] + b"?")) as peer, Client(peer.url) as liar, pytest.raises(DigestMismatch):
        liar.get_bytes(HASH)


def test_help() -> None:
    """help() shows what the client is made of."""
    text = pydoc.plain(pydoc.render_doc(wsgi_store.client))
    for name in (
        "class Client",
        "class Download",
        "class RemoteBlob",
        "class Uploaded",
        "get_bytes",
        "pieces",
    ):
        assert name in text
    assert "zipfile" in pydoc.plain(pydoc.render_doc(wsgi_store.client.Download))
