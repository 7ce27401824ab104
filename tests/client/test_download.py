"""A download can be read like a file, from any position."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import hurried, reply, saying
from wsgi_store.client import Client
from wsgi_store.errors import DigestMismatch


def test_seeking(client: Client) -> None:
    """A download is seekable like a file on disk."""
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
    """A download can be iterated by lines and wrapped as text."""
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
    """zipfile and tarfile can read members directly from a server."""
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
    """After a seek back to the beginning, reading to the end verifies the hash."""
    false = DATA[:-1] + b"?"
    with saying(reply(false)) as peer, Client(peer.url) as client, client.open(HASH) as download:
        assert download.read(10) == DATA[:10]
        download.seek(0)
        with pytest.raises(DigestMismatch):
            download.read()


def test_a_size_that_is_not_told() -> None:
    """Without a known size, seeking from the end fails; everything else works."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, DATA)
    with saying(chunked) as peer, hurried(peer.url) as client, client.open(HASH) as download:
        with pytest.raises(io.UnsupportedOperation):
            download.seek(0, io.SEEK_END)
        assert download.read() == DATA
