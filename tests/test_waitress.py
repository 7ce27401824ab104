"""The service under waitress, a server that knows nothing of this one."""

from collections.abc import Iterator

import pytest
from exchanges import HASH, RANGES, check_range, check_uploads, check_whole
from servers import Server, refusal, waitress
from wire import Connection, chunked, request


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """waitress on a store that holds the one blob."""
    with waitress(tmp_path_factory.mktemp("waitress")) as server:
        check_uploads(server.port)
        yield server


def test_whole(server: Server) -> None:
    """A download is whole and names its hash."""
    check_whole(server.port)


@pytest.mark.parametrize("name", RANGES)
def test_ranges(server: Server, name: str) -> None:
    """A ranged download has just the bytes asked for."""
    check_range(server.port, f"/{HASH}", name)


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
def test_truncated(server: Server, coded: bool) -> None:
    """A body that is cut short stores nothing."""
    before = server.descriptors()
    with Connection(server.port) as connection:
        if coded:
            connection.send(request("POST", "/", Transfer_Encoding="chunked"), chunked(b"abc", end=b""))
        else:
            connection.send(request("POST", "/", Content_Length=100), b"abc")
    server.until_unused(before)
    assert server.blobs() == {HASH}
    assert not server.staged()


@pytest.mark.parametrize(
    "env", [{"WSGI_STORE_HAHS": "md5"}, {"WSGI_STORE_HASH": "sha256"}], ids=["setting", "algorithm"]
)
def test_refusal(server: Server, env: dict[str, str]) -> None:
    """waitress ends when the service cannot start, and says in one line why."""
    command = ["waitress-serve", "--listen=127.0.0.1:0", "wsgi_store.wsgi:application"]
    status, log = refusal(command, server.root, **env)
    assert status != 0
    assert len(log) == 1 and log[0].startswith("wsgi-store: ")
