"""Everything that holds bytes goes up from Python, and what comes down is a file."""

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
