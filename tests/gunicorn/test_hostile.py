"""Slow, half-open and stubborn clients do not delay other clients."""

import contextlib
import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.support.crowds import (
    HALF_HEAD,
    LAST_REQUEST,
    SECONDS,
    SLOW_UPLOAD,
    Crowd,
    dripping,
    in_backlog,
    served,
)
from tests.support.servers import Server, gunicorn, until
from tests.support.wire import Connection, message

pytestmark = pytest.mark.alone
# Sent by sendfile(2), and too large for the socket buffers.
BIG = bytes(32 << 20)
BIG_HASH = hashlib.sha256(BIG).hexdigest()
DOWNLOAD = message("GET", f"/{BIG_HASH}")


def hold_big(server: Server) -> None:
    """Store the big blob."""
    with Connection(server.port) as connection:
        assert connection.ask(message("POST", "/", BIG)).status == 200


def until_free(server: Server) -> None:
    """Wait until no file of the store is open."""
    until(
        lambda: not any(name.startswith(str(server.root)) for name in server.descriptors()),
        "files to be closed",
    )


def test_nobody_waits_for_bad_clients(tmp_path: Path) -> None:
    """200 slow uploads, 50 unread downloads, 15 half heads and 8 lingering clients do not delay 20 others."""
    with gunicorn(tmp_path, workers=2) as server, Crowd() as crowd:
        hold_big(server)
        slow = crowd.gather(server.port, 200, SLOW_UPLOAD)
        unread = crowd.gather(server.port, 50, DOWNLOAD, buffer=4096)
        crowd.gather(server.port, 15, HALF_HEAD)
        until(lambda: in_backlog(server.port) == 0, "all of them to be in")
        with dripping(slow):
            for _ in range(3):
                crowd.gather(server.port, 8, LAST_REQUEST)
                assert max(served(server.port)) < SECONDS
        assert all(client.recv(20).startswith(b"HTTP/1.1 200 OK") for client in unread)
        assert server.blobs() == {BIG_HASH}
        crowd.close()
        until_free(server)


def test_stubborn_clients_take_no_acceptor(tmp_path: Path) -> None:
    """Clients that ignore Connection: close and stay connected delay nobody."""
    with gunicorn(tmp_path, workers=1) as server, Crowd() as crowd:
        stubborn = crowd.gather(server.port, 8, LAST_REQUEST)
        assert all(client.recv(100).startswith(b"HTTP/1.1 200 OK") for client in stubborn)
        assert max(served(server.port)) < SECONDS


def test_a_worker_without_a_free_thread_accepts_nobody(tmp_path: Path) -> None:
    """If all threads of one worker are busy, the other worker accepts the new connections."""
    with gunicorn(tmp_path, "--threads", "4", workers=2) as server, Crowd() as crowd:
        crowd.gather(server.port, 7, SLOW_UPLOAD)
        for _ in range(20):
            assert max(served(server.port, 1)) < SECONDS


def test_a_failed_answer_is_counted_once(tmp_path: Path) -> None:
    """Answers that fail midway do not raise the number of connections that a worker accepts."""
    with (
        gunicorn(tmp_path, "--threads", "2", "--worker-connections", "4", workers=1) as server,
        Crowd() as crowd,
    ):
        server.expected = ["a response broke off: the blob .* is shorter"]
        hold_big(server)
        path = server.root / BIG_HASH[:2] / BIG_HASH
        path.chmod(0o600)
        for count in range(1, 5):
            with Connection(server.port, receive_buffer=4096) as connection:
                connection.send(DOWNLOAD)
                connection.socket.recv(100)
                os.truncate(path, 1000)
                # The answer ends before its Content-Length, so that clients notice.
                with contextlib.suppress(ConnectionResetError):
                    while connection.socket.recv(1 << 20):
                        pass
            server.await_log("a response broke off: the blob .* is shorter", count)
            os.truncate(path, len(BIG))
        crowd.gather(server.port, 10, HALF_HEAD)
        until(lambda: in_backlog(server.port) == 6, "four to be accepted")


def test_half_heads_take_no_thread(tmp_path: Path) -> None:
    """Connections with half a head leave the only thread free."""
    with gunicorn(tmp_path, "--threads", "1", workers=1) as server, Crowd() as crowd:
        half = crowd.gather(server.port, 30, b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert max(served(server.port, 3)) < SECONDS
        half[0].sendall(b"\r\n")
        assert half[0].recv(100).startswith(b"HTTP/1.1 200 OK")
        # The same on a kept connection.
        half[0].sendall(HALF_HEAD)
        assert max(served(server.port, 3)) < SECONDS


@pytest.mark.parametrize("threads", ["1", "4"])
def test_pipelined_half_heads_take_no_thread(tmp_path: Path, threads: str) -> None:
    """Half a head that arrives with a whole request takes no thread."""
    with gunicorn(tmp_path, "--threads", threads, workers=1) as server, Crowd() as crowd:
        whole = message("HEAD", "/")
        half = crowd.gather(server.port, 10, whole + whole[:20])
        assert all(client.recv(1000).startswith(b"HTTP/1.1 200 OK") for client in half)
        assert max(served(server.port, 3)) < SECONDS
        for client in half:
            client.sendall(whole[20:] + whole)
            answers = b""
            while answers.count(b"HTTP/1.1 200 OK") < 2:
                answers += client.recv(1000)


def test_idle_upload(tmp_path: Path) -> None:
    """An idle upload gets 408 and stores nothing."""
    with gunicorn(tmp_path, WSGI_STORE_IDLE_TIMEOUT="0.5s") as server, Crowd() as crowd:
        client = crowd.join(server.port, SLOW_UPLOAD)
        with client.makefile("rb") as file:
            answer = file.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close\r\n" in answer
        assert b'"code": "request_timeout"' in answer
        assert not server.blobs()


def test_idle_download(tmp_path: Path) -> None:
    """An idle download ends, and frees its thread and its file."""
    with gunicorn(tmp_path, WSGI_STORE_IDLE_TIMEOUT="0.5s") as server, Crowd() as crowd:
        hold_big(server)
        client = crowd.join(server.port, DOWNLOAD)
        server.await_log("moved nothing for too long")
        received = 0
        while data := client.recv(1 << 20):
            received += len(data)
        assert received < len(BIG)
        client.close()
        until_free(server)


@pytest.mark.races
def test_slow_downloads(tmp_path: Path) -> None:
    """Slow but steady downloads are not treated as idle."""
    parts = message("GET", f"/{BIG_HASH}", Range="bytes=0-20000000,20000100-30000000")
    with gunicorn(tmp_path, WSGI_STORE_IDLE_TIMEOUT="3s") as server, Crowd() as crowd:
        hold_big(server)
        clients = [crowd.join(server.port, request, buffer=16384) for request in (DOWNLOAD, parts)]
        # In 3 seconds a client reads less than one block, and less than a third of its socket buffer.
        for _ in range(60):
            assert all(client.recv(8000) for client in clients)
            time.sleep(0.1)
        assert not server.logged("moved nothing")
