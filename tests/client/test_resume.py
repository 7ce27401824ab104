"""Uploads by the client that continue where they broke off, against the shipped gunicorn."""

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.access import line
from tests.support.peers import hurried
from tests.support.relay import Break, Relay, Way
from tests.support.servers import Server, gunicorn, matching
from wsgi_store.client import Client, Uploaded, resume
from wsgi_store.client.source import PIECE
from wsgi_store.errors import (
    Denied,
    DigestMismatch,
    ReadOnly,
    TooLarge,
    UnexpectedDigest,
    Unreachable,
)

SIZE = 3_000_007


@pytest.fixture(autouse=True)
def fixture_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are worth it, too."""
    monkeypatch.setattr(resume, "LEAST", 1 << 20)


@pytest.fixture(name="data")
def fixture_data(request: pytest.FixtureRequest) -> bytes:
    """A file of the test's own: the server remembers what was uploaded for a while."""
    return Random(request.node.name).randbytes(SIZE)


@pytest.fixture(name="relay")
def fixture_relay(server: Server) -> Iterator[Relay]:
    """A line to the service that can break."""
    with Relay(server.port) as relay:
        yield relay


def hash_of(data: bytes) -> str:
    """The name of a file."""
    return hashlib.sha256(data).hexdigest()


class Stop(Exception):
    """Ends an upload, as the end of its process would."""


def begin(client: Client, data: bytes, hash_: str | None = None) -> None:
    """Upload the first two thirds of a file."""

    def stop(done: int) -> None:
        if done >= 2 * PIECE:
            raise Stop

    with pytest.raises(Stop):
        client.put(data, hash_=hash_, progress=stop)


def test_a_line_that_breaks_often(relay: Relay, client: Client) -> None:
    """An upload survives more breaks than it has attempts, as long as it makes progress."""
    data = Random(2).randbytes(6_000_000)
    relay.break_after(Break.CUT, Way.UP, 1_000_000, times=8)
    told: list[int] = []
    with hurried(relay.url, retries=4) as other:
        blob = other.put(data, progress=told.append)
    assert relay.breaks > 4
    assert (blob.hash, blob.size, blob.created) == (hashlib.sha256(data).hexdigest(), len(data), True)
    assert (blob.url, blob.names) == (other.url(blob.hash), {"sha256": blob.hash})
    assert told[0] == 0 and told[-1] == len(data)
    assert client.get_bytes(blob.hash) == data


def test_no_progress(relay: Relay, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """An upload that never gets further fails after its attempts."""
    with hurried(relay.url, retries=3) as client:
        assert client.algorithms
        relay.break_after(Break.CUT, Way.UP, 100)
        with pytest.raises(Unreachable):
            client.put(data)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


@pytest.mark.parametrize("kind", ["path", "file", "bytes"])
@pytest.mark.parametrize("is_known", [False, True], ids=["", "hash"])
def test_another_start(client: Client, tmp_path: Path, data: bytes, kind: str, is_known: bool) -> None:
    """Another client continues where the first one broke off; its progress begins there."""
    with Client(client.url("")) as first:
        begin(first, data)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "longer").write_bytes(b"x" + data)
    told: list[int] = []
    with (tmp_path / "longer").open("rb") as file:
        file.seek(1)
        source = {"path": tmp_path / "file", "file": file, "bytes": data}[kind]
        blob = client.put(source, hash_=hash_of(data) if is_known else None, progress=told.append)
    assert (blob.hash, blob.created) == (hash_of(data), True)
    assert blob.continued_at == PIECE
    assert told[0] == blob.continued_at and told[-1] == SIZE
    assert client.get_bytes(blob.hash) == data


def test_what_the_server_has(client: Client, server: Server, data: bytes) -> None:
    """No byte is sent of a file that the server has, unless its copy has another size, or it is forced."""
    assert client.put(data).created
    told: list[int] = []
    blob = client.put(data, progress=told.append)
    assert (blob.hash, blob.continued_at, told) == (hash_of(data), 0, [SIZE])
    there = server.root / blob.hash[:2] / blob.hash
    there.chmod(0o644)
    there.write_bytes(b"?" + data)
    told.clear()
    assert client.put(data, progress=told.append).healed
    assert (told[0], told[-1]) == (0, SIZE)
    assert there.read_bytes() == data
    for hash_ in (None, blob.hash):
        told.clear()
        assert not client.put(data, hash_=hash_, force=True, progress=told.append).created
        assert (told[0], told[-1]) == (PIECE, SIZE)


def test_an_upload_that_is_removed_meanwhile(client: Client, server: Server, data: bytes) -> None:
    """An upload that expires or is removed while it is sent begins again."""
    removed = []

    def remove(done: int) -> None:
        if done >= SIZE // 2 and not removed:
            for path in matching(server.root, ".uploads/*/*/0"):
                path.parent.rename(path.parents[1] / ".gone")
                removed.append(path)

    with hurried(client.url("")) as other:
        blob = other.put(data, progress=remove)
    assert removed and (blob.hash, blob.continued_at) == (hash_of(data), 0)
    assert client.get_bytes(hash_of(data)) == data


def test_a_file_that_changes(client: Client, tmp_path: Path, data: bytes) -> None:
    """A file that changes while it is sent is not stored, and the failure says so."""
    path = tmp_path / "file"
    path.write_bytes(data)

    def change(done: int) -> None:
        if done == 0:
            with path.open("r+b") as file:
                file.seek(SIZE - 1)
                file.write(bytes([data[-1] ^ 1]))

    with pytest.raises(DigestMismatch, match="^the file changed while it was sent$") as caught:
        client.put(path, progress=change)
    assert caught.value.expected == f"sha256:{hash_of(data)}"
    assert not isinstance(caught.value, UnexpectedDigest)
    assert client.put(path).hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_shrinks(client: Client, tmp_path: Path, data: bytes) -> None:
    """If a file shrinks while it is sent, the upload fails at once."""
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(OSError, match="shrank"):
        client.put(path, progress=lambda done: os.truncate(path, 1 << 20))


def test_a_hash_that_the_file_does_not_have(client: Client, data: bytes) -> None:
    """With a wrong hash nothing is stored, and nothing stays of the upload."""
    for _ in range(2):
        with pytest.raises(DigestMismatch) as caught:
            client.put(data, hash_="0" * 64)
        assert caught.value.expected == f"sha256:{'0' * 64}"


def test_wrong_bytes_of_an_earlier_start(client: Client, data: bytes) -> None:
    """If an earlier start sent other bytes, the upload begins again, once."""
    with Client(client.url("")) as first:
        begin(first, b"?" + data[1:], hash_of(data))
    blob = client.put(data)
    assert (blob.hash, blob.continued_at) == (hash_of(data), 0)
    assert client.get_bytes(hash_of(data)) == data


def test_two_at_once(client: Client, server: Server, data: bytes) -> None:
    """Two clients that send the same file at the same time both succeed, and there is one blob."""
    told: list[Uploaded] = []

    def put() -> None:
        with Client(client.url(""), first_pause=0.02) as one:
            told.append(one.put(data))

    threads = [threading.Thread(target=put) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [blob.hash for blob in told] == [hash_of(data)] * 2
    assert server.blobs() == {hash_of(data)}


def test_a_line_that_stalls(relay: Relay, client: Client, data: bytes) -> None:
    """A connection on which nothing moves any more is given up, and the upload continues on another one."""
    relay.break_after(Break.STALL, Way.UP, 2_000_000, times=1)
    with hurried(relay.url, timeout=1.0) as other:
        assert other.put(data).hash == hash_of(data)
    assert relay.breaks == 1
    assert client.get_bytes(hash_of(data)) == data


def test_an_answer_that_is_lost(relay: Relay, client: Client, data: bytes) -> None:
    """If the answer to the last bytes is lost, the next request is told that the file is there."""
    relay.break_after(Break.CUT, Way.DOWN, 800, times=1)
    with hurried(relay.url) as other:
        other._kept._known = client.algorithms  # pylint: disable=protected-access
        told: list[int] = []
        blob = other.put(data, progress=told.append)
    assert relay.breaks == 1
    assert (blob.hash, told[-1]) == (hash_of(data), SIZE)


def test_a_file_with_an_md5(tmp_path: Path) -> None:
    """Files with the same md5 are different uploads, also of a store that knows nothing better."""
    first = Random(3).randbytes(SIZE)
    with gunicorn(tmp_path, workers=1, WSGI_STORE_HASH="md5") as server:
        url = f"http://127.0.0.1:{server.port}"
        with Client(url) as client, Client(url) as broken:
            begin(broken, first)
            blob = client.put(first, hash_=hashlib.md5(first).hexdigest())
            assert blob.hash == hashlib.md5(first).hexdigest() and blob.continued_at
            # The files of an upload tell by which digests it is known.
            told = [path.read_text() for path in (server.root / ".uploads").glob("*/*/upload.json")]
            assert len(told) == 1 and hashlib.sha256(first).hexdigest() in told[0]
            with pytest.raises(DigestMismatch):
                client.put(first, hash_="0" * 32)


@pytest.fixture(scope="module", name="guarded")
def fixture_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tokens and a size limit."""
    directory = tmp_path_factory.mktemp("guarded")
    tokens = directory / "tokens"
    text = line("all", "read,write,delete,list") + line("writer", "write", "other") + line("reader", "read")
    tokens.write_text(text, encoding="ascii")
    with gunicorn(directory, WSGI_STORE_TOKENS=str(tokens), WSGI_STORE_MAX_SIZE="4MB") as server:
        yield server


def test_rights(guarded: Server, data: bytes) -> None:
    """Continuing needs the right to write, and the token that began."""
    url = f"http://127.0.0.1:{guarded.port}"
    with Client(url, "reader") as client, pytest.raises(Denied):
        client.put(data)
    with Client(url, "all") as client, pytest.raises(TooLarge):
        client.put(data * 2)
    with Client(url, "all") as client:
        begin(client, data)
    with Client(url, "writer") as client:
        assert client.put(data).continued_at == 0
    with Client(url, "all") as client:
        client.delete(hash_of(data))


def test_a_store_that_is_read_only(tmp_path: Path, data: bytes) -> None:
    """A read-only service refuses before any byte is sent."""
    with gunicorn(tmp_path, workers=1):
        pass
    with gunicorn(tmp_path, workers=1, WSGI_STORE_READ_ONLY="yes") as server:
        told: list[int] = []
        with Client(f"http://127.0.0.1:{server.port}") as client, pytest.raises(ReadOnly):
            client.put(data, progress=told.append)
        assert not told


def test_a_pipe(client: Client, data: bytes) -> None:
    """A source that cannot be rewound is sent in one request."""
    file = io.BytesIO(data)
    file.seekable = lambda: False  # type: ignore[method-assign]
    told: list[int] = []
    assert client.put(file, progress=told.append).hash == hash_of(data)
    assert told[0] == PIECE


def test_a_blob_that_was_removed(client: Client, data: bytes) -> None:
    """A file whose blob was removed after its upload is sent again."""
    for _ in range(2):
        assert client.put(data).created
        assert client.get_bytes(hash_of(data)) == data
        client.delete(hash_of(data))
