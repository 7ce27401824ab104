"""waitress, for which the service has no code of its own."""

from pathlib import Path

import pytest

from tests.support.servers import refusal, waitress
from tests.support.wire import Connection, chunked, message
from wsgi_store.digest import Algorithm
from wsgi_store.store.disk.store import LocalStore


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
def test_truncated(tmp_path: Path, coded: bool) -> None:
    """A truncated body stores nothing."""
    with waitress(tmp_path) as server:
        before = server.descriptors()
        with Connection(server.port) as connection:
            if coded:
                connection.send(message("POST", "/", Transfer_Encoding="chunked"), chunked(b"abc", end=b""))
            else:
                connection.send(message("POST", "/", Content_Length=100), b"abc")
        server.until_unused(before)
        assert not server.blobs()
        assert not server.staged()


@pytest.mark.parametrize(
    "env", [{"WSGI_STORE_HAHS": "md5"}, {"WSGI_STORE_HASH": "md5"}], ids=["setting", "algorithm"]
)
def test_refusal(tmp_path: Path, env: dict[str, str]) -> None:
    """waitress exits if the service cannot start, and prints one line with the reason."""
    LocalStore(str(tmp_path), Algorithm.SHA256)
    command = ["waitress-serve", "--listen=127.0.0.1:0", "wsgi_store.wsgi:application"]
    status, log = refusal(command, tmp_path, **env)
    assert status != 0
    assert len(log) == 1 and log[0].startswith("wsgi-store: ")
