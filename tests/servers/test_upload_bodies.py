"""Bodies of resumable uploads: what has arrived is kept, and a request that is not wanted any more ends."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.servers import Server, gunicorn, received, until, uwsgi
from tests.support.speakers import DRAFT, SPEAKERS, TUS, Speaker, create, finish, head, offset
from tests.support.wire import Connection, chunked, message

Start = Callable[..., Server]
HALF = SIZE // 2
STEP = 5000


@pytest.fixture(scope="module", name="server", params=[gunicorn, uwsgi], ids=["gunicorn", "uwsgi"])
def fixture_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with the shipped settings."""
    start: Start = request.param
    with start(tmp_path_factory.mktemp("uploads")) as server:
        yield server


def begun(speaker: Speaker, url: str, coded: bool, data: bytes, length: int = SIZE) -> tuple[bytes, bytes]:
    """The head of a request that appends a whole file, and its first bytes."""
    if coded:
        return speaker.patch(url, 0, Transfer_Encoding="chunked"), chunked(data, end=b"")
    return speaker.patch(url, 0, Content_Length=length), data


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
def test_a_slow_client(server: Server, speaker: Speaker, coded: bool) -> None:
    """Bytes of a slow client are written within about a second, and none is lost when the line breaks."""
    url = create(speaker, server.port, SIZE)
    with Connection(server.port) as connection:
        connection.send(*begun(speaker, url, coded, DATA[:STEP]))
        for sent in range(STEP, 6 * STEP, STEP):
            time.sleep(0.2)
            data = DATA[sent : sent + STEP]
            connection.send(chunked(data, end=b"") if coded else data)
        # uWSGI returns from a read when all its bytes have arrived.
        until(lambda: received(server.root, url) >= 4 * STEP, "bytes to be written", 2)
        connection.reset()
    assert offset(speaker, server.port, url) >= 4 * STEP
    assert finish(speaker, server.port, url, DATA) == HASH


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("way", ["end", "reset"])
@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
def test_a_broken_line(server: Server, speaker: Speaker, way: str, coded: bool) -> None:
    """The server keeps the bytes that arrived before the line broke, and the client continues there."""
    url = create(speaker, server.port, SIZE)
    with Connection(server.port) as connection:
        connection.send(*begun(speaker, url, coded, DATA[:HALF]))
        if way == "end":
            connection.socket.shutdown(socket.SHUT_WR)
            connection.rest()
        else:
            until(lambda: received(server.root, url) > HALF - (1 << 20), "bytes to be written")
            connection.reset()
    assert offset(speaker, server.port, url) > HALF - (1 << 20)
    assert finish(speaker, server.port, url, DATA) == HASH


@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
def test_removed_meanwhile(speaker: Speaker, tmp_path: Path) -> None:
    """A silent request ends soon after its upload was removed."""
    with gunicorn(tmp_path) as server:
        url = create(speaker, server.port, SIZE)
        with Connection(server.port) as connection, Connection(server.port) as other:
            connection.send(*begun(speaker, url, False, DATA[:1000]))
            until(lambda: received(server.root, url) == 1000, "bytes to be written", 2)
            fields = {"Tus_Resumable": "1.0.0"} if speaker is TUS else {}
            assert other.ask(message("DELETE", url, **fields)).status == 204
            begin = time.monotonic()
            assert connection.receive().status in (404, 409, 423)
            assert time.monotonic() - begin < 10
        assert head(speaker, server.port, url).status == 404


def test_a_stalled_client(tmp_path: Path) -> None:
    """A client that sends nothing for WSGI_STORE_IDLE_TIMEOUT is ended, and its upload stays."""
    with gunicorn(tmp_path, WSGI_STORE_IDLE_TIMEOUT="2") as server:
        url = create(DRAFT, server.port, SIZE)
        with Connection(server.port) as connection:
            begin = time.monotonic()
            connection.send(*begun(DRAFT, url, False, DATA[:1000]))
            time.sleep(1)
            connection.send(DATA[1000:2000])
            assert connection.receive().status == 408
            assert 3 <= time.monotonic() - begin < 10
        assert offset(DRAFT, server.port, url) == 2000
        assert finish(DRAFT, server.port, url, DATA) == HASH


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGHUP], ids=["stop", "reload"])
def test_a_drain(signal_: signal.Signals, tmp_path: Path) -> None:
    """A worker that stops ends requests that take too long; the client continues at the next one."""
    with gunicorn(tmp_path, "--graceful-timeout", "1", workers=1, python=()) as server:
        server.expected = ["was sent SIGKILL!"]
        url = create(DRAFT, server.port, SIZE)
        with Connection(server.port) as connection:
            connection.send(*begun(DRAFT, url, False, DATA[:HALF]))
            until(lambda: received(server.root, url) == HALF, "bytes to be written")
            before = server.processes()
            server.process.send_signal(signal_)
            if signal_ == signal.SIGHUP:
                until(lambda: server.processes() - before and not server.processes() & before, "a new worker")
                server.workers = server.processes()
            else:
                server.process.wait(20)
    if signal_ == signal.SIGTERM:
        with gunicorn(tmp_path) as server:
            assert offset(DRAFT, server.port, url) == HALF
            assert finish(DRAFT, server.port, url, DATA) == HASH


def test_a_worker_that_retires(tmp_path: Path) -> None:
    """A worker that has served `max_requests` lets an upload in flight finish."""
    with gunicorn(tmp_path, "--max-requests", "3", workers=1) as server:
        with Connection(server.port) as connection:
            url = create(DRAFT, server.port, SIZE)
            connection.send(*begun(DRAFT, url, False, DATA[:HALF]))
            until(lambda: received(server.root, url) == HALF, "bytes to be written")
            connection.send(DATA[HALF:])
            assert connection.receive().status == 200
        until(lambda: server.processes() and not server.processes() & server.workers, "a new worker")
        server.workers = server.processes()
        assert head(DRAFT, server.port, url).fields["upload-complete"] == "?1"
