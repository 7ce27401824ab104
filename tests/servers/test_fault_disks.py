"""gunicorn on full, read-only and broken disks: the answers, and recovery."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.exchanges import form, told
from tests.support.faults import (
    FULL,
    UNAVAILABLE,
    disk,
    fetched,
    fresh,
    full,
    intact,
    make_ext4,
    mounted,
    ready,
    refused,
    remount,
    run,
    serving,
    stored,
    unmount,
    upload,
    without_inodes,
)
from tests.support.servers import Server
from tests.support.wire import Answer, Connection, chunked, message

MIB = 1 << 20
DISKS = pytest.mark.parametrize("kind", ["tmpfs", "ext4"])


@contextmanager
def serving_on(
    kind: str, directory: Path, size: int, *, inodes: int = 2000, min_free: str = "0"
) -> Iterator[Server]:
    """gunicorn with a disk for its store."""
    with (
        disk(kind, directory / "store", size, inodes=inodes),
        serving(directory, min_free=min_free) as server,
    ):
        yield server


def send_chunked(server: Server, size: int) -> Answer:
    """Upload that many bytes chunked, on a separate connection."""
    with Connection(server.port) as client:
        client.send(message("POST", "/", Transfer_Encoding="chunked"))
        # The server may answer and close before it gets everything.
        try:
            client.send(chunked(*[fresh(1, MIB)] * (size // MIB)))
        except ConnectionError:
            pass
        answer = client.receive()
        assert answer.fields["connection"] == "close"
        assert client.at_end()
        return answer


def free(server: Server) -> int:
    """The free bytes on the server's disk."""
    status = os.statvfs(server.root)
    return status.f_bavail * status.f_frsize


@DISKS
def test_a_full_disk(tmp_path: Path, kind: str) -> None:
    """On a full disk uploads get 507 and all else works; with free space uploads work again."""
    with serving_on(kind, tmp_path, 24 * MIB) as server, Connection(server.port) as client:
        kept, gone = stored(client, fresh(0)), stored(client, fresh(1))
        with full(server.root):
            refused(server, client.ask(upload(fresh(2))), FULL, "not enough free space")
            refused(server, client.ask(form("name", fresh(2))), FULL)
            ready(server, client, whether=False)
            refused(server, send_chunked(server, MIB), FULL)
            assert fetched(client, kept) == fresh(0)
            assert intact(server) == {kept, gone}
            # Deletions always work: they make room.
            assert client.ask(message("DELETE", f"/{gone}")).status == 200
            assert stored(client, b"fits again")
        ready(server, client, whether=True)
        hash_ = stored(client, fresh(2))
        assert hash_ in intact(server)


def test_a_body_that_will_not_fit_is_not_asked_for(tmp_path: Path) -> None:
    """A Content-Length over the free space gets 507 before any of the body is sent."""
    with serving_on("tmpfs", tmp_path, 8 * MIB) as server, Connection(server.port) as client:
        client.send(message("POST", "/", Content_Length=9 * MIB))
        answer = client.receive()
        refused(server, answer, FULL)
        payload = json.loads(answer.body)
        assert payload["needed"] == 9 * MIB > payload["available"] > 0
        with Connection(server.port) as other:
            other.send(message("POST", "/", Content_Length=9 * MIB, Expect="100-continue"))
            refused(server, other.receive(), FULL)


@DISKS
def test_a_disk_that_fills_on_the_way(tmp_path: Path, kind: str) -> None:
    """A chunked body that fills the disk gets 507, and its space is freed."""
    with serving_on(kind, tmp_path, 24 * MIB) as server, Connection(server.port) as client:
        stored(client, fresh(0))
        before, blobs = free(server), intact(server)
        for _ in range(3):
            refused(server, send_chunked(server, 40 * MIB), FULL)
            assert intact(server) == blobs
            assert free(server) >= before - MIB
        told(send_and_receive(server, chunked(*[fresh(1, MIB)] * 16)))
        assert fetched(client, min(blobs)) == fresh(0)


def send_and_receive(server: Server, body: bytes) -> Answer:
    """Upload a chunked body; return the answer."""
    with Connection(server.port) as client:
        return client.ask(message("POST", "/", Transfer_Encoding="chunked"), body)


def test_the_space_that_stays_free(tmp_path: Path) -> None:
    """Uploads never use the reserve, with or without Content-Length."""
    reserve = 6 * MIB
    reserved = serving_on("tmpfs", tmp_path, 16 * MIB, min_free="6MiB")
    with reserved as server, Connection(server.port) as client:
        refused(server, send_chunked(server, 12 * MIB), FULL, "not enough free space")
        hash_ = stored(client, fresh(0, 9 * MIB))
        assert free(server) > reserve
        refused(server, send_chunked(server, 2 * MIB), FULL)
        with full(server.root, leave=reserve - MIB):
            refused(server, client.ask(upload(b"x")), FULL)
            ready(server, client, whether=False)
            assert free(server) < reserve
        assert client.ask(message("DELETE", f"/{hash_}")).status == 200
        ready(server, client, whether=True)
        assert intact(server) == set()


@DISKS
def test_no_inode_is_free(tmp_path: Path, kind: str) -> None:
    """A disk without free inodes counts as full."""
    with serving_on(kind, tmp_path, 24 * MIB, inodes=200) as server, Connection(server.port) as client:
        blobs = {stored(client, fresh(number)) for number in range(3)}
        with without_inodes(server.root):
            assert free(server) > 20 * MIB
            refused(server, client.ask(upload(fresh(9))), FULL, "No space left on device")
            ready(server, client, whether=False)
            assert fetched(client, min(blobs))
            assert intact(server) == blobs
            gone = blobs.pop()
            assert client.ask(message("DELETE", f"/{gone}")).status == 200
        ready(server, client, whether=True)
        assert intact(server) == blobs
        stored(client, fresh(9))


@DISKS
def test_a_disk_that_turned_read_only(tmp_path: Path, kind: str) -> None:
    """On a read-only disk uploads and deletions get 503, and downloads work."""
    with serving_on(kind, tmp_path, 24 * MIB) as server, Connection(server.port) as client:
        hash_ = stored(client, fresh(0))
        remount(server.root, "ro")
        for ask in (
            upload(fresh(1)),
            upload(fresh(0)),
            form("name", fresh(1)),
            message("DELETE", f"/{hash_}"),
        ):
            refused(server, client.ask(ask), UNAVAILABLE, "Read-only file system")
        refused(server, send_chunked(server, 2 * MIB), UNAVAILABLE, "Read-only file system")
        ready(server, client, whether=False)
        assert fetched(client, hash_) == fresh(0)
        assert client.ask(message("GET", "/files")).status == 200
        assert client.ask(message("DELETE", f"/{'0' * 64}")).status == 404
        assert intact(server) == {hash_}
        remount(server.root, "rw")
        ready(server, client, whether=True)
        assert client.ask(message("DELETE", f"/{hash_}")).status == 200
        again = stored(client, fresh(1))
        assert intact(server) == {again}


def test_a_log_on_the_same_full_disk(tmp_path: Path) -> None:
    """A server that cannot write its log still answers."""
    with disk("tmpfs", tmp_path / "disk", 8 * MIB), serving(tmp_path / "disk") as server:
        with Connection(server.port) as client:
            hash_ = stored(client, fresh(0))
            with full(tmp_path / "disk"):
                for _ in range(20):
                    answer = client.ask(upload(fresh(1)))
                    assert (answer.status, json.loads(answer.body)["code"]) == FULL
                    assert fetched(client, hash_) == fresh(0)
            stored(client, fresh(1))
        # The full disk cuts a line short, and the next one follows on the same line.
        server.expected += [r"not enough free space", r".\d{4}-\d\d-\d\dT"]


def test_a_disk_that_breaks(tmp_path: Path) -> None:
    """A disk that turned read-only is still read; repaired and remounted, it serves uploads again."""
    storage, root = tmp_path / "storage", tmp_path / "store"
    image = storage / "disk.img"
    with mounted(storage, "tmpfs", "size=12m"):
        make_ext4(image, 64 * MIB)
        with mounted(root, "ext4", "loop", str(image)), serving(tmp_path) as server:
            # Writes succeed until the sync fails and the disk turns read-only.
            server.expected.append(r"(No space left on device|Input/output error|Read-only).* id=\w+$")
            with Connection(server.port) as client:
                hash_ = stored(client, fresh(0))
                for _ in range(3):
                    with Connection(server.port) as other:
                        answer = other.ask(upload(fresh(1, 20 * MIB)))
                    assert (answer.status, json.loads(answer.body)["code"]) in (FULL, UNAVAILABLE)
                    ready(server, client, whether=False)
                    assert fetched(client, hash_) == fresh(0)
                    assert intact(server) == {hash_}
                unmount(root)
                refused(server, client.ask(upload(fresh(1))), UNAVAILABLE)
                refused(server, client.ask(message("GET", f"/{hash_}")), UNAVAILABLE)
                ready(server, client, whether=False)
                remount(storage, "size=100m")
                run("fsck.ext4", "-y", str(image), fine=(0, 1))  # clean, or repaired
                run("mount", "-t", "ext4", "-o", "loop", str(image), str(root))
                ready(server, client, whether=True)
                assert fetched(client, hash_) == fresh(0)
                again = stored(client, fresh(1, 20 * MIB))
                assert intact(server) == {hash_, again}
