"""Blobs of a tree from servers that are old, cut off, or damaged."""

import hashlib
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peers import hurried, reply, saying
from tests.support.relay import Break, Relay, Way
from tests.support.restoring import File, Thing, expected, failures, found, put_tree, restored, tree_of
from tests.support.servers import Server, gunicorn, nginx
from wsgi_store.client import Client
from wsgi_store.client.tree import files
from wsgi_store.errors import BlobNotFound, DigestMismatch, UnexpectedAnswer, Unreachable
from wsgi_store.web import tar

BYTES = random.Random(17)
THINGS: dict[str, Thing] = {f"{number}": File(BYTES.randbytes(20_000)) for number in range(40)}
THINGS["large"] = File(BYTES.randbytes(files.SMALL * 4))
OLD = "location = /archive {{ return {}; }}"


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_archives(server: Server, client: Client, tmp_path: Path, status: int) -> None:
    """Each blob is fetched on its own from an older server, which is asked for an archive only once."""
    tree = put_tree(client, THINGS)
    with nginx(tmp_path, server, direct=False, locations=OLD.format(status)) as front:
        with Client(f"http://127.0.0.1:{front.port}") as old:
            assert not failures(restored(old, tree, tmp_path / "new"))
    assert found(tmp_path / "new") == expected(THINGS)


@pytest.mark.parametrize("count", [1, 600, 5_000, 100_000, 500_000])
def test_connections_that_break(
    server: Server, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    """Blobs that came before a connection broke do not come again, and the others are asked for again."""
    caplog.set_level(logging.ERROR)
    tree = put_tree(client, THINGS)
    with Relay(server.port) as relay, hurried(relay.url) as cut:
        assert cut.algorithm
        relay.break_after(Break.CUT, Way.DOWN, count, 4)
        assert not failures(restored(cut, tree, tmp_path / "new"))
        assert relay.breaks
    assert found(tmp_path / "new") == expected(THINGS)


def test_a_server_that_goes_away(server: Server, client: Client, tmp_path: Path) -> None:
    """Without the server the restore ends, and the next one does the rest."""
    tree = put_tree(client, THINGS)
    # Slow enough that the large file is still on its way.
    with Relay(server.port, 1e6, Way.DOWN) as relay, hurried(relay.url, retries=1) as cut:
        outcomes = cut.get_tree(tree, tmp_path / "new", jobs=1)
        assert not next(outcomes).error
        relay.break_after(Break.CUT, Way.DOWN, 0)
        with pytest.raises(Unreachable):
            list(outcomes)
        assert f".{tree}.part" in os.listdir(tmp_path / "new")
        relay.mend()
        assert not failures(restored(cut, tree, tmp_path / "new"))
    assert found(tmp_path / "new") == expected(THINGS)


def test_damaged_copies(server: Server, client: Client, tmp_path: Path) -> None:
    """Files whose blobs are damaged on the server fail, and nothing of them gets a name."""
    tree = put_tree(client, THINGS)
    for name in ("3", "large"):
        thing = THINGS[name]
        assert isinstance(thing, File)
        hash_ = hashlib.sha256(thing.data).hexdigest()
        path = server.root / hash_[:2] / hash_
        path.chmod(0o644)
        path.write_bytes(b"x" * len(thing.data))
    outcome = restored(client, tree, tmp_path / "new")
    assert failures(outcome).keys() == {"3", "large"}
    assert all(isinstance(outcome[name].error, DigestMismatch) for name in ("3", "large"))
    assert found(tmp_path / "new") == expected(
        {name: thing for name, thing in THINGS.items() if name not in ("3", "large")}
    )


def test_a_blob_that_the_server_cannot_read(server: Server, client: Client, tmp_path: Path) -> None:
    """A blob that fails in the middle of an archive fails alone."""
    tree = put_tree(client, THINGS)
    thing = THINGS["7"]
    assert isinstance(thing, File)
    hash_ = hashlib.sha256(thing.data).hexdigest()
    path = server.root / hash_[:2] / hash_
    path.unlink()
    path.mkdir()
    try:
        with hurried(client.url("")) as hurry:
            assert failures(restored(hurry, tree, tmp_path / "new")).keys() == {"7"}
    finally:
        path.rmdir()


def archive(*members: tuple[str, bytes]) -> bytes:
    """An answer with an archive."""
    body = b"".join(tar.header(name, len(data)) + data + tar.padding(len(data)) for name, data in members)
    return reply(body + tar.END, Content_Type="application/x-tar")


A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
TREE = tree_of({"a": File(b"a")})
STRANGE = {
    "no archive": reply(b"x" * 1024),
    "another blob": archive((B, b"b")),
    "another size": archive((A, b"aa")),
    "twice": archive((A, b"a"), (A, b"a")),
    "too long": archive((A, b"a"), *[(A, b"a" * 100_000)] * 100),
    "endless": reply(tar.header(A, 1 << 40) + bytes(1 << 21), length=1 << 41),
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=list(STRANGE))
def test_strange_archives(answer: bytes, tmp_path: Path) -> None:
    """An answer that no server of this service sends ends the restore, and no file appears."""
    with saying(reply(TREE), answer) as peer, hurried(peer.url, retries=0) as client:
        with pytest.raises(UnexpectedAnswer):
            restored(client, hashlib.sha256(TREE).hexdigest(), tmp_path / "new")
    assert all(name.startswith(".") for name in os.listdir(tmp_path / "new"))


def test_an_algorithm_that_the_server_does_not_keep(tmp_path: Path) -> None:
    """Files of a tree by another algorithm cannot be found, and are not asked for."""
    text = TREE.replace(b"sha256digest=" + A.encode(), b"sha512digest=" + b"0" * 128)
    with saying(reply(text)) as peer, hurried(peer.url) as client:
        outcome = restored(client, hashlib.sha256(text).hexdigest(), tmp_path / "new")
        assert isinstance(outcome["a"].error, BlobNotFound)
        assert not peer.seen("POST")


@pytest.fixture(name="wide", scope="module")
def fixture_wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with hashes that are too long for a header of tar."""
    with gunicorn(tmp_path_factory.mktemp("wide"), WSGI_STORE_HASH="sha512") as server:
        yield server


def test_long_hashes(wide: Server, tmp_path: Path) -> None:
    """Hashes of 128 digits come in archives as well."""
    with Client(f"http://127.0.0.1:{wide.port}") as client:
        hash_ = client.put(b"a").hash
        text = TREE.replace(b"sha256digest=" + A.encode(), b"sha512digest=" + hash_.encode())
        assert not failures(restored(client, client.put(text).hash, tmp_path / "new"))
    assert (tmp_path / "new/a").read_bytes() == b"a"
