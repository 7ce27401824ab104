"""Uploads whose requests are stopped, killed or silent while others go on, with real servers."""

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.support.pauses import paused
from tests.support.resuming import (
    answered,
    ask,
    create,
    finished,
    folder_of,
    head_of,
    holder,
    holders,
    offset_of,
    received,
    send,
)
from tests.support.servers import Server, gunicorn, until, uwsgi
from tests.support.wire import Connection, message

SIZE = 3 << 20
DATA = Random(1).randbytes(SIZE)
HASH = hashlib.sha256(DATA).hexdigest()
REFUSED = (409, 423, None)
# As much as the first read of a body takes.
SOME = 64 << 10
ROUNDS = 4


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn with two workers."""
    with gunicorn(tmp_path_factory.mktemp("gunicorn"), WSGI_STORE_HASH="sha256") as server:
        yield server


@pytest.fixture(name="path")
def fixture_path(server: Server) -> Iterator[str]:
    """A new upload; in the end only its result is left."""
    yield create(server.port, SIZE)
    with Connection(server.port) as client:
        client.ask(message("DELETE", f"/{HASH}"))


@contextmanager
def sending(server: Server, path: str, offset: int = 0, size: int = SIZE // 2) -> Iterator[Connection]:
    """A request that is appending all the rest and has sent this many bytes."""
    with Connection(server.port) as client:
        client.send(head_of(path, offset, SIZE - offset), DATA[offset : offset + size])
        # uWSGI hands on what it has received once a read of 512 KiB is full.
        received(server, path, offset + size // 3)
        yield client


def finish(server: Server, path: str) -> int:
    """Send the rest on another connection; returns the offset where it began."""
    offset = offset_of(server.port, path)
    done = send(server.port, path, offset, DATA[offset:])
    assert (done.status, done.offset, done.blob) == (204, SIZE, HASH), done
    finished(server, path, DATA, HASH)
    return offset


def test_a_stopped_worker(server: Server, path: str) -> None:
    """When a worker is stopped in mid-write another one finishes, and the blob stays as it is."""
    with sending(server, path) as client:
        with paused(holder(server)):
            assert 0 < finish(server, path) < SIZE
        assert answered(client, DATA[SIZE // 2 :]) in REFUSED
        finished(server, path, DATA, HASH)
    until(lambda: not holders(server), "the end of the old request")


def test_peace(server: Server, path: str) -> None:
    """Another connection is refused while bytes arrive, and takes over 2 s after the last one."""
    with sending(server, path, size=SOME) as client:
        refused = []
        for number in range(4):
            with Connection(server.port) as other:
                fields = {"Tus_Resumable": "1.0.0"} if number % 2 else {}
                refused.append(other.ask(message("HEAD", path, **fields)))
            client.send(DATA[SOME + number * SOME :][:SOME])
        assert {answer.status for answer in refused} <= {409, 423}
        assert all(int(answer.fields["retry-after"]) >= 1 for answer in refused)
        begin = time.monotonic()
        offset_of(server.port, path)
        assert 1 < time.monotonic() - begin < 6
        assert answered(client, DATA[:SOME]) in REFUSED
        finish(server, path)


def test_removal_ends_a_request(server: Server, path: str) -> None:
    """DELETE ends the request that is appending, and nothing is left."""
    with sending(server, path) as client:
        folder = folder_of(server, path)
        with Connection(server.port) as other:
            assert other.ask(message("DELETE", path, Tus_Resumable="1.0.0")).status == 204
        assert answered(client, DATA[SIZE // 2 :][:SOME]) in (404, *REFUSED)
        until(lambda: not holders(server), "the end of the request")
        assert ask(server.port, path).status == 404
        assert not folder.exists()
        assert not list(folder.parent.glob(".*"))


def test_kills_of_a_worker_and_of_all(tmp_path: Path) -> None:
    """After kill -9 of a worker, and then of the whole server, the upload continues where it stopped."""
    server = gunicorn(tmp_path)
    server.expected.append("was sent SIGKILL")
    path = create(server.port, SIZE)
    with sending(server, path, size=SIZE // 3):
        os.kill(holder(server), signal.SIGKILL)
        offset = offset_of(server.port, path)
        assert offset >= SIZE // 9
    with sending(server, path, offset, SIZE // 3):
        server.kill()
    with gunicorn(tmp_path) as again:
        assert finish(again, path) >= offset + SIZE // 9


@pytest.mark.races
def test_workers_stopped_at_random(server: Server) -> None:
    """Whenever a worker is stopped while bytes arrive at full speed, the other one finishes."""
    choice = Random(2)
    size = 48 << 20
    data = choice.randbytes(size)
    hash_ = hashlib.sha256(data).hexdigest()
    for _ in range(ROUNDS):
        path = create(server.port, size)
        with Connection(server.port) as client, ThreadPoolExecutor() as pool:
            old = pool.submit(answered, client, head_of(path, 0, size) + data)
            pid = holder(server)
            received(server, path, choice.randrange(size * 3 // 4))
            with paused(pid):
                offset = offset_of(server.port, path)
                done = send(server.port, path, offset, data[offset:]) if offset < size else None
                assert done is None or (done.status, done.blob) == (204, hash_)
            assert old.result(20) in REFUSED
        finished(server, path, data, hash_)
        with Connection(server.port) as client:
            assert client.ask(message("DELETE", f"/{hash_}")).status == 200
        until(lambda: not holders(server), "the end of the old request")


def test_a_silent_request_under_uwsgi(tmp_path: Path) -> None:
    """A request that waits for bytes under uWSGI cannot be asked to end; whatever it writes has no effect."""
    with uwsgi(tmp_path, WSGI_STORE_HASH="sha256") as server:
        path = create(server.port, SIZE)
        with sending(server, path) as client:
            pid = holder(server)
            assert finish(server, path) < SIZE
            assert holders(server) == {pid}, "it waits no more"
            assert answered(client, DATA[SIZE // 2 :]) in REFUSED
            finished(server, path, DATA, HASH)


@pytest.mark.races
def test_a_stopped_worker_under_uwsgi(tmp_path: Path) -> None:
    """When a worker of uWSGI is stopped another one finishes, and the blob stays as it is."""
    with uwsgi(tmp_path, WSGI_STORE_HASH="sha256") as server:
        path = create(server.port, SIZE)
        with sending(server, path) as client:
            with paused(holder(server)):
                assert finish(server, path) < SIZE
            assert answered(client, DATA[SIZE // 2 :]) in REFUSED
            finished(server, path, DATA, HASH)
