"""uWSGI with the shipped settings."""

import json
import os
import re
import signal
import socket
import stat
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.support.exchanges import DATA, HASH, told
from tests.support.servers import DEPLOY, Server, refusal, uwsgi
from tests.support.wire import Connection, chunked, message


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """uWSGI with one blob in its store."""
    with uwsgi(tmp_path_factory.mktemp("uwsgi")) as server:
        with Connection(server.port) as connection:
            connection.ask(message("POST", "/", DATA))
        server.await_log(" POST / 200 ")  # logged after the answer; tests count later lines
        yield server


@pytest.mark.parametrize(
    "body",
    [b"", b"5", b"5\r\nabc", chunked(b"abcde", end=b""), b"-1\r\na\r\n0\r\n\r\n"],
    ids=["before it", "in a size", "in a chunk", "behind a chunk", "negative"],
)
def test_broken_chunks(server: Server, body: bytes) -> None:
    """A chunked body that is truncated, or has a negative chunk size, stores nothing."""
    before = server.descriptors()
    requests = len(server.logged(" POST / "))
    with Connection(server.port) as connection:
        connection.send(message("POST", "/", Transfer_Encoding="chunked"), body)
        connection.socket.shutdown(socket.SHUT_WR)
        server.await_log(" POST / ", requests + 1)
    assert " POST / 400 " in server.logged(" POST / ")[-1].string
    _assert_clean(server, before)


def test_truncated(server: Server) -> None:
    """A body shorter than its Content-Length stores nothing."""
    before = server.descriptors()
    with Connection(server.port) as connection:
        connection.send(message("POST", "/", Content_Length=1_000_000), DATA[:500_000])
    server.await_log(r" POST / 400 \d+ B")
    _assert_clean(server, before)


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, 16 << 20])
def test_large_chunks(server: Server, size: int) -> None:
    """A single chunk of a mebibyte or more is received."""
    data = bytes(size)
    with Connection(server.port) as connection:
        answer = connection.ask(message("POST", "/", Transfer_Encoding="chunked"), chunked(data))
        assert told(answer)[1] == size
        assert connection.at_end(), "uWSGI keeps no connection after a chunked body"
    with Connection(server.port) as connection:
        assert connection.ask(message("DELETE", f"/{told(answer)[0]}")).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"Transfer_Encoding": "chunked", "Content_Length": "5"},
        {"Content_Length": "5", "Transfer_Encoding": "chunked"},
        {"Transfer_Encoding": "\x0bchunked"},
        {"Transfer_Encoding": "chunked\x0c"},
        {"Transfer_Encoding": "gzip, chunked"},
    ],
    ids=str,
)
def test_doubtful_framing(server: Server, fields: dict[str, str]) -> None:
    """A body with ambiguous framing is refused, and its connection closed."""
    before = server.descriptors()
    with Connection(server.port) as connection:
        connection.send(message("POST", "/", **fields), chunked(b"abc"))
        assert connection.receive().status in (400, 501)
        connection.send(message("GET", "/healthz"))
        assert connection.at_end()
    _assert_clean(server, before)


def test_date(server: Server) -> None:
    """Every answer has a Date (RFC 9110 section 6.6.1)."""
    with Connection(server.port) as connection:
        for target in ("/healthz", f"/{HASH}", "/nowhere"):
            sent = parsedate_to_datetime(connection.ask(message("GET", target)).fields["date"])
            assert abs(sent.timestamp() - time.time()) < 60


def test_memory_and_rights(server: Server) -> None:
    """A worker allocates nothing for unused descriptors, and only its user may use its socket."""
    for pid in (server.process.pid, *server.processes()):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        assert int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) < 64 << 10
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
        assert int(re.findall(r"Max open files\s+(\d+)", limits)[0]) <= 16384
    (path,) = server.logged(r"uwsgi socket 0 bound to UNIX address (/\S+)")
    assert stat.S_IMODE(os.stat(path[1]).st_mode) == 0o600
    table = Path(f"/proc/{server.process.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    inodes = {
        os.readlink(link) for link in Path(f"/proc/{server.process.pid}/fd").iterdir() if link.is_symlink()
    }
    listening = [
        line for line in table if line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in inodes
    ]
    assert len(listening) == 1, "a port beside the one that was asked for"


def test_silence(tmp_path: Path) -> None:
    """socket-timeout ends a stalled upload."""
    ini = tmp_path / "short.ini"
    ini.write_text((DEPLOY / "uwsgi.ini").read_text(encoding="utf-8").replace("timeout = 60", "timeout = 1"))
    with uwsgi(tmp_path, ini=ini) as server:
        # uWSGI reports a timeout in a chunked body like any other failure, so it gets 400.
        for fields, status in (({"Content_Length": "10"}, 408), ({"Transfer_Encoding": "chunked"}, 400)):
            with Connection(server.port) as connection:
                connection.send(message("POST", "/", **fields), b"5\r\nab")
                assert connection.receive().status == status
        assert not server.blobs()


def test_an_idle_timeout_that_means_nothing(tmp_path: Path) -> None:
    """uWSGI warns at start that WSGI_STORE_IDLE_TIMEOUT has no effect."""
    with uwsgi(tmp_path, WSGI_STORE_IDLE_TIMEOUT="5m") as server:
        server.await_log("WSGI_STORE_IDLE_TIMEOUT has no effect in uWSGI")


def test_stop(tmp_path: Path) -> None:
    """An upload in progress at SIGTERM is stored and answered."""
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
    "env", [{"WSGI_STORE_HAHS": "md5"}, {"WSGI_STORE_HASH": "md5"}], ids=["setting", "algorithm"]
)
def test_refusal(server: Server, env: dict[str, str]) -> None:
    """uWSGI exits if the service cannot start, and logs one line with the reason."""
    status, log = refusal(
        ["pyuwsgi", "--ini", str(DEPLOY / "uwsgi.ini")], server.root, BIND="127.0.0.1:0", **env
    )
    assert status != 0
    assert len([line for line in log if line.startswith("wsgi-store: ")]) == 1
    assert not any("Traceback" in line for line in log)


def test_unloadable(tmp_path: Path) -> None:
    """uWSGI exits if the application cannot be imported."""
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
