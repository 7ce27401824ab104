"""Fixtures for the tests of the client."""

from collections.abc import Iterator

import pytest

from tests.support.servers import Server, gunicorn
from wsgi_store.client import Client


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service without tokens."""
    with gunicorn(tmp_path_factory.mktemp("client")) as server:
        yield server
        assert not server.staged()


@pytest.fixture(name="client")
def fixture_client(server: Server) -> Iterator[Client]:
    """A client of an empty service."""
    with Client(f"http://127.0.0.1:{server.port}/") as client:
        yield client
        for blob in client.list():
            client.delete(blob.hash)
        assert not server.blobs()
