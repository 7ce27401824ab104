"""Uploads in parts: sent while they are received, dropped on failure, collected when abandoned."""

import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import ceph
from tests.support.buckets import environ, held, s3, serving, unfinished
from tests.support.commands import install, run
from tests.support.exchanges import told
from tests.support.faults import UNAVAILABLE, fresh, hash_of, refused
from tests.support.kinds import BucketKind, content, digest_of
from tests.support.servers import Server, gunicorn, until
from tests.support.wire import Connection, message
from wsgi_store.digest import Algorithm
from wsgi_store.errors import Denied, DigestMismatch, IncompleteBody, StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.bucket.parts import MIN_PART_SIZE
from wsgi_store.store.contract import Added, Store
from wsgi_store.upkeep.collect import DAY, Kind, collect

KIND = BucketKind()
BLOCK = 1 << 20
SIZE = 20 * BLOCK
DATA = fresh(1, SIZE)


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> Store:
    """An empty store."""
    return KIND.open(tmp_path / "store", Algorithm.SHA256)


def blocks(data: bytes = DATA) -> Iterator[bytes]:
    """The chunks of a body."""
    for offset in range(0, len(data), BLOCK):
        yield data[offset : offset + BLOCK]


def key_of(algorithm: Algorithm, data: bytes) -> str:
    """The key of a blob below the prefix of its store."""
    name = digest_of(algorithm, data).hex
    return f"{name[:2]}/{name}"


def begin(server: Server, data: bytes, sent: int) -> Connection:
    """Send the head and the first bytes of an upload whose hash is announced."""
    client = Connection(server.port)
    client.send(message("POST", f"/?hash={hash_of(data)}", Content_Length=len(data)), data[:sent])
    return client


def test_parts_go_up_while_the_rest_is_received(tmp_path: Path, store: Store) -> None:
    """A body with an announced digest is sent in parts while it arrives, and appears only when complete."""
    key = key_of(store.algorithm, DATA)

    def body() -> Iterator[bytes]:
        for number, block in enumerate(blocks()):
            if number == MIN_PART_SIZE // BLOCK + 2:
                until(lambda: unfinished(tmp_path / "store") == {key: MIN_PART_SIZE}, "the first part")
                assert not list(store.iterate())
            yield block

    digest = digest_of(store.algorithm, DATA)
    receipt = Staging(store).receive(body(), length=SIZE, expected=[digest])
    assert (receipt.digest, receipt.size, receipt.added) == (digest, SIZE, Added.CREATED)
    assert content(store, digest) == DATA
    assert not unfinished(tmp_path / "store")


def test_what_is_held_is_not_sent(tmp_path: Path, store: Store) -> None:
    """A body that the store already holds is not sent to the bucket."""
    digest = digest_of(store.algorithm, DATA)
    staging = Staging(store)
    assert staging.receive(blocks()).added is Added.CREATED

    def body() -> Iterator[bytes]:
        yield from blocks()
        assert not unfinished(tmp_path / "store")

    assert staging.receive(body(), length=SIZE, expected=[digest]).added is Added.HELD


def test_another_upload_comes_first(store: Store) -> None:
    """A blob that was added while the same body came in is found before the last step."""
    digest = digest_of(store.algorithm, DATA)
    staging = Staging(store)

    def body() -> Iterator[bytes]:
        yield DATA[:BLOCK]
        assert Staging(store).receive([DATA]).added is Added.CREATED
        yield DATA[BLOCK:]

    assert staging.receive(body(), length=SIZE, expected=[digest]).added is Added.HELD
    assert content(store, digest) == DATA


@pytest.mark.parametrize("failure", ["other bytes", "cut", "broken off", "used ticket"])
def test_what_fails_is_dropped(tmp_path: Path, store: Store, failure: str) -> None:
    """An upload that fails or breaks off leaves nothing, even when all its parts were sent."""

    @contextmanager
    def ticket() -> Iterator[None]:
        if failure == "used ticket":
            raise Denied("no")
        yield

    def body() -> Iterator[bytes]:
        yield from blocks(DATA[:-BLOCK])
        until(lambda: sum(unfinished(tmp_path / "store").values()) >= MIN_PART_SIZE, "a part")
        if failure == "broken off":
            raise ConnectionResetError
        if failure != "cut":
            yield DATA[-BLOCK:] if failure == "used ticket" else bytes(BLOCK)

    kinds = (DigestMismatch, IncompleteBody, ConnectionResetError, Denied)
    with pytest.raises(kinds):
        Staging(store).receive(
            body(), length=SIZE, expected=[digest_of(store.algorithm, DATA)], ticket=ticket()
        )
    assert not unfinished(tmp_path / "store")
    assert not list(store.iterate())
    assert not os.listdir(store.staging_directory)


@pytest.mark.races
def test_an_object_store_that_goes_away_meanwhile(tmp_path: Path) -> None:
    """An upload whose parts cannot be sent is refused while it is still coming in."""
    cluster = ceph.cluster()
    data = fresh(2, 64 * BLOCK)
    with serving(tmp_path) as server, begin(server, data, 12 * BLOCK) as client:
        server.until_staged()
        try:
            cluster.stop_gateway()
            for block in blocks(data[12 * BLOCK : -1]):
                client.send(block)
                if select.select([client.socket], [], [], 0.2)[0]:
                    break
            else:
                pytest.fail("there is no answer yet")
            refused(server, client.receive(), UNAVAILABLE)
        finally:
            cluster.start_gateway()
        assert not server.staged()
        assert hash_of(data) not in held(tmp_path)


@pytest.mark.races
def test_uploads_of_killed_processes_are_collected(  # pylint: disable=too-many-locals
    tmp_path: Path,
) -> None:
    """Old uploads of a server killed with -9 are reported, then aborted; no others are."""
    program = install(tmp_path)
    data = fresh(3, 40 * BLOCK)
    begun = {"Bucket": ceph.BUCKET}
    prefix = f"{str(tmp_path)[1:]}/store"
    key = f"{hash_of(data)[:2]}/{hash_of(data)}"
    server = gunicorn(tmp_path, workers=1, **environ(tmp_path))
    try:
        with begin(server, data, 20 * BLOCK):
            until(lambda: unfinished(tmp_path / "store") == {key: 2 * MIN_PART_SIZE}, "two parts")
            server.kill()
    finally:
        server.kill()
    others = [f"{prefix}/notes", f"{prefix}/sub/{key}", f"{prefix}2/{key}"]
    ids = {one: s3().create_multipart_upload(**begun, Key=one)["UploadId"] for one in others}

    def collected(*arguments: str) -> list[dict[str, Any]]:
        variables = environ(tmp_path) | ceph.cluster().environ
        done = run(program, "collect", "--json", *arguments, **variables)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    (summary,) = collected()
    assert summary["upload"] == 0, "it is young"
    time.sleep(1.1)  # the engine's times have whole seconds
    row = {"kind": "upload", "hash": hash_of(data), "size": 2 * MIN_PART_SIZE}
    for dry_run in (["--dry-run"], []):
        told_row, summary = collected("--uploads-older", "1s", *dry_run)
        assert told_row == row
        assert (summary["upload"], summary["bytes"]) == (1, 2 * MIN_PART_SIZE)
    assert [one["upload"] for one in collected("--uploads-older", "1s")] == [0]
    assert set(unfinished(tmp_path / "store")) == {"notes", f"sub/{key}"}
    for one, id_ in ids.items():
        s3().abort_multipart_upload(**begun, Key=one, UploadId=id_)  # raises if the upload is gone
    with serving(tmp_path) as server, begin(server, data, len(data)) as client:
        assert told(client.receive()) == (hash_of(data), len(data), True)


@pytest.mark.races
def test_an_upload_in_use_is_not_collected(tmp_path: Path) -> None:
    """An old upload stays while parts are added to it."""
    data = fresh(4, SIZE)
    store = KIND.open(tmp_path / "store", Algorithm.SHA256)
    with serving(tmp_path) as server, begin(server, data, MIN_PART_SIZE + BLOCK) as client:
        until(lambda: sum(unfinished(tmp_path / "store").values()) == MIN_PART_SIZE, "a part")
        # The engine's clock has whole seconds, and the second part must still be young afterwards.
        time.sleep(6.1)
        client.send(data[MIN_PART_SIZE + BLOCK : 2 * MIN_PART_SIZE + BLOCK])
        until(lambda: sum(unfinished(tmp_path / "store").values()) == 2 * MIN_PART_SIZE, "another part")
        assert not list(collect(store, uploads_older=5))
        client.send(data[2 * MIN_PART_SIZE + BLOCK :])
        assert told(client.receive()) == (hash_of(data), SIZE, True)
    assert not list(collect(store, uploads_older=0))


def test_many_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More uploads than fit on one page of a listing are all collected, in the order of their keys."""
    store = KIND.open(tmp_path / "store", Algorithm.SHA256)
    prefix = f"{str(tmp_path)[1:]}/store"
    monkeypatch.setattr("wsgi_store.store.bucket.unfinished.PAGE", 2)
    keys = sorted(key_of(Algorithm.SHA256, str(number).encode()) for number in range(7))
    for key in keys:
        s3().create_multipart_upload(Bucket=ceph.BUCKET, Key=f"{prefix}/{key}")
    found = [one.digest.hex for one in collect(store, uploads_older=-60) if one.digest is not None]
    assert found == [key.rpartition("/")[2] for key in keys]
    assert not unfinished(tmp_path / "store")


def test_a_refusal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If uploads in parts cannot be listed, the rest is collected before the failure is reported."""
    store = KIND.open(tmp_path / "store", Algorithm.SHA256)
    (Path(store.staging_directory) / ("0" * 32)).write_bytes(b"left behind")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    found = collect(store, uploads_older=DAY)
    assert next(found).kind is Kind.STAGED
    with pytest.raises(StoreUnavailable) as caught:
        next(found)
    assert "SignatureDoesNotMatch" in str(caught.value.__cause__)
