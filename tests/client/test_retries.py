"""The client retries temporary failures only."""

import hashlib
import signal
import time
from pathlib import Path

import pytest

from tests.support.exchanges import DATA, SIZE
from tests.support.peers import hurried, reply, saying
from tests.support.servers import gunicorn
from wsgi_store.client.retries import LONGEST_PAUSE, Retries
from wsgi_store.errors import (
    Denied,
    NotFound,
    StorageFull,
    StoreUnavailable,
    TooLarge,
    UnexpectedAnswer,
    Unreachable,
    WSGIStoreError,
)

PROBLEM = {"Content_Type": "application/problem+json", "Connection": "close"}
UNAVAILABLE = b'{"code": "store_unavailable", "detail": "no disk", "path": "x"}'


def test_pauses_double_up_to_a_limit() -> None:
    """Each pause is between half of a maximum and that maximum, which doubles up to a limit."""
    pauses = list(Retries(10, 0.5).pauses())
    assert len(pauses) == 10
    for number, pause in enumerate(pauses):
        longest = min(0.5 * 2**number, LONGEST_PAUSE)
        assert longest / 2 <= pause <= longest


def test_a_client_that_was_closed(caplog: pytest.LogCaptureFixture) -> None:
    """A closed client fails at once, without a pause."""
    with saying(b"") as peer:
        client = hurried(peer.url)
        client.close()
        with pytest.raises(Unreachable, match="closed"):
            list(client.list())
        assert not caplog.records and not peer.heads


def test_a_server_that_is_restarted(tmp_path: Path) -> None:
    """After a server is killed and restarted, its downloads resume and uploads work."""
    with gunicorn(tmp_path, workers=1) as first:
        address = f"127.0.0.1:{first.port}"
        with hurried(f"http://{address}", retries=12) as client:
            client.put(DATA * 4)
            hash_ = hashlib.sha256(DATA * 4).hexdigest()
            restarted = []

            def restart(done: int) -> None:
                if done > SIZE and not restarted:
                    first.kill()
                    restarted.append(gunicorn(tmp_path, "--bind", address, workers=1))

            with open(tmp_path / "file", "wb") as file, client.open(hash_, progress=restart) as download:
                for data in download.pieces():
                    file.write(data)
            assert (tmp_path / "file").read_bytes() == DATA * 4
            with restarted[0] as second:
                assert client.put(b"x").created
                # The server stays down during the request.
                second.process.send_signal(signal.SIGTERM)
                second.process.wait(20)
                with (
                    pytest.raises(Unreachable, match="Connection refused"),
                    hurried(f"http://{address}", retries=1) as c,
                ):
                    c.put(b"y")
        first.process = restarted[0].process


def test_unavailable_for_a_while() -> None:
    """After 503 the client waits for at least Retry-After before it retries."""
    busy = reply(UNAVAILABLE, "503 Service Unavailable", Retry_After="1", **PROBLEM)
    with saying(busy, reply(b"", "502 Bad Gateway"), reply(b'{"files": [], "next": null}')) as peer:
        begin = time.monotonic()
        with hurried(peer.url) as client:
            assert not list(client.list())
        assert 1 <= time.monotonic() - begin < 10
        assert len(peer.seen("GET")) == 3


def test_unavailable_for_long() -> None:
    """If Retry-After is too long, the client fails at once."""
    busy = reply(UNAVAILABLE, "503 Service Unavailable", Retry_After="3600", **PROBLEM)
    with saying(busy) as peer, hurried(peer.url) as client:
        with pytest.raises(StoreUnavailable, match="^no disk$") as caught:
            list(client.list())
        assert caught.value.evidence == {"path": "x", "retry_after": 3600}
        assert len(peer.seen("GET")) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad", WSGIStoreError),
        ("403 Forbidden", Denied),
        ("404 Not Found", NotFound),
        ("413 Too Large", TooLarge),
        ("429 Too Many Requests", WSGIStoreError),
        ("500 Oops", WSGIStoreError),
        ("507 Full", StorageFull),
        ("302 Found", UnexpectedAnswer),
    ],
)
def test_other_refusals_are_final(status: str, kind: type[WSGIStoreError]) -> None:
    """Other errors are not retried; only downloads follow redirections."""
    with saying(reply(b"<html>", status, Retry_After="0", Location="http://127.0.0.1:1/?signed")) as peer:
        with (
            hurried(peer.url, retries=0 if kind is Unreachable else 4) as client,
            pytest.raises(kind) as caught,
        ):
            list(client.list())
        assert peer.url in str(caught.value) and status[:3] in str(caught.value)
        assert "signed" not in str(caught.value)
        assert len(peer.seen("GET")) == 1
