"""tus-js-client 4 and 5, with each protocol that it speaks, uploads to a real server."""

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.support.node import TusJs
from tests.support.relay import Break, Relay, Way
from tests.support.servers import Server, gunicorn, matching, received, until

pytestmark = pytest.mark.clients
MIB = 1 << 20
DATA = Random(15).randbytes(16 * MIB)
# Bytes a second, so that an upload can be interrupted.
SLOW = 12e6
TUS = "tus-v1"
SPEAKERS = [(version, protocol) for version in (4, 5) for protocol in (TUS, "ietf-draft-03", "ietf-draft-05")]


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service."""
    with gunicorn(tmp_path_factory.mktemp("service")) as server:
        yield server


class File(NamedTuple):
    """A file that the service does not have."""

    path: Path
    hash: str
    digest: str
    """The value of Repr-Digest."""


@pytest.fixture(name="file")
def fixture_file(tmp_path: Path) -> File:
    """A file that the service does not have."""
    data = DATA + os.urandom(123)
    path = tmp_path / "a file.bin"
    path.write_bytes(data)
    digest = hashlib.sha256(data)
    return File(path, digest.hexdigest(), f"sha-256=:{base64.b64encode(digest.digest()).decode()}:")


@pytest.fixture(name="relay")
def fixture_relay(server: Server) -> Iterator[Relay]:
    """A slow line to the service."""
    with Relay(server.port, SLOW) as relay:
        yield relay


def stored(server: Server, file: File, last: dict[str, Any]) -> None:
    """Check that the file is stored, and that the last answer has its URL and digest."""
    assert last["event"] == "success", last
    assert file.hash in server.blobs()
    assert last["fields"]["content-location"] == f"/{file.hash}"
    assert file.digest in last["fields"]["repr-digest"]


def created(client: TusJs) -> str:
    """Wait until an upload is created; returns its URL."""
    return str(client.until("response")["fields"]["location"])


def arrived(server: Server, url: str, count: int) -> None:
    """Wait until an upload has this many bytes."""
    until(lambda: received(server.root, url) >= count, "bytes")


def sent(client: TusJs) -> list[int]:
    """The offsets at which bytes were sent."""
    return [offset for method, offset in client.requests() if method == "PATCH"]


@pytest.mark.parametrize("version, protocol", SPEAKERS)
class TestSpeaker:
    """What a version of the client does with a protocol."""

    def start(self, version: int, protocol: str, path: Path, url: str, **job: Any) -> TusJs:
        """Start an upload."""
        options = {"protocol": protocol, "metadata": {"filename": "ä.bin"}, **job.pop("options", {})}
        return TusJs(version, path, f"{url}/uploads", options=options, **job)

    def test_whole(self, server: Server, file: File, version: int, protocol: str) -> None:
        """One request creates the upload, another one sends the file."""
        with self.start(version, protocol, file.path, f"http://127.0.0.1:{server.port}") as client:
            stored(server, file, client.end())
            assert client.requests() == [("POST", 0), ("PATCH", 0)]

    def test_pieces(self, server: Server, file: File, version: int, protocol: str) -> None:
        """A file can be sent in pieces."""
        url = f"http://127.0.0.1:{server.port}"
        with self.start(version, protocol, file.path, url, options={"chunkSize": 5 * MIB}) as client:
            stored(server, file, client.end())
            assert sent(client) == [0, 5 * MIB, 10 * MIB, 15 * MIB]

    def test_bytes_with_the_creation(self, server: Server, file: File, version: int, protocol: str) -> None:
        """The request that creates the upload may carry the file or its beginning."""
        url = f"http://127.0.0.1:{server.port}"
        options = {"uploadDataDuringCreation": True}
        with self.start(version, protocol, file.path, url, options=options) as client:
            stored(server, file, client.end())
            assert client.requests() == [("POST", 0)]
        options |= {"chunkSize": 9 * MIB}
        with self.start(version, protocol, file.path, url, options=options) as client:
            stored(server, file, client.end())
            assert client.requests() == [("POST", 0), ("PATCH", 9 * MIB)]

    def test_unknown_length(self, server: Server, file: File, version: int, protocol: str) -> None:
        """A stream sends its length with the last piece."""
        url = f"http://127.0.0.1:{server.port}"
        options = {"uploadLengthDeferred": True, "chunkSize": 9 * MIB}
        with self.start(version, protocol, file.path, url, options=options, stream=True) as client:
            stored(server, file, client.end())

    def test_nothing(self, server: Server, tmp_path: Path, version: int, protocol: str) -> None:
        """An empty file is stored."""
        path = tmp_path / "empty"
        path.touch()
        with self.start(version, protocol, path, f"http://127.0.0.1:{server.port}") as client:
            assert client.end()["event"] == "success"
        assert hashlib.sha256().hexdigest() in server.blobs()

    def test_broken_line(self, server: Server, relay: Relay, file: File, version: int, protocol: str) -> None:
        """After each broken connection the client continues at the server's offset."""
        relay.break_after(Break.CUT, Way.UP, 2 * MIB, times=2)
        with self.start(version, protocol, file.path, relay.url, patience=20, delay=100) as client:
            stored(server, file, client.end())
            first, *others = sent(client)
        assert relay.breaks == 2 and first == 0 and others == sorted(others)
        # Bytes that arrived before the connection broke count.
        assert others[0] >= MIB and others[1] >= 2.5 * MIB

    def test_lost_answer(self, server: Server, relay: Relay, file: File, version: int, protocol: str) -> None:
        """If the last answer is lost, the next one has the result."""
        relay.break_after(Break.CUT, Way.DOWN, 600, times=1)
        with self.start(version, protocol, file.path, relay.url, patience=20, delay=100) as client:
            stored(server, file, client.end())
        assert relay.breaks == 1

    def test_killed_client(
        self, server: Server, relay: Relay, file: File, version: int, protocol: str
    ) -> None:
        """Another process continues an upload by its URL."""
        storage = str(file.path.with_name("urls"))
        with self.start(version, protocol, file.path, relay.url, storage=storage) as client:
            arrived(server, created(client), 3 * MIB)
            client.kill()
        job = {"storage": storage, "resume": True, "patience": 30, "delay": 200}
        with self.start(version, protocol, file.path, relay.url, **job) as client:
            url = client.until("previous")["url"]
            while not (first := sum(sent(client))):
                client.until("request")
            arrived(server, url, first + MIB)
            client.kill()
        job = {"options": {"uploadUrl": url}, "patience": 30, "delay": 200}
        with self.start(version, protocol, file.path, relay.url, **job) as client:
            stored(server, file, client.end())
            assert MIB < first < sent(client)[0]
        with self.start(version, protocol, file.path, relay.url, **job) as client:
            stored(server, file, client.end())
            assert client.requests() == [("HEAD", 0)]

    def test_removal(self, server: Server, relay: Relay, file: File, version: int, protocol: str) -> None:
        """A client that gives up removes the upload."""
        before = set(matching(server.root, ".uploads/*/*"))
        with self.start(version, protocol, file.path, relay.url, stop=2 * MIB) as client:
            client.end()
            assert client.all("removed") and not client.all("error")
        assert set(matching(server.root, ".uploads/*/*")) == before and file.hash not in server.blobs()

    def test_digest(self, server: Server, relay: Relay, file: File, version: int, protocol: str) -> None:
        """With a digest another process continues without the URL, and no byte of a stored file is sent."""
        options = {"headers": {"Repr-Digest": file.digest}}
        with self.start(version, protocol, file.path, relay.url, options=options) as client:
            arrived(server, created(client), 3 * MIB)
            client.kill()
        with self.start(
            version, protocol, file.path, relay.url, options=options, patience=30, delay=200
        ) as client:
            stored(server, file, client.end())

    def test_wrong_digest(self, server: Server, file: File, version: int, protocol: str) -> None:
        """A file that lacks its announced digest is refused at once."""
        wrong = f"sha-256=:{base64.b64encode(os.urandom(32)).decode()}:"
        url, options = f"http://127.0.0.1:{server.port}", {"headers": {"Repr-Digest": wrong}}
        with self.start(version, protocol, file.path, url, options=options) as client:
            assert client.end()["status"] == 422
        assert file.hash not in server.blobs()


@pytest.mark.parametrize("version", [4, 5])
def test_post_instead_of_patch(server: Server, file: File, version: int) -> None:
    """The client may send POST and name the method in a field."""
    endpoint = f"http://127.0.0.1:{server.port}/uploads"
    with TusJs(version, file.path, endpoint, options={"overridePatchMethod": True}) as client:
        stored(server, file, client.end())
        assert client.requests() == [("POST", 0), ("POST", 0)]


@pytest.mark.parametrize("version, protocol", [(4, TUS), (5, "ietf-draft-05")])
def test_killed_server(tmp_path: Path, file: File, version: int, protocol: str) -> None:
    """The client continues after the server was killed with -9 and started again."""
    (own := tmp_path / "own").mkdir()
    server = gunicorn(own)
    with Relay(server.port, SLOW) as relay:
        job = {"options": {"protocol": protocol}, "patience": 100, "delay": 100}
        with TusJs(version, file.path, f"{relay.url}/uploads", **job) as client:
            arrived(server, created(client), 3 * MIB)
            server.kill()
            relay.mend()
            with gunicorn(own) as server:
                relay.target = server.port
                stored(server, file, client.end())
                assert max(sent(client)) >= 2 * MIB
