"""Slow clients next to others: transfers have a limited number of slots, and the slowest are ended."""

import contextlib
import hashlib
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import siege
from tests.support.crowds import SECONDS, dripping, only_worker
from tests.support.servers import DEPLOY, Server, gunicorn, refusal, until
from tests.support.wire import Answer, Connection, message

pytestmark = pytest.mark.alone
SLOTS = 7  # of eight threads
# In seconds; only after this time can a transfer be too slow.
WINDOW = 5
BIG = os.urandom(32 << 20)
BIG_HASH = hashlib.sha256(BIG).hexdigest()
DATA = os.urandom(1 << 20)


@contextlib.contextmanager
def serving(directory: Path, **env: str) -> Iterator[Server]:
    """A worker with slots for seven transfers, on a store with a large blob."""
    with gunicorn(directory, "--threads", "8", workers=1, **env) as server:
        assert ask(server, message("POST", "/", BIG)).status == 200
        yield server


def ask(server: Server, request: bytes) -> Answer:
    """Send a request over a new connection."""
    with Connection(server.port) as connection:
        return connection.ask(request)


def uploads(server: Server, stack: contextlib.ExitStack, number: int = SLOTS) -> list[Connection]:
    """Uploads that send half of their body and then wait."""
    found = [stack.enter_context(Connection(server.port)) for _ in range(number)]
    for connection in found:
        connection.send(message("POST", "/", Content_Length=100_000), b"x" * 50_000)
    until(lambda: staged(server) == number, "uploads to begin")
    return found


def downloads(server: Server, stack: contextlib.ExitStack) -> list[Connection]:
    """As many unread downloads as the server accepts."""
    found = []
    while True:
        connection = stack.enter_context(Connection(server.port, receive_buffer=4096))
        connection.send(message("GET", f"/{BIG_HASH}"))
        answer = connection.receive_head()
        if answer.status == 503:
            return found
        found.append(connection)


def staged(server: Server) -> int:
    """The number of staged files."""
    return sum(count for name, count in server.descriptors().items() if "/.staging/" in name)


def has_answer(connection: Connection) -> bool:
    """Tell whether an answer has arrived."""
    connection.socket.setblocking(False)
    try:
        return connection.socket.recv(1, 2) is not None
    except BlockingIOError:
        return False
    finally:
        connection.socket.settimeout(20)


@pytest.mark.races
def test_the_slowest_upload_makes_room(tmp_path: Path) -> None:
    """A slow upload is ended, with 408, only if another transfer needs its slot."""
    with serving(tmp_path) as server, contextlib.ExitStack() as stack:
        slow = uploads(server, stack)
        fast = slow.pop()
        with dripping([fast.socket], 0.0005):
            time.sleep(WINDOW + 2)
            assert not any(map(has_answer, slow))
            begin = time.monotonic()
            assert ask(server, message("POST", "/", DATA)).status == 200
            assert time.monotonic() - begin < SECONDS
            (ended,) = filter(has_answer, slow)
            answer = ended.receive()
            assert (answer.status, json.loads(answer.body)["code"]) == (408, "request_timeout")
            assert answer.fields["connection"] == "close"
            assert ended.at_end()
            assert not has_answer(fast)
        slow.remove(ended)
        for connection in slow:
            connection.send(b"x" * 50_000)
            assert connection.receive().status == 200
        server.await_log("7 transfers, ended the slowest for another")


@pytest.mark.races
def test_the_slowest_download_makes_room(tmp_path: Path) -> None:
    """An unread download is cut off for an upload or a download; one that is read continues."""
    with serving(tmp_path) as server, contextlib.ExitStack() as stack:
        slow = downloads(server, stack)
        assert len(slow) == SLOTS * 15 // 16
        read, end = slow.pop(), time.monotonic() + WINDOW + 2
        while time.monotonic() < end:
            assert read.socket.recv(1 << 14)
            time.sleep(0.1)
        for _ in range(3):
            assert siege.ask(server.port, "GET", f"/{BIG_HASH}") == BIG
            siege.ask(server.port, "POST", "/", DATA)
        assert sum(map(was_cut, slow)) >= 1
        for _ in range(200):
            assert read.socket.recv(1 << 14)


def was_cut(download: Connection) -> bool:
    """Read what has arrived of a download; tell whether it was reset."""
    download.socket.settimeout(0.2)
    try:
        return not all(download.socket.recv(1 << 16) for _ in range(10))
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_a_download_without_a_slot(tmp_path: Path) -> None:
    """While all slots are taken, a large download gets 503, and requests without a slot are answered."""
    with serving(tmp_path) as server, contextlib.ExitStack() as stack:
        uploads(server, stack)
        answer = ask(server, message("GET", f"/{BIG_HASH}"))
        assert (answer.status, json.loads(answer.body)["code"]) == (503, "busy")
        assert answer.fields["retry-after"] == "1"
        assert ask(server, message("HEAD", f"/{BIG_HASH}")).status == 200
        assert ask(server, message("GET", f"/{BIG_HASH}", Range="bytes=0-9")).body == BIG[:10]
        assert ask(server, message("GET", "/healthz")).status == 200
        assert json.loads(ask(server, message("POST", "/", b"small")).body)["size"] == 5


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}])
def test_uploads_wait_without_a_thread(tmp_path: Path, expect: dict[str, str]) -> None:
    """An upload without a slot waits for one, and gets 503 after WSGI_STORE_IDLE_TIMEOUT."""
    env = {"WSGI_STORE_IDLE_TIMEOUT": "3s", "WSGI_STORE_MIN_RATE": "0"}
    with serving(tmp_path, **env) as server, contextlib.ExitStack() as stack:
        slow = uploads(server, stack)
        waiting = [stack.enter_context(Connection(server.port)) for _ in range(20)]
        with dripping([connection.socket for connection in slow]):
            for connection in waiting:
                connection.send(message("POST", "/", Content_Length=100_000, **expect))
            assert ask(server, message("GET", "/healthz")).status == 200
            slow[0].send(b"x" * 50_000)
            assert slow[0].receive().status == 200
            statuses = [connection.receive().status for connection in waiting]
        assert 17 <= statuses.count(503) < 20
        assert set(statuses) == {503, 100 if expect else 408}


def test_what_no_thread_waits_for_needs_no_slot(tmp_path: Path) -> None:
    """While all slots are taken, fully received uploads are accepted and disconnected clients dropped."""
    with serving(tmp_path, WSGI_STORE_MIN_RATE="0") as server, contextlib.ExitStack() as stack:
        uploads(server, stack)
        left = [stack.enter_context(Connection(server.port)) for _ in range(20)]
        for connection in left:
            connection.send(message("POST", "/", Content_Length=100_000), b"x")
        begin = time.monotonic()
        for split in range(3):
            request = message("POST", "/", b"small")
            with Connection(server.port) as connection:
                connection.send(request[: len(request) - split])
                time.sleep(0.3)
                connection.send(request[len(request) - split :])
                assert connection.receive().status == 200
        with Connection(server.port) as connection:
            head = message("POST", "/", Transfer_Encoding="chunked")
            connection.send(head, b"5\r\nsmall\r\n0\r\n\r\n")
            connection.socket.shutdown(socket.SHUT_WR)
            assert connection.receive().status == 200
        assert time.monotonic() - begin < SECONDS + 1
        before = sockets(server)
        for connection in left:
            connection.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: sockets(server) <= before - len(left), "those that left to be forgotten")


def sockets(server: Server) -> int:
    """The number of open sockets."""
    return sum(count for name, count in server.descriptors().items() if name == "socket")


def test_a_length_that_is_no_number(tmp_path: Path) -> None:
    """A malformed or huge Content-Length does not break the worker."""
    with serving(tmp_path, WSGI_STORE_MAX_SIZE="1GiB") as server:
        pid = only_worker(server)
        for length in ("9" * 5000, "9" * 19, "-1", "0x5", "", "5, 5"):
            with Connection(server.port) as connection:
                connection.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode())
                assert connection.receive().status in {400, 413}
        assert only_worker(server) == pid


def test_a_stop_while_uploads_wait(tmp_path: Path) -> None:
    """Uploads waiting for a slot when the server stops are completed."""
    with serving(tmp_path) as server, contextlib.ExitStack() as stack:
        slow = uploads(server, stack)
        waiting = stack.enter_context(Connection(server.port))
        waiting.send(message("POST", "/", Content_Length=100_000), b"x")
        time.sleep(0.5)
        os.kill(only_worker(server), signal.SIGTERM)
        time.sleep(0.5)
        for connection in slow:
            connection.send(b"x" * 50_000)
            assert connection.receive().status == 200
        waiting.send(b"x" * 99_999)
        assert waiting.receive().status == 200


def test_many_small_answers_that_nobody_reads(tmp_path: Path) -> None:
    """Clients that pipeline requests without reading the answers do not exhaust the threads."""
    with serving(tmp_path) as server, contextlib.ExitStack() as stack:
        small = json.loads(ask(server, message("POST", "/", os.urandom(60_000))).body)["url"]
        for _ in range(20):
            connection = stack.enter_context(Connection(server.port, receive_buffer=4096))
            connection.send(message("GET", small) * 200)
        for _ in range(20):
            begin = time.monotonic()
            assert ask(server, message("GET", "/healthz")).status == 200
            assert time.monotonic() - begin < SECONDS


@pytest.mark.races
@pytest.mark.parametrize("kind", os.environ.get("CROWDS", "both").split(","))
def test_crowds(tmp_path: Path, kind: str) -> None:
    """With more slow clients than threads, well-behaved clients are still served (siege.py has more)."""
    with gunicorn(tmp_path, "--threads", "128", workers=1) as server:
        fate = siege.fare(kind, server.port, 300, 5, waits=(WINDOW + 1, 0))
        assert not fate.failures, str(fate)
        assert fate.honest, str(fate)
        assert fate.worst("healthz") < 0.25, str(fate)
        assert max(fate.worst("get"), fate.worst("post")) < 2, str(fate)


def test_descriptors(tmp_path: Path) -> None:
    """At start, the limit of open files is raised, and too many --worker-connections are rejected."""
    command = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"]
    status, said = refusal([*command, "--worker-connections", "2000000000"], tmp_path / "store")
    assert status == 1
    assert len(said) == 1 and said[0].startswith("wsgi-store: --worker-connections: 2000000000 are too many")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
    try:
        with gunicorn(tmp_path, workers=1) as server:
            assert resource.prlimit(only_worker(server), resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
