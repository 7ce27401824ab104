"""The client uploads any object that holds bytes, and returns downloads as files."""

import array
import collections
import ctypes
import hashlib
import io
import mmap
import os
import pydoc
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsgi_store.client
from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import reply, saying
from wsgi_store.client import Client
from wsgi_store.errors import BlobNotFound, DigestMismatch, MalformedHash, Unreachable


def mapped() -> mmap.mmap:
    """A memory-mapped file."""
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def pieces() -> Iterator[bytes]:
    """Chunks of different sizes, one of them empty."""
    yield b""
    yield DATA[:1]
    yield memoryview(DATA)[1:2_000_000]
    yield b""
    yield bytearray(DATA[2_000_000:])


class OnlyRead:
    """An object that has only a read method."""

    def __init__(self) -> None:
        self._file = io.BytesIO(DATA)

    def read(self, size: int) -> bytes:
        """Read a chunk."""
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
    """Every bytes-like object and every iterable of bytes is uploaded unchanged."""
    given = source()
    is_short = isinstance(given, memoryview) and len(given) == 999
    assert client.put(given).hash == (hashlib.sha256(DATA[:999]).hexdigest() if is_short else HASH)
    if isinstance(given, mmap.mmap):
        given.close()  # nothing references it any more
    if isinstance(given, bytearray):
        given.append(1)


def test_numbers_and_nothing(client: Client) -> None:
    """An array is uploaded as its bytes in memory, and empty input as an empty file."""
    numbers = array.array("d", [1.5, 2.5])
    assert client.put(numbers).hash == hashlib.sha256(numbers.tobytes()).hexdigest()
    for nothing in (b"", bytearray(), [], iter(()), memoryview(b"")):
        assert client.put(nothing).size == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [5, None, object(), ["text"], [None], [b"x", 5], io.StringIO("text")])
def test_what_cannot(client: Client, source: Any) -> None:
    """An object without bytes raises TypeError, and nothing is stored."""
    with pytest.raises(TypeError):
        client.put(source)


def test_an_iterator_that_fails(client: Client) -> None:
    """An error raised by an iterator reaches the caller."""

    def failing(error: Exception) -> Iterator[bytes]:
        yield b"some"
        raise error

    for error in (OSError("no disk"), ValueError("no sense")):
        with pytest.raises(type(error), match="^no "):
            client.put(failing(error))


def test_an_iterator_is_not_sent_twice() -> None:
    """An upload from an iterator is not retried, because its chunks are already consumed."""
    with saying(b"") as peer, Client(peer.url) as client, pytest.raises(Unreachable):
        client.put(iter([b"once"]))
    assert len(peer.seen("POST")) == 1


def test_a_file_that_does_not_wait(client: Client) -> None:
    """A non-blocking pipe without data raises an error instead of ending the upload."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with io.FileIO(reader) as pipe, io.FileIO(writer, "w"), pytest.raises(BlockingIOError):
        client.put(pipe)


def test_asking(client: Client) -> None:
    """get_bytes returns a small blob, and exists tells whether a blob is there."""
    client.put(DATA)
    assert client.get_bytes(HASH) == DATA
    assert client.exists(HASH) and not client.exists("0" * 64)
    assert client.stat(HASH).size == SIZE
    with pytest.raises(BlobNotFound):
        client.get_bytes("0" * 64)
    with pytest.raises(MalformedHash):
        client.exists("nonsense")
    with saying(reply(DATA[:-1] + b"?")) as peer, Client(peer.url) as liar, pytest.raises(DigestMismatch):
        liar.get_bytes(HASH)


def test_help() -> None:
    """help() documents the classes of the client and their methods."""
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
