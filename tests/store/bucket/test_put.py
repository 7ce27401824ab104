"""PUT through the service, whose requests to the object store are counted."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.calling import Body, Untouched, call
from tests.support.engines import Between
from tests.support.kinds import BucketKind
from tests.support.servers import until
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.web.application import Application

LARGE = bytes(range(256)) * (18 << 12)
SMALL = b"s" * 1000


@pytest.fixture(name="application")
def fixture_application(tmp_path: Path, proxy: Between) -> Application:
    """A service on a bucket that has tried its engine and looked into its quarantine."""
    config = Config(root=BucketKind().url(tmp_path), s3_staging=str(tmp_path), min_free=0)
    application = create_app(replace(config, s3_endpoint=proxy.url))
    application.store.check()
    application.store.seen = 60.0  # type: ignore[attr-defined]  # of a bucket
    call(application, "POST", body=b"the first one looks")
    proxy.seen.clear()
    return application


def path(data: bytes) -> str:
    """The URL of data."""
    return f"/{hashlib.sha256(data).hexdigest()}"


def test_parts_go_up_while_they_are_received(application: Application, proxy: Between) -> None:
    """The hash in the URL is known early, so parts of a large file do not wait for its end."""

    class Slow(Body):
        """A body whose last megabyte comes after the first part went up."""

        def read(self, size: int | None = -1, /) -> bytes:
            if len(LARGE) - self.tell() <= 1 << 20:
                until(lambda: proxy.count("partNumber=1", "PUT") > 0, "the first part")
            return super().read(size)

    answer = call(application, "PUT", path(LARGE), body=Slow(LARGE), CONTENT_LENGTH=str(len(LARGE)))
    assert answer.status == 201
    assert call(application, "HEAD", path(LARGE)).headers["Content-Length"] == str(len(LARGE))


def test_what_is_refused_leaves_nothing(application: Application, proxy: Between) -> None:
    """Parts that went up are aborted if the bytes have another hash or a condition does not hold."""
    other = LARGE[::-1]
    length = {"CONTENT_LENGTH": str(len(LARGE))}
    assert call(application, "PUT", path(other), body=LARGE, **length).status == 422
    answer = call(application, "PUT", path(other), body=Untouched(), HTTP_IF_MATCH="*", **length)
    assert answer.status == 412
    assert proxy.count("uploadId=", "DELETE") == proxy.count("uploads", "POST") > 0
    assert call(application, path=path(other)).status == 404


def test_requests_of_conditions(application: Application, proxy: Between) -> None:
    """Conditions cost two looks at an absent blob, and one at a blob that is there."""

    def requests(**fields: str) -> int:
        proxy.seen.clear()
        call(application, "PUT", path(SMALL), body=SMALL, CONTENT_LENGTH="1000", **fields)
        return len(proxy.seen)

    assert requests(HTTP_IF_NONE_MATCH="*") == 2 + 2 * 2
    assert requests(HTTP_IF_NONE_MATCH="*") == 1
    assert requests() == 3
