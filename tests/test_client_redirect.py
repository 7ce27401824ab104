"""The client where a server sends downloads elsewhere."""

from pathlib import Path

import pytest
from exchanges import DATA, HASH, SIZE
from peers import reply, saying

from wsgi_store.client import Client, transport

HALF = SIZE // 2


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses long enough to be seen."""
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.02)


def test_a_download_that_is_sent_elsewhere(tmp_path: Path) -> None:
    """It comes from where the server says, who is not told who asks, and is checked as ever."""
    with saying(reply(DATA)) as elsewhere:
        there = reply(b"", "307 Temporary Redirect", Location=f"{elsewhere.url}/a/b?signed=1")
        with saying(there) as peer, Client(peer.url, "token") as client:
            client.get(HASH, tmp_path / "file")
        (head,) = elsewhere.heads
        assert head.startswith("GET /a/b?signed=1 HTTP/1.1\r\n")
        assert f"\r\nHost: 127.0.0.1:{elsewhere.port}\r\n" in head
        assert "authorization" not in head.lower()
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    "location",
    ["{}/x?signed=1", "http://127.0.0.1:1/x?signed=1", "ftp://127.0.0.1/x", "/x?signed=1", "http://[", ""],
)
def test_a_download_that_is_sent_astray(location: str) -> None:
    """Where the file does not come from elsewhere the server is asked for it once more."""
    with saying(reply(b"expired", "403 Forbidden")) as elsewhere:
        there = reply(b"", "307 Temporary Redirect", Location=location.format(elsewhere.url))
        with saying(there, reply(DATA)) as peer, Client(peer.url, "token", retries=0) as client:
            with client.open(HASH) as download:
                assert download.read() == DATA
            first, second = peer.seen("GET")
            assert "If-Match" not in first
            assert f'If-Match: "{HASH}"' in second and "Bearer token" in second


def test_a_download_that_is_sent_from_tls_to_none() -> None:
    """Who asked by TLS is not sent where others can read along."""
    with saying(reply(DATA)) as elsewhere, Client("https://127.0.0.1:1") as client:
        assert client._transport.follow(f"{elsewhere.url}/x") is None  # pylint: disable=protected-access
        assert not elsewhere.heads


def test_a_download_that_is_sent_elsewhere_and_cut(tmp_path: Path) -> None:
    """What breaks off elsewhere is carried on by the server."""
    rest = reply(DATA[HALF:], "206 Partial Content", Content_Range=f"bytes {HALF}-{SIZE - 1}/{SIZE}")
    with saying(reply(DATA)[: -(SIZE - HALF)]) as elsewhere:
        there = reply(b"", "307 Temporary Redirect", Location=f"{elsewhere.url}/x")
        with saying(there, rest) as peer, Client(peer.url) as client:
            client.get(HASH, tmp_path / "file")
            assert f"Range: bytes={HALF}-" in peer.seen("GET")[1]
    assert (tmp_path / "file").read_bytes() == DATA
