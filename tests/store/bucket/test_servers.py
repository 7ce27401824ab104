"""Several servers on one bucket that share nothing else."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.support.buckets import environ, held, store
from tests.support.exchanges import told
from tests.support.faults import fresh, stored, upload
from tests.support.histories import linearisable
from tests.support.kinds import content
from tests.support.load import Client, Ledger
from tests.support.peaks import Peak
from tests.support.servers import gunicorn
from tests.support.wire import Connection, message
from wsgi_store.digest import Algorithm

pytestmark = pytest.mark.long(60)
SECONDS = float(os.environ.get("TEST_LOAD_SECONDS", 5))
MIB = 1 << 20
SIZE = 128 * MIB
# Room for a few parts of an upload, which lie in the page cache, and for the buffers that send them.
LIMIT = 64 * MIB


@pytest.mark.races
def test_two_servers(tmp_path: Path) -> None:
    """Two servers give concurrent clients consistent answers, and every blob is whole."""
    settings = environ(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    held(tmp_path)
    with (
        gunicorn(tmp_path / "a", **settings | {"WSGI_STORE_S3_STAGING": str(tmp_path / "a/store")}) as first,
        gunicorn(tmp_path / "b", **settings | {"WSGI_STORE_S3_STAGING": str(tmp_path / "b/store")}) as second,
    ):
        ledger = Ledger([first.port, second.port])
        clients = [Client(ledger, f"{number}") for number in range(8)]
        for client in clients:
            client.start()
        try:
            # Enough even on a slow machine.
            ledger.await_answers(int(20 * SECONDS) + 1)
            threading.Event().wait(SECONDS)
        finally:
            ledger.end.set()
            for client in clients:
                client.join()
        assert not first.staged() + second.staged()
    print(ledger.counts)
    assert not ledger.trouble
    assert not ledger.counts["altered"]
    assert ledger.answered > 20 * SECONDS
    assert all(ledger.counts[what] for what in ("CREATED", "HELD", "REMOVED", "MISSING")), ledger.counts
    assert not [hash_ for hash_, history in ledger.histories.items() if not linearisable(history)]
    bucket = store(tmp_path)
    for blob in bucket.iterate():
        hashed = Algorithm.SHA256.new()
        hashed.update(content(bucket, blob.digest))
        assert hashed.digest() == blob.digest.raw


def test_preloaded(tmp_path: Path) -> None:
    """An application loaded before the workers are forked works in each of them."""
    with gunicorn(tmp_path, "--preload", workers=3, **environ(tmp_path)) as server:
        blobs = set()
        for number in range(12):
            with Connection(server.port) as client:
                blobs.add(stored(client, fresh(number)))
        assert held(tmp_path) == blobs


@pytest.mark.races
@pytest.mark.parametrize("field", [None, f"bytes=0-1000,{SIZE // 2}-"], ids=["whole", "parts"])
def test_memory(tmp_path: Path, field: str | None) -> None:
    """Uploads and downloads of any size take a constant amount of memory."""
    with gunicorn(tmp_path, workers=1, python=(), **environ(tmp_path)) as server:
        with Connection(server.port) as client:
            stored(client, fresh(1, 20 * MIB))
            peak = Peak(server.processes())
            block = fresh(2, MIB)
            client.send(message("POST", "/", Content_Length=SIZE))
            for _ in range(SIZE // MIB):
                client.send(block)
            hash_ = told(client.receive())[0]
        with Connection(server.port) as client:
            client.send(
                message("GET", f"/{hash_}", **({"Range": field} if field else {}), Connection="close")
            )
            received = 0
            while data := client.socket.recv(MIB):
                received += len(data)
        assert received > SIZE // 2
        assert peak.growth() <= LIMIT


def test_uploads_of_the_same_bytes(tmp_path: Path) -> None:
    """Of concurrent uploads of the same bytes to several workers exactly one creates the blob."""
    with gunicorn(tmp_path, workers=3, **environ(tmp_path)) as server:
        for number, size in enumerate([0, 1000, 20 * MIB]):
            data = fresh(number, size)
            with ThreadPoolExecutor(6) as pool:
                created = pool.map(partial(send, server.port), [data] * 6)
            assert sorted(created) == [False] * 5 + [True]


def send(port: int, data: bytes) -> bool:
    """Upload bytes; returns whether that created the blob."""
    with Connection(port) as client:
        return told(client.ask(upload(data)))[2]
