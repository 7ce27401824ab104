"""The service under uWSGI with the shipped settings."""

import json
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from exchanges import DATA, HASH, told
from servers import DEPLOY, Server, refusal, uwsgi
from wire import Connection, chunked, message


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """uWSGI on a store that holds the one blob."""
    with uwsgi(tmp_path_factory.mktemp("uwsgi")) as server:
        with Connection(server.port) as connection:
            connection.ask(message("POST", "/", DATA))
        server.await_log("^POST / 200 ")  # written after the answer; the tests count what follows
        yield server


@pytest.mark.parametrize(
    "body",
    [b"", b"5", b"5\r\nabc", chunked(b"abcde", end=b""), b"-1\r\na\r\n0\r\n\r\n"],
    ids=["before it", "in a size", "in a chunk", "behind a chunk", "negative"],
)
def test_broken_chunks(server: Server, body: bytes) -> None:
    """A chunked body that is cut short, or has a chunk of negative size, stores nothing."""
    before = server.descriptors()
    requests = len(server.logged("^POST / "))
    with Connection(server.port) as connection:
        connection.send(message("POST", "/", Transfer_Encoding="chunked"), body)
        connection.socket.shutdown(socket.SHUT_WR)
        server.await_log("^POST / ", requests + 1)
    assert server.logged("^POST / ")[-1].string.startswith("POST / 400 ")
    _assert_clean(server, before)


def test_truncated(server: Server) -> None:
    """A body shorter than announced stores nothing."""
    before = server.descriptors()
    with Connection(server.port) as connection:
        connection.send(message("POST", "/", Content_Length=1_000_000), DATA[:500_000])
    server.await_log(r"^POST / 400 \d+ B")
    _assert_clean(server, before)


def test_stop(tmp_path: Path) -> None:
    """An upload that is on its way when uWSGI is told to stop is stored and answered."""
    with uwsgi(tmp_path) as server, Connection(server.port) as connection:
        connection.send(message("POST", "/", Content_Length=len(DATA)), DATA[:1_000_000])
        server.until_staged()
        server.process.send_signal(signal.SIGTERM)
        server.await_log("Gracefully killing worker")
        connection.send(DATA[1_000_000:])
        assert told(connection.receive()) == (HASH, len(DATA), True)
        server.process.wait(30)
    assert server.blobs() == {HASH}


@pytest.mark.parametrize(
    "env", [{"WSGI_STORE_HAHS": "md5"}, {"WSGI_STORE_HASH": "sha256"}], ids=["setting", "algorithm"]
)
def test_refusal(server: Server, env: dict[str, str]) -> None:
    """uWSGI ends when the service cannot start, and its log says in one line why."""
    status, log = refusal(
        ["pyuwsgi", "--ini", str(DEPLOY / "uwsgi.ini")], server.root, BIND="127.0.0.1:0", **env
    )
    assert status != 0
    assert len([line for line in log if line.startswith("wsgi-store: ")]) == 1
    assert not any("Traceback" in line for line in log)


def test_unloadable(tmp_path: Path) -> None:
    """uWSGI ends when the application cannot be imported."""
    (tmp_path / "loguru.py").write_text("raise ImportError", encoding="ascii")
    command = ["pyuwsgi", "--ini", str(DEPLOY / "uwsgi.ini")]
    status, _ = refusal(command, tmp_path, BIND="127.0.0.1:0", PYTHONPATH=str(tmp_path))
    assert status != 0


def _assert_clean(server: Server, descriptors: Counter[str]) -> None:
    server.until_unused(descriptors)
    assert server.blobs() == {HASH}
    assert not server.staged()
    with Connection(server.port) as connection:
        assert json.loads(connection.ask(message("GET", "/healthz")).body) == {"status": "ok"}
