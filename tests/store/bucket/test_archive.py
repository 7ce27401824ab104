"""Archives of blobs in a bucket: requested ahead, and broken off if one cannot be read."""

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.calling import request, start
from tests.support.engines import Between
from tests.support.kinds import BucketKind
from tests.support.servers import until
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.web.application import Application
from wsgi_store.web.archive import AHEAD

END = bytes(1024)


@pytest.fixture(name="application")
def fixture_application(tmp_path: Path, proxy: Between) -> Application:
    """A service on a bucket behind a proxy."""
    config = Config(
        root=BucketKind().url(tmp_path),
        min_free=0,
        hash=Algorithm.SHA256,
        s3_staging=str(tmp_path),
        s3_endpoint=proxy.url,
        s3_timeout=2.0,
    )
    return create_app(config)


@pytest.fixture(name="hashes")
def fixture_hashes(application: Application) -> list[str]:
    """Blobs of different sizes, some of which take several reads."""
    sizes = [1000, 30_000, 1_000_000] * 20
    return [application.receive(b"%02d" % number * size).digest.hex for number, size in enumerate(sizes)]


@contextmanager
def sent(application: Application, asked: list[str]) -> Iterator[Iterator[bytes]]:
    """The pieces of an archive while it is sent."""
    body = json.dumps(asked).encode()
    environ = request("POST", "/archive", body=body, CONTENT_TYPE="application/json")
    status, _, result = start(application, environ)
    try:
        assert status == 200
        yield iter(result)
    finally:
        result.close()


def test_requests(application: Application, hashes: list[str], proxy: Between) -> None:
    """Each blob takes one request, no more than sixteen ahead; absent ones are left out."""
    proxy.seen.clear()
    with sent(application, [*hashes, "0" * 64]) as pieces:
        data = [next(pieces)]
        assert len(proxy.seen) <= AHEAD + 12
        data += pieces
    assert len(proxy.seen) == len(hashes) + 2
    with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as opened:
        assert opened.getnames() == hashes


def test_an_engine_that_fails_meanwhile(application: Application, hashes: list[str], proxy: Between) -> None:
    """The archive breaks off without its end."""
    with sent(application, hashes) as pieces:
        data = [next(pieces)]
        proxy.answer = lambda _: (500, b"")
        with pytest.raises(StoreUnavailable):
            data += pieces
    assert not b"".join(data).endswith(END)


def test_an_engine_that_fails_at_once(application: Application, hashes: list[str], proxy: Between) -> None:
    """The answer is 503 if the first blob cannot be read."""
    proxy.answer = lambda _: (500, b"")
    body = json.dumps(hashes).encode()
    status, _, result = start(
        application, request("POST", "/archive", body=body, CONTENT_TYPE="application/json")
    )
    assert status == 503
    assert b"store_unavailable" in b"".join(result)


def test_a_client_that_leaves(application: Application, hashes: list[str], proxy: Between) -> None:
    """What was requested ahead is dropped, and nothing more is requested."""
    with sent(application, hashes) as pieces:
        next(pieces)
    # Nobody waits for requests that are under way.
    until(lambda: not any("archive" in thread.name for thread in threading.enumerate()), "threads to end")
    before = len(proxy.seen)
    with sent(application, hashes[:1]) as pieces:
        assert b"".join(pieces).endswith(END)
    assert len(proxy.seen) == before + 1
