"""The client asks which of many blobs a server lacks."""

import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.access import line
from tests.support.peers import hurried, reply, saying
from tests.support.servers import PROJECT, Server, gunicorn
from wsgi_store.client import Client
from wsgi_store.errors import BadRequest, Denied, MalformedHash, UnexpectedAnswer, Unsupported


def hash_of(number: int) -> str:
    """A hash of something."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_what_is_missing(client: Client) -> None:
    """Hashes come back in their order, in lower case, each once; a blob of another size is missing."""
    for number in (1, 22, 333):
        client.put(str(number).encode())
    asked = [hash_of(number) for number in (4, 1, 5, 22, 5, 333, 4)]
    assert list(client.missing(asked)) == [hash_of(4), hash_of(5)]
    assert list(client.missing(hash_.upper() for hash_ in asked)) == [hash_of(4), hash_of(5)]
    sizes = [(hash_of(1), 1), (hash_of(22), 1), (hash_of(333), 3), (hash_of(7), 0)]
    assert list(client.missing(sizes)) == [hash_of(22), hash_of(7)]
    assert not list(client.missing([]))
    assert not list(client.missing([hash_of(1)]))


def test_pages(client: Client, server: Server) -> None:
    """Any number of hashes is asked for in pages of 10,000, as they are needed."""
    client.put(b"19999")
    before = len(server.logged("POST /missing"))
    taken = itertools.count()
    missing = client.missing(hash_of(next(taken)) for _ in range(25_000))
    assert next(missing) == hash_of(0)
    assert next(taken) == 10_000
    rest = list(missing)
    # The number 10,000 was taken by the test.
    assert len(rest) == 25_000 - 1 - 1 and hash_of(19_999) not in rest
    assert len(server.await_log("POST /missing", before + 3)) == before + 3


def test_what_is_no_hash(client: Client) -> None:
    """A malformed hash is refused before anything is sent, one of another algorithm by the server."""
    for hash_ in ("", "x" * 64, "0" * 63):
        with pytest.raises(MalformedHash):
            list(client.missing([hash_of(1), hash_]))
    with pytest.raises(BadRequest):
        list(client.missing(["0" * 32]))
    with pytest.raises(BadRequest, match="size"):
        list(client.missing([hash_of(1)], renew=True))


def test_renewed(client: Client, server: Server) -> None:
    """With `renew` a blob counts as uploaded now."""
    blob = client.put(b"1")
    path = server.root / blob.hash[:2] / blob.hash
    before = path.stat().st_mtime - 1000
    os.utime(path, (before, before))
    assert not list(client.missing([(blob.hash, 1)]))
    assert path.stat().st_mtime == before
    assert list(client.missing([(blob.hash, 1), (hash_of(2), 1)], renew=True)) == [hash_of(2)]
    assert abs(path.stat().st_mtime - time.time()) < 100


@pytest.fixture(name="tokens")
def fixture_tokens(tmp_path: Path) -> Iterator[Server]:
    """A service with tokens."""
    (tmp_path / "tokens").write_text(line("writer", "write") + line("reader", "read"), encoding="ascii")
    with gunicorn(tmp_path, WSGI_STORE_TOKENS=str(tmp_path / "tokens")) as server:
        yield server


def test_rights(tokens: Server) -> None:
    """To ask takes the scope `read`, to renew also `write`."""
    url = f"http://127.0.0.1:{tokens.port}"
    with Client(url, "reader") as client:
        assert list(client.missing([(hash_of(1), 1)])) == [hash_of(1)]
        with pytest.raises(Denied) as caught:
            list(client.missing([(hash_of(1), 1)], renew=True))
        assert caught.value.evidence["scope"] == "write"
    with Client(url, "writer") as client, pytest.raises(Denied):
        list(client.missing([hash_of(1)]))


def test_a_server_that_is_too_old(tmp_path: Path) -> None:
    """It is told in one sentence."""
    arguments = ("--pythonpath", str(PROJECT), "tests.support.older:application")
    with gunicorn(tmp_path, *arguments) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        with pytest.raises(Unsupported, match="does not tell which blobs are missing"):
            list(client.missing([hash_of(1)]))


@pytest.mark.parametrize("told", [b"{}", b'{"missing": 5}', b'{"missing": ["%s"]}' % (b"0" * 64), b"[]"])
def test_answers_that_make_no_sense(told: bytes) -> None:
    """They are not believed, nor hashes that were not asked for."""
    with saying(reply(told)) as peer, hurried(peer.url) as client:
        with pytest.raises(UnexpectedAnswer):
            list(client.missing([hash_of(1)]))
