"""The client with servers that are not this service."""

import pytest

from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import reply, saying
from wsgi_store.client import Client
from wsgi_store.errors import BlobNotFound, UnexpectedAnswer, Unreachable

LONG = f"Content-Length: {'9' * 5000}"
PROBLEM = {"Content_Type": "application/problem+json", "Connection": "close"}


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"<html>"),
        reply(b"[]"),
        reply(b'{"files": [{"hash": 5}]}'),
        reply(b'{"files": ["x"]}'),
        reply(b'{"files": 3}'),
        reply(b'{"files": {"hash": 5}}'),
        reply(b'{"files": [{"hash": "x", "size": 1e999}]}'),
        reply(b"[" * 200_000),
        reply(b"{", "404 Not Found", Content_Type="application/problem+json"),
        reply(b'{"files": []}', length=100),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_what_is_not_understood(answer: bytes) -> None:
    """An answer that this service would never give raises an error."""
    with saying(answer) as peer, Client(peer.url, retries=0) as client:
        with pytest.raises((Unreachable, UnexpectedAnswer)):
            list(client.list())


@pytest.mark.parametrize("files", [b"", b'{"hash": "x", "size": 1}'], ids=["nothing", "the same"])
def test_a_listing_without_an_end(files: bytes) -> None:
    """A listing whose pages make no progress ends with an error."""
    with saying(reply(b'{"files": [%s], "next": "/x"}' % files)) as peer:
        with Client(peer.url) as client, pytest.raises(UnexpectedAnswer):
            for number, _ in enumerate(client.list()):
                assert number < 10
        assert len(peer.seen("GET")) <= 2


def test_an_algorithm_that_is_not_known() -> None:
    """An unknown algorithm is reported before anything is sent."""
    with saying(b"", index=b'{"algorithm": "crc32"}') as peer, Client(peer.url) as client:
        with pytest.raises(UnexpectedAnswer):
            client.put(b"some bytes")
        assert not peer.seen("POST")


@pytest.mark.parametrize(
    "field", ["Transfer-Encoding: chunked", "Content-Length: 3, 3", "Content-Length: 1e3", LONG]
)
def test_a_blob_without_a_size(field: str) -> None:
    """A description without a valid size raises an error."""
    said = f"HTTP/1.1 200 OK\r\n{field}\r\n\r\n".encode()
    with saying(said) as peer, Client(peer.url, retries=0) as client:
        with pytest.raises((Unreachable, UnexpectedAnswer)):
            client.stat(HASH)


def test_a_length_that_is_told_twice() -> None:
    """A repeated Content-Length, joined by a proxy, is a valid length (RFC 9110 section 8.6)."""
    with saying(reply(DATA).replace(b"%d" % SIZE, b"%d, %d" % (SIZE, SIZE), 1)) as peer:
        with Client(peer.url) as client, client.open(HASH) as download:
            assert download.size == SIZE
            assert download.read() == DATA


def test_evidence_is_data() -> None:
    """The fields of an error answer become evidence, and never replace attributes of the exception."""
    told = b'{"code": "blob_not_found", "detail": "none", "args": 1, "message": 2, "hash": 3, '
    told += b'"retry_after": "x"}'
    with saying(reply(told, "404 Not Found", **PROBLEM)) as peer, Client(peer.url) as client:
        with pytest.raises(BlobNotFound, match="^none$") as caught:
            client.delete(HASH)
    assert caught.value.evidence == {"args": 1, "message": 2, "hash": 3}
    assert caught.value.message == "none"
