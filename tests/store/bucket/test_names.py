"""How further names are kept in a bucket, and how blobs move to other keys."""

import resource

import obstore
import pytest

from tests.support.buckets import unfinished
from tests.support.engines import Answer, Between, Request
from tests.support.kinds import content, digest_of, put
from tests.support.stops import MD5, MIGRATING, SHA1, SHA256, Server, primary
from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, StoreError, StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Adopted
from wsgi_store.store.bucket import copying
from wsgi_store.store.contract import Added
from wsgi_store.store.marker import Marker

DATA = b"some bytes"
NAME = digest_of(MD5, DATA)
COPIED = b"<CopyObjectResult><ETag>0</ETag></CopyObjectResult>"
LARGE = bytes(range(256)) * (12 << 12)


@pytest.fixture(name="server")
def fixture_server(others: Server) -> Server:
    """A store with further names, asked without a proxy."""
    return others


def key(digest: Digest) -> str:
    """The key of a blob."""
    return f"{digest.hex[:2]}/{digest.hex}"


def test_where_names_lie(server: Server) -> None:
    """A name is a small object below `.names`, which no other program takes for a blob."""
    put(Staging(server), DATA)
    names = {name: f".names/{name.algorithm.value}/{name.hex}" for name in (NAME, digest_of(SHA1, DATA))}
    assert server.keys() == {"store.json", key(primary(DATA)), *names.values()}
    client = server.client
    for place in names.values():
        assert obstore.get(client, place).bytes() == f"{primary(DATA)}\n".encode()
    told = obstore.get(client, key(primary(DATA))).attributes["names"]
    assert told == " ".join(map(str, names))


def test_a_name_that_leads_to_a_different_file(server: Server) -> None:
    """The metadata of a blob tell that a name is not its own: it is absent until an upload mends it."""
    put(Staging(server), DATA)
    other = put(Staging(server), b"another").digest
    obstore.put(server.client, f".names/md5/{NAME.hex}", f"{other}\n".encode())
    with pytest.raises(BlobNotFound):
        server.stat(NAME)
    assert not put(Staging(server), DATA).ambiguous
    assert content(server, NAME) == DATA


def test_a_name_that_is_no_name(server: Server) -> None:
    """What another program writes under a name leads nowhere, and is replaced by an upload or swept."""
    for text in (b"", b"\xff" * 100, b"sha256:1234", f"{NAME}\n".encode()):
        obstore.put(server.client, f".names/md5/{NAME.hex}", text)
        with pytest.raises(BlobNotFound):
            server.open(NAME)
        assert put(Staging(server), DATA).added is Added.CREATED
        assert content(server, NAME) == DATA
        server.remove(NAME)
    obstore.put(server.client, f".names/md5/{NAME.hex}", b"?")
    assert NAME.hex in server.sweep()
    assert server.keys() == {"store.json"}


def test_when_the_store_was_made(server: Server) -> None:
    """Changes of the marker keep the time, also the change back to a marker that has no room for it."""
    server.make(Marker(SHA256))
    made = server.made()
    for marker in (Marker(SHA256, (MD5,), made=made), Marker(SHA256)):
        assert server.change_marker(lambda _, marker=marker: marker) == marker  # type: ignore[misc]
        assert server.made() == made
    assert obstore.get(server.client, "store.json").bytes() == Marker(SHA256).text()


@pytest.mark.parametrize("way", ["copied", "copied in parts", "sent"])
@pytest.mark.parametrize("data", [b"", DATA, LARGE], ids=["empty", "small", "large"])
def test_moving_a_blob(server: Server, monkeypatch: pytest.MonkeyPatch, way: str, data: bytes) -> None:
    """The engine copies it, large ones in parts; where copies keep the old metadata it is sent up again."""
    server.make(MIGRATING)
    server.put_stray(MD5, data)
    if way == "copied in parts":
        monkeypatch.setattr(copying, "WHOLE_MAX", 5 << 20)
        monkeypatch.setattr(copying, "PART", 5 << 20)
    if way == "sent":
        server.copies_metadata(monkeypatch)
    assert server.adopt_all() == [Adopted.NAMED]
    assert [content(server, digest_of(one, data)) for one in server.algorithms] == [data] * 3
    there = obstore.get(server.client, key(primary(data)))
    assert there.attributes["names"].split() == [str(digest_of(one, data)) for one in (MD5, SHA1)]
    assert key(digest_of(MD5, data)) not in server.keys()


def test_an_engine_that_did_not_copy(server: Server, proxy: Between) -> None:
    """The old key stays if there is no copy, whatever the engine says."""
    server.make(MIGRATING)
    server.put_stray(MD5, DATA)
    through = Server(server.root, proxy.url)
    through.refresh()

    def answer(request: Request) -> Answer:
        return (200, COPIED) if "x-amz-copy-source" in request.fields else None

    proxy.answer = answer
    with pytest.raises(StoreUnavailable, match="did not copy"):
        through.adopt_all()
    assert content(server, NAME) == DATA


def test_a_disk_that_cuts_a_write(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob whose last bytes cannot be staged for its move stays under its old name."""
    data = LARGE[: 1 << 20]
    server.make(MIGRATING)
    server.put_stray(MD5, data)
    server.copies_metadata(monkeypatch)
    # write(2) writes as much as fits, and only the next one fails.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(data) - 10, hard))
    try:
        with pytest.raises(StoreError, match="cannot stage the blob"):
            server.adopt_all()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {one for one in server.keys() if one[0] != "."} == {"store.json", key(digest_of(MD5, data))}
    assert server.adopt_all() == [Adopted.NAMED]
    assert content(server, digest_of(MD5, data)) == content(server, primary(data)) == data


@pytest.mark.parametrize("announced", [False, True])
def test_an_upload_in_parts_of_what_awaits_a_migration(server: Server, announced: bool) -> None:
    """It takes the place of the blob under its old name, even if parts were sent before it was known."""
    data = LARGE * 2
    server.make(MIGRATING)
    server.put_stray(MD5, data)
    expected = [primary(data)] if announced else []
    receipt = Staging(server).receive([data, b""], length=len(data), expected=expected)
    assert (receipt.added, receipt.ambiguous) == (Added.HELD, ())
    assert [content(server, name) == data for name in receipt.names] == [True] * 3
    told = obstore.get(server.client, key(primary(data))).attributes["names"]
    assert told.split() == [str(name) for name in receipt.names[1:]]
    assert key(digest_of(MD5, data)) not in server.keys()
    assert not unfinished(server.root)


def test_urls_of_names(server: Server) -> None:
    """A URL leads to the primary key; a blob that may move to another key has none."""
    assert server.url(NAME, 60, "a/b", "") is None
    server.make(MIGRATING)
    server.put_stray(MD5, DATA)
    assert server.url(NAME, 60, "a/b", "") is None
    assert server.adopt_all() == [Adopted.NAMED]
    assert f"/{key(primary(DATA))}?" in str(server.url(NAME, 60, "a/b", ""))
