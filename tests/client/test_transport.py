"""The client with broken connections and with servers that send wrong answers."""

import hashlib
import io
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import cutting, hurried, reply, saying
from tests.support.servers import Server, gunicorn
from wsgi_store.errors import BlobNotFound, DigestMismatch, UnexpectedAnswer, UnexpectedDigest, Unreachable

HALF = SIZE // 2
PROBLEM = {"Content_Type": "application/problem+json", "Connection": "close"}
UNAVAILABLE = b'{"code": "store_unavailable", "detail": "no disk", "path": "x"}'


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with one blob."""
    with gunicorn(tmp_path_factory.mktemp("faults")) as server:
        with hurried(f"http://127.0.0.1:{server.port}") as client:
            client.put(DATA)
        yield server
        assert not server.staged()


@pytest.mark.parametrize("cuts", [[HALF], [HALF, 300, HALF // 2, 0]], ids=["once", "again and again"])
def test_a_download_that_is_cut(server: Server, tmp_path: Path, cuts: list[int]) -> None:
    """An interrupted download resumes where it stopped, and arrives whole."""
    before = len(server.logged(f"GET /{HASH} "))
    with cutting(server.port, *((1 << 20, cut) for cut in cuts)) as proxy, hurried(proxy.url) as client:
        # Ask for the index directly, so that only the download is cut.
        with hurried(f"http://127.0.0.1:{server.port}") as direct:
            client._kept._known = direct.algorithms  # pylint: disable=protected-access
        client.get(HASH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA
    sent = [int(match[1]) for match in server.logged(f"GET /{HASH} 20[06] ([0-9]+) B")[before:]]
    # The last answer had only what was missing.
    assert len(sent) > 1 and sent[-1] < SIZE


def test_a_download_that_is_cut_for_good(tmp_path: Path) -> None:
    """Without progress the client gives up, and keeps the partial file."""
    whole = reply(DATA, ETag=f'"{HASH}"')
    with saying(whole[: -SIZE // 2], b"") as peer, hurried(peer.url, retries=2) as client:
        with pytest.raises(Unreachable):
            client.get(HASH, tmp_path / "file")
        begin, *more = peer.seen("GET")
        assert "Range" not in begin
        kept = (tmp_path / "file.part").read_bytes()
        assert 0 < len(kept) < SIZE and DATA.startswith(kept)
        assert os.listdir(tmp_path) == ["file.part"]
        for head in more:
            assert "Range: bytes=" in head and f'If-Range: "{HASH}"' in head


def test_a_server_without_ranges(tmp_path: Path) -> None:
    """If the server sends the whole file again, the client skips the bytes it already has."""
    whole = reply(DATA)
    with saying(whole[: -SIZE // 2], whole) as peer, hurried(peer.url) as client:
        client.get(HASH, tmp_path / "file")
        with client.open(HASH) as download:
            assert download.read() == DATA
    assert (tmp_path / "file").read_bytes() == DATA


def part(start: int, stop: int) -> bytes:
    """The answer to a request for a range."""
    return reply(DATA[start:stop], "206 Partial Content", Content_Range=f"bytes {start}-{stop - 1}/{SIZE}")


def test_a_server_that_does_ranges_now_and_then(tmp_path: Path) -> None:
    """After a whole answer, a range is appended without skipping bytes again."""
    whole = reply(DATA)
    cut = [whole[: len(whole) - SIZE + length] for length in (HALF, HALF // 2)]
    with saying(*cut, part(HALF, SIZE)) as peer, hurried(peer.url) as client:
        client.get(HASH, tmp_path / "file")
        assert len(peer.seen("GET")) == 3
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_range_that_ends_early(tmp_path: Path) -> None:
    """After a range shorter than requested (RFC 9110 section 15.3.7), the client asks for the rest."""
    parts = [part(start, min(start + 1_000_000, SIZE)) for start in range(HALF, SIZE, 1_000_000)]
    with saying(reply(DATA)[: -(SIZE - HALF)], *parts) as peer, hurried(peer.url, retries=1) as client:
        client.get(HASH, tmp_path / "file")
        assert len(peer.seen("GET")) == 1 + len(parts)
    assert (tmp_path / "file").read_bytes() == DATA


def test_another_range() -> None:
    """The client rejects an answer with a range that it did not ask for."""
    wrong = reply(DATA[5:], "206 Partial Content", Content_Range=f"bytes 5-{SIZE - 1}/{SIZE}")
    with saying(reply(DATA)[: -SIZE // 2], wrong) as peer, hurried(peer.url, retries=1) as client:
        with client.open(HASH) as download, pytest.raises(UnexpectedAnswer, match="another range"):
            download.read()


@pytest.mark.parametrize("change", [0, HALF, SIZE - 1])
def test_corrupted_bytes(tmp_path: Path, change: int) -> None:
    """Corrupted bytes leave no file, and a reader gets an error before the last of them."""
    false = bytearray(DATA)
    false[change] ^= 1
    with saying(reply(bytes(false))) as peer, hurried(peer.url) as client:
        with pytest.raises(DigestMismatch) as caught:
            client.get(HASH, tmp_path / "file")
        assert caught.value.evidence["expected"] == f"sha256:{HASH}"
        assert not os.listdir(tmp_path)
        received = 0
        with client.open(HASH) as download, pytest.raises(DigestMismatch):
            for data in download.pieces():
                received += len(data)
        assert 0 < received < SIZE
        assert len(peer.seen("GET")) == 2


def test_bytes_that_are_missing(tmp_path: Path) -> None:
    """A truncated answer with a matching Content-Length is detected by its hash."""
    with saying(reply(DATA[:-1])) as peer, hurried(peer.url) as client, pytest.raises(DigestMismatch):
        client.get(HASH, tmp_path / "file")
    assert not os.listdir(tmp_path)


KINDS = ["bytes", "path", "file", "pipe"]


def source(kind: str, path: Path, data: bytes) -> Any:
    """Data to upload, as an object of the given kind."""
    path.write_bytes(data)
    if kind == "bytes":
        return data
    if kind == "path":
        return path
    if kind == "file":
        return io.BytesIO(data)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        return io.BufferedReader(Unseekable(cat.stdout.read()))  # type: ignore[arg-type]


class Unseekable(io.BytesIO):
    """A file that cannot be rewound."""

    def seekable(self) -> bool:
        """Never."""
        return False


def stored(hash_: str, **others: object) -> bytes:
    """The answer to an upload."""
    return reply(json.dumps({"hash": hash_, "size": SIZE, "created": True, **others}).encode())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("announced", [None, "0" * 64, HASH], ids=["", "announced", "echoed"])
def test_a_server_that_lies(tmp_path: Path, kind: str, announced: str | None) -> None:
    """An upload fails if the server answers with a hash other than that of the bytes sent."""
    lie = announced or "0" * 64
    sent = DATA[:-1] + b"?" if announced == HASH else DATA
    digest = hashlib.sha256(sent).hexdigest()
    with saying(stored(lie)) as peer, hurried(peer.url) as client:
        with pytest.raises(
            UnexpectedAnswer, match=f"answers sha256:{lie} to an upload of sha256:{digest}"
        ) as caught:
            client.put(source(kind, tmp_path / "file", sent), hash_=announced)
    assert isinstance(caught.value, DigestMismatch)
    assert caught.value.evidence == {"expected": f"sha256:{digest}", "actual": f"sha256:{lie}"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_believes_what_it_is_told(tmp_path: Path, kind: str) -> None:
    """An upload fails if the announced hash is wrong, even if the server confirms it."""
    with saying(stored("0" * 64)) as peer, hurried(peer.url) as client, pytest.raises(UnexpectedDigest):
        client.put(source(kind, tmp_path / "file", DATA), hash_="0" * 64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        stored("x" * 32),
        stored(HASH[:-1]),
        stored(HASH + "/.."),
        stored(HASH.upper()),
        stored(HASH, size=SIZE - 1),
        stored(HASH, size=str(SIZE)),
        stored(HASH, size=-1),
        stored(HASH, size=True),
        stored(HASH, created=None),
        stored(HASH, hash=None),
        stored(HASH, hash=[HASH]),
        stored(HASH, algorithm="blake3"),
        reply(b"{}"),
        reply(f"{HASH}\n".encode()),
        reply(b""),
    ],
)
def test_an_upload_that_is_answered_strangely(tmp_path: Path, kind: str, answer: bytes) -> None:
    """An upload fails if the answer lacks the hash, the size or another field, or has a wrong one."""
    with saying(answer) as peer, hurried(peer.url) as client, pytest.raises(UnexpectedAnswer):
        client.put(source(kind, tmp_path / "file", DATA))


@pytest.mark.parametrize("up", [100, HALF, SIZE])
def test_an_upload_that_is_cut(server: Server, tmp_path: Path, up: int) -> None:
    """An upload whose connection breaks is sent again from the beginning."""
    path = tmp_path / "file"
    path.write_bytes(b"new" + DATA + bytes([up % 256]))
    with hurried(f"http://127.0.0.1:{server.port}") as direct, cutting(server.port, (up, 0)) as proxy:
        with hurried(proxy.url) as client:
            client._kept._known = direct.algorithms  # pylint: disable=protected-access
            told: list[int] = []
            blob = client.put(path, progress=told.append)
            assert blob.hash == hashlib.sha256(path.read_bytes()).hexdigest()
            assert told[-1] == SIZE + 4
        direct.delete(blob.hash)


def test_a_pipe_is_sent_once(server: Server) -> None:
    """An upload from a pipe is not retried, because a pipe cannot be rewound."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        os.write(writer, b"once")
        os.close(writer)
        with cutting(server.port, (1 << 20, 60), (1 << 20, 60)) as proxy, hurried(proxy.url) as client:
            with hurried(f"http://127.0.0.1:{server.port}") as direct:
                client._kept._known = direct.algorithms  # pylint: disable=protected-access
            with pytest.raises(Unreachable):
                client.put(pipe)


def test_a_removal_whose_answer_is_lost(server: Server) -> None:
    """If the answer to a removal is lost, a 404 for the second request counts as success."""
    with hurried(f"http://127.0.0.1:{server.port}") as direct:
        blob = direct.put(b"to be removed")
        with cutting(server.port, (1 << 20, 10)) as proxy, hurried(proxy.url) as client:
            client._kept._known = direct.algorithms  # pylint: disable=protected-access
            client.delete(blob.hash)
        with pytest.raises(BlobNotFound):
            direct.stat(blob.hash)


def test_silence() -> None:
    """The client gives up on a silent server after the configured timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begin = time.monotonic()
        with hurried(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2, retries=1) as client:
            with pytest.raises(Unreachable, match="no answer in time$"):
                list(client.list())
        assert 0.4 <= time.monotonic() - begin < 10


def test_a_file_that_fails(server: Server) -> None:
    """An error while reading the file is reported as such, not as a connection error."""

    class Failing(io.BytesIO):
        """A file on a bad disk."""

        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with hurried(f"http://127.0.0.1:{server.port}") as client:
        with pytest.raises(OSError, match="Input/output error"):
            client.put(Failing(b"data"))
        assert client.put(DATA).hash == HASH


def test_a_file_that_shrinks(server: Server, tmp_path: Path) -> None:
    """If the file shrinks during the upload, the upload fails at once."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with hurried(f"http://127.0.0.1:{server.port}") as client, pytest.raises(OSError, match="shrank"):
        client.put(path, progress=lambda done: os.truncate(path, done))
