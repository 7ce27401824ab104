"""gunicorn at its process limits: the answers, and recovery."""

import http.client
import json
import os
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.exchanges import form
from tests.support.faults import (
    FULL,
    WORKERS,
    fresh,
    hash_of,
    intact,
    ready,
    refused,
    serving,
    stored,
    upload,
)
from tests.support.servers import Server
from tests.support.wire import Connection

MIB = 1 << 20
CROWD = 60


@contextmanager
def limited(kind: int, values: dict[int, int]) -> Iterator[None]:
    """Lower a resource limit of running processes, each to its own value."""
    before = {pid: resource.prlimit(pid, kind) for pid in values}
    for pid, value in values.items():
        resource.prlimit(pid, kind, (value, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, kind, limits)


def test_a_file_larger_than_the_process_may_write(tmp_path: Path) -> None:
    """A file over RLIMIT_FSIZE gets 507, and smaller ones are stored."""
    with serving(tmp_path) as server, Connection(server.port) as client:
        blobs = {stored(client, fresh(0))}
        with limited(resource.RLIMIT_FSIZE, dict.fromkeys(server.workers, MIB)):
            for ask in (upload(fresh(1, 3 * MIB)), form("name", fresh(1, 3 * MIB))):
                with Connection(server.port) as other:
                    refused(server, other.ask(ask), FULL, "File too large")
            blobs.add(stored(client, fresh(2, MIB)))
            ready(server, client, whether=True)
            assert intact(server) == blobs
        blobs.add(stored(client, fresh(1, 3 * MIB)))
        assert intact(server) == blobs


def descriptors(pid: int) -> int:
    """The number of a process's open descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def crowd(server: Server) -> Counter[int]:
    """Upload from many clients at once, each on its own connection; count the statuses."""
    counted: Counter[int] = Counter()
    gate = threading.Barrier(CROWD + 1)

    def ask(number: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
            gate.wait(20)
            client.request("POST", "/", fresh(number))
            answer = client.getresponse()
            payload = json.loads(answer.read())
        if answer.status == 200:
            assert payload["hash"] == hash_of(fresh(number))
        else:
            assert payload["code"] == "store_unavailable"
        counted[answer.status] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CROWD)]
    for thread in threads:
        thread.start()
    gate.wait(20)
    for thread in threads:
        thread.join(30)
    return counted


@pytest.mark.parametrize("spare", [1, 2, 8])
def test_no_descriptor_is_free(tmp_path: Path, spare: int) -> None:
    """With few descriptors each of 60 uploads gets 200 or 503; without the limit all are stored."""
    with serving(tmp_path) as server:
        server.expected += ["cannot accept: Too many open files", r"Too many open files.* id=\w+$"]
        limits = {pid: descriptors(pid) + spare for pid in server.workers}
        with limited(resource.RLIMIT_NOFILE, limits):
            counted = crowd(server)
            assert counted.total() == CROWD
            assert set(counted) <= {200, 503}
            assert len(intact(server)) == counted[200]
        assert server.logged("Too many open files")
        assert crowd(server) == {200: CROWD}
        assert len(intact(server)) == CROWD
        with Connection(server.port) as client:
            ready(server, client, whether=True)


def test_no_descriptor_for_a_connection(tmp_path: Path) -> None:
    """With no descriptor for connections 60 uploads wait, and succeed once the limit is raised."""
    with serving(tmp_path) as server:
        server.expected.append("cannot accept: Too many open files")
        counted: Counter[int] = Counter()
        clients = threading.Thread(target=lambda: counted.update(crowd(server)))
        with limited(resource.RLIMIT_NOFILE, dict.fromkeys(server.workers, 3)):
            clients.start()
            server.await_log("cannot accept", WORKERS)
            assert not counted
        clients.join()
        assert counted == {200: CROWD}
        # The error is logged now and then, not at every attempt.
        assert len(server.logged("cannot accept")) < 20
