"""The client with servers that keep several names of a blob, or are migrated while it lives."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.client.test_transport import Unseekable
from tests.support.exchanges import DATA, SIZE
from tests.support.peers import cutting, hurried
from tests.support.servers import Server, gunicorn
from wsgi_store.client import Client, RemoteBlob, Uploaded
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound, DigestCollision, DigestMismatch
from wsgi_store.hashing import Hasher
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import COLLIDING

MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256
NAMES = {one: hashlib.new(one, DATA).hexdigest() for one in ("sha256", "md5", "sha1")}
HASH = NAMES["md5"]
PRIMARY = NAMES["sha256"]


@pytest.fixture(scope="module", name="named")
def fixture_named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose store names its blobs by sha256, and also by md5 and sha1."""
    directory = tmp_path_factory.mktemp("named")
    LocalStore(str(directory / "store"), SHA256, names=[MD5, SHA1])
    with gunicorn(directory, WSGI_STORE_HASH="sha256") as server:
        yield server
        assert not server.staged()


@pytest.fixture(name="client")
def fixture_client(named: Server) -> Iterator[Client]:
    """A client of that service, which is empty."""
    with hurried(f"http://127.0.0.1:{named.port}") as client:
        yield client
        for blob in client.list():
            client.delete(blob.hash)


@pytest.fixture(name="old")
def fixture_old(tmp_path: Path) -> Iterator[Server]:
    """A service with md5, as version 0.1.0 made it."""
    LocalStore(str(tmp_path / "store"), MD5)
    with gunicorn(tmp_path, WSGI_STORE_HASH="md5") as server:
        yield server
        assert not server.staged()


def migrate(server: Server, *, end: bool = False) -> LocalStore:
    """Begin to migrate a store to sha256, or end that, as the command does."""
    store = LocalStore(str(server.root), None)
    migrating = None if end else MD5
    store.change_marker(lambda marker: Marker(SHA256, (MD5,), migrating, time.time(), marker.made or 1.0))
    return store


def adopt(store: LocalStore) -> None:
    """Give every blob its primary name."""
    for blob in list(store.strays(MD5)):
        hashers = {algorithm: Hasher(algorithm) for algorithm in store.algorithms}
        with closing(store.open(blob.digest)) as reader:
            while data := reader.read(1 << 20):
                for hasher in hashers.values():
                    hasher.update(data)
            digests = {algorithm: hasher.finish() for algorithm, hasher in hashers.items()}
            assert store.adopt([Hashed(blob.digest, reader.stamp, digests)]) == [Adopted.NAMED]


def test_every_name(client: Client, tmp_path: Path) -> None:
    """A blob is uploaded, found, downloaded, resumed and removed by any of its names."""
    assert client.algorithms == (SHA256, MD5, SHA1)
    assert client.put(DATA) == Uploaded(PRIMARY, SIZE, client.url(PRIMARY), NAMES, created=True)
    for algorithm, hash_ in NAMES.items():
        told = client.stat(hash_.upper())
        assert (told.hash, told.size, told.url) == (hash_, SIZE, client.url(hash_))
        assert told.names == {"sha256": PRIMARY, algorithm: hash_}
        assert client.get_bytes(client.url(hash_)) == DATA
        path = tmp_path / hash_
        path.with_suffix(".part").write_bytes(DATA[: SIZE // 2])
        assert client.get(hash_, path).hash == hash_
        assert path.read_bytes() == DATA
        assert client.exists(hash_)
        assert client.delete(hash_)["sha256"] == PRIMARY
        for other in NAMES.values():
            assert not client.exists(other)
            with pytest.raises(BlobNotFound):
                client.delete(other)
        assert client.put(DATA, hash_=hash_) == Uploaded(
            PRIMARY, SIZE, client.url(PRIMARY), NAMES, created=True
        )
    assert not client.put(DATA, hash_=HASH).created


def test_a_listing_by_each_algorithm(client: Client) -> None:
    """A listing goes by the algorithm of the hash after which it begins, by default the primary one."""
    blobs = [client.put(bytes([number])) for number in range(5)]
    assert [blob.hash for blob in client.list(page_size=2)] == sorted(blob.hash for blob in blobs)
    for algorithm, hash_ in NAMES.items():
        listed = list(client.list("0" * len(hash_), page_size=2))
        assert [blob.hash for blob in listed] == sorted(blob.names[algorithm] for blob in blobs)
        assert all(blob.names["sha256"] in [one.hash for one in blobs] for blob in listed)


def test_a_damaged_blob_by_a_further_name(client: Client, named: Server, tmp_path: Path) -> None:
    """A download is compared with the hash that it was asked by."""
    client.put(DATA)
    path = named.root / PRIMARY[:2] / PRIMARY
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"?")
    for algorithm, hash_ in NAMES.items():
        with pytest.raises(DigestMismatch, match=f"the copy of {hash_} on .* is damaged") as caught:
            client.get(hash_, tmp_path / "file")
        assert caught.value.expected == f"{algorithm}:{hash_}"
    assert not os.listdir(tmp_path)


def test_a_collision(client: Client) -> None:
    """A second file with the same md5 is stored, and told apart; asked to have that name, it is refused."""
    first, second = (client.put(data) for data in COLLIDING)
    assert first.ambiguous == () and "md5" in first.names
    assert second.created and second.ambiguous == ("md5",) and set(second.names) == {"sha256", "sha1"}
    hash_ = first.names["md5"]
    assert client.get_bytes(hash_) == COLLIDING[0]
    assert client.get_bytes(second.hash) == COLLIDING[1]
    assert client.stat(hash_).names["sha256"] == first.hash
    client.delete(second.hash)
    for source in (COLLIDING[1], io.BytesIO(COLLIDING[1]), Unseekable(COLLIDING[1])):
        with pytest.raises(DigestCollision):
            client.put(source, hash_=hash_)
    assert not client.exists(second.hash)
    assert client.put(COLLIDING[0], hash_=hash_).created is False


@pytest.mark.parametrize("up", [100, SIZE // 2, SIZE])
def test_a_put_that_is_cut(client: Client, named: Server, up: int) -> None:
    """A PUT whose connection breaks is sent again, even when the first one was stored."""
    with cutting(named.port, (up, 0), (1 << 60, 10)) as proxy, hurried(proxy.url) as other:
        other._kept._known = client.algorithms  # pylint: disable=protected-access
        blob = other.put(DATA, hash_=HASH)
    assert (blob.hash, blob.names) == (PRIMARY, NAMES)
    assert client.get_bytes(HASH) == DATA


def test_a_migration_while_the_client_lives(old: Server, tmp_path: Path) -> None:
    """The client works by old and new names before, during and after a migration."""
    new = hashlib.sha256(b"more").hexdigest()
    with hurried(f"http://127.0.0.1:{old.port}") as client:
        client.put(DATA)
        assert client.algorithms == (MD5,)
        with client.open(HASH) as download:
            begin = download.read(1000)
            store = migrate(old)
            # Hashed by the old algorithm, stored by the new one.
            blob = client.put(Unseekable(b"more"))
            assert (blob.hash, blob.created) == (new, True)
            assert client.algorithms == (SHA256, MD5)
            assert client.get_bytes(HASH) == DATA
            assert not client.exists(PRIMARY)
            assert sorted(one.names["md5"] for one in client.list()) == sorted([HASH, blob.names["md5"]])
            assert client.put(DATA) == Uploaded(
                PRIMARY, SIZE, client.url(PRIMARY), {"sha256": PRIMARY, "md5": HASH}, created=False
            )
            adopt(store)
            migrate(old, end=True)
            assert begin + download.read() == DATA
        assert [one.hash for one in client.list()] == sorted([PRIMARY, new])
        assert client.get_bytes(HASH) == client.get_bytes(PRIMARY) == DATA
        (tmp_path / "file.part").write_bytes(DATA[:1000])
        assert client.get(HASH, tmp_path / "file") == RemoteBlob(HASH, SIZE, client.url(HASH), {"md5": HASH})
        assert client.delete(HASH) == {"sha256": PRIMARY, "md5": HASH}
        assert not client.exists(PRIMARY)


def test_a_hash_by_the_new_algorithm_first(old: Server) -> None:
    """A client that knows only the old algorithm asks again before it refuses a hash by the new one."""
    with hurried(f"http://127.0.0.1:{old.port}") as client:
        client.put(DATA)
        assert not client.exists(PRIMARY)
        adopt(migrate(old))
        assert client.stat(PRIMARY).size == SIZE
    with hurried(f"http://127.0.0.1:{old.port}") as client:
        assert client.put(DATA, hash_=PRIMARY).created is False


def test_a_collision_after_a_migration(old: Server) -> None:
    """A file whose old hash leads to another one is compared by its new hash, which a pipe does not allow."""
    with hurried(f"http://127.0.0.1:{old.port}") as client:
        first = client.put(COLLIDING[0])
        with pytest.raises(DigestCollision):
            client.put(COLLIDING[1])
        assert client.algorithms == (MD5,)
        adopt(migrate(old))
        second = client.put(COLLIDING[1])
        assert second.ambiguous == ("md5",)
        assert second.names == {"sha256": hashlib.sha256(COLLIDING[1]).hexdigest()}
        assert client.get_bytes(first.hash) == COLLIDING[0]
        assert client.get_bytes(second.hash) == COLLIDING[1]


def test_another_server_at_the_same_address(tmp_path: Path) -> None:
    """A server that was replaced by one with another algorithm is noticed, in either direction."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with gunicorn(tmp_path / "a", WSGI_STORE_HASH="md5", workers=1) as server:
        address = f"127.0.0.1:{server.port}"
        with hurried(f"http://{address}", retries=12) as client:
            assert client.put(DATA).hash == HASH
            server.stop()
            with gunicorn(tmp_path / "b", "--bind", address, WSGI_STORE_HASH="sha256", workers=1):
                assert client.put(DATA).hash == PRIMARY
                assert client.get_bytes(PRIMARY) == DATA
                assert not client.exists(HASH)
