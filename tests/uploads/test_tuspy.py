"""tuspy, the client of tus for Python, uploads to a real server."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed
from tusclient.storage.filestorage import FileStorage

from tests.support.relay import Break, Relay, Way
from tests.support.servers import Server, gunicorn

# The client leaves the files that it reads to the garbage collector.
pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")]
MIB = 1 << 20


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service."""
    with gunicorn(tmp_path_factory.mktemp("service")) as server:
        yield server


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A file that the service does not have."""
    path = tmp_path / "ä.bin"
    path.write_bytes(os.urandom(5 * MIB + 5))
    return path


@pytest.fixture(name="relay")
def fixture_relay(server: Server) -> Iterator[Relay]:
    """A line to the service."""
    with Relay(server.port) as relay:
        yield relay


def stored(server: Server, path: Path, uploader: Any) -> None:
    """Check that the file is stored, and that the last answer has its URL."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest in server.blobs()
    assert uploader.request.response_headers["content-location"] == f"/{digest}"


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("chunk_size", [MIB, 1 << 40])
def test_upload(server: Server, path: Path, chunk_size: int, checksum: bool) -> None:
    """A file is stored whole or in pieces, each with its checksum or without."""
    client = TusClient(f"http://127.0.0.1:{server.port}/uploads")
    uploader = client.uploader(
        str(path), chunk_size=chunk_size, upload_checksum=checksum, metadata={"filename": path.name}
    )
    uploader.upload()
    stored(server, path, uploader)


@pytest.mark.parametrize("checksum", [False, True])
def test_retries(server: Server, relay: Relay, path: Path, checksum: bool) -> None:
    """After a broken connection the client continues at the server's offset."""
    relay.break_after(Break.CUT, Way.UP, 3 * MIB, times=1)
    client = TusClient(f"{relay.url}/uploads")
    uploader = client.uploader(str(path), retries=10, retry_delay=0.2, upload_checksum=checksum)
    uploader.upload()
    assert relay.breaks == 1
    stored(server, path, uploader)


def test_storage_of_urls(server: Server, relay: Relay, path: Path) -> None:
    """Another client continues with the URL that the first one stored."""
    job: dict[str, Any] = {"store_url": True, "url_storage": FileStorage(str(path.with_name("urls")))}
    job |= {"chunk_size": MIB}
    try:
        uploader = TusClient(f"{relay.url}/uploads").uploader(str(path), **job)
        uploader.upload_chunk()
        relay.break_after(Break.CUT, Way.UP, MIB // 2, times=1)
        with pytest.raises(TusUploadFailed):
            uploader.upload()
        uploader = TusClient(f"{relay.url}/uploads").uploader(str(path), **job)
        # What the broken connection had carried counts, too.
        assert MIB < uploader.offset < 2 * MIB
        uploader.upload()
    finally:
        job["url_storage"].close()
    stored(server, path, uploader)
