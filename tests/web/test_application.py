"""A host application's own views store files and send them, in Flask, Django and FastAPI."""

import hashlib
import http.client
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from a2wsgi import ASGIMiddleware
from webtest import TestApp
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

import wsgi_store
from examples import django_app, fastapi_app, flask_app
from tests.support import servers
from tests.support.calling import call, request, start
from wsgi_store import Config, create_app, errors
from wsgi_store.web.application import Application

# More than is sent from memory.
DATA = os.urandom(300_000)
HASH = hashlib.sha256(DATA).hexdigest()
HOSTS = {
    "flask": flask_app.make_app,
    "django": django_app.make_app,
    "fastapi": lambda root: ASGIMiddleware(fastapi_app.make_app(root)),  # type: ignore[arg-type]
}
# The harness polls /healthz before a test starts: those requests stay out of the host application.
HOSTED = """
from examples.{name}_app import make_app
from werkzeug.middleware.dispatcher import DispatcherMiddleware

def healthy(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]

application = DispatcherMiddleware(make_app("store"), {{"/healthz": healthy}})
"""


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> TestApp:
    """A host application, with every answer checked against PEP 3333."""
    return TestApp(HOSTS[request.param](str(tmp_path)))


@pytest.fixture
def url(host: TestApp) -> str:
    """The host's URL of a document uploaded by form."""
    answer = host.post("/documents", upload_files=[("file", "ä.txt", DATA)], status=201)
    address: str = answer.json["url"]
    return address


def test_a_view_stores_and_sends(host: TestApp, url: str) -> None:
    """A view answers GET, a range, HEAD and a matching If-None-Match."""
    whole = host.get(url)
    assert whole.body == DATA
    assert whole.headers["ETag"] == f'"{HASH}"'
    assert whole.headers["Content-Disposition"] == "inline; filename=\"?.txt\"; filename*=UTF-8''%C3%A4.txt"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    part = host.get(url, headers={"Range": "bytes=100-299998"}, status=206)
    assert part.body == DATA[100:299_999]
    head = host.head(url)
    assert (head.body, head.content_length) == (b"", len(DATA))
    host.get(url, headers={"If-None-Match": f'"{HASH}"'}, status=304)


def test_what_a_view_stored_is_a_blob(host: TestApp, url: str) -> None:
    """Views and the mounted service share one store."""
    assert host.get(f"/blobs/{HASH}").body == DATA
    assert host.post("/blobs/", DATA).json["created"] is False
    host.delete(f"/blobs/{HASH}")
    assert host.get(url, status=404).json["code"] == "blob_not_found"


@pytest.mark.parametrize("data", [b"", b"short", DATA[::-1]], ids=len)
def test_a_url_may_lead_to_another_blob(
    host: TestApp, url: str, data: bytes, request: pytest.FixtureRequest
) -> None:
    """Answers of a view must be revalidated, because its URL may show another blob later."""
    for headers in ({}, {"Range": "bytes=0-0"}, {"If-None-Match": f'"{HASH}"'}):
        answer = host.get(url, headers=headers)
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert "Last-Modified" not in answer.headers
    # FastAPI gives a synchronous route no raw body.
    as_form = {"upload_files": [("file", "a", data)]} if "fastapi" in request.node.name else {"params": data}
    assert host.put(url, **as_form).json["created"]
    answer = host.get(url, headers={"If-None-Match": f'"{HASH}"'})
    assert answer.body == data
    assert host.get(url, headers={"If-None-Match": answer.headers["ETag"]}, status=304)


def test_what_a_view_is_refused(host: TestApp, url: str) -> None:
    """A store error raised in a view becomes the store's own answer, and the old document stays."""
    answer = host.post("/documents", upload_files=[("file", "a", bytes((10 << 20) + 1))], status=413)
    assert (answer.json["code"], answer.json["limit"]) == ("too_large", 10 << 20)
    assert answer.content_type == "application/problem+json"
    answer = host.get(url, headers={"Range": "bytes=300000-"}, status=416)
    assert answer.headers["Content-Range"] == "bytes */300000"
    host.get(url, headers={"If-Match": '"0"'}, status=412)
    assert host.get(url).body == DATA


@pytest.mark.parametrize("name", ["flask", "django"])
def test_under_gunicorn(tmp_path: Path, name: str) -> None:
    """gunicorn sends a view's blob with sendfile and counts the bytes."""
    (tmp_path / "hosted.py").write_text(HOSTED.format(name=name))
    with servers.gunicorn(tmp_path, "hosted", PYTHONPATH=str(servers.PROJECT), workers=1) as server:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client:
            # Django finds a boundary anywhere in a line, a short one also in random bytes.
            boundary, form = encode_multipart({"file": FileStorage(BytesIO(DATA), "a")})
            kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            client.request("POST", "/documents", form, kind)
            url = json.load(client.getresponse())["url"]
            for fields, body in (({}, DATA), ({"Range": "bytes=1-"}, DATA[1:])):
                client.request("GET", url, headers=fields)
                answer = client.getresponse()
                assert answer.read() == body
                assert answer.headers["Content-Length"] == str(len(body))
            # One byte too many would corrupt the next answer on this connection.
            client.request("GET", "/")
            assert client.getresponse().read() == b"the host application\n"


@pytest.mark.parametrize(
    "source",
    [
        DATA,
        bytearray(DATA),
        memoryview(DATA),
        memoryview(DATA).cast("I"),
        [DATA[:7], DATA[7:]],
        iter([DATA[:7], b"", memoryview(DATA)[7:]]),
        BytesIO(DATA),
    ],
    ids=lambda source: type(source).__name__,
)
def test_sources(application: Application, source: Any) -> None:
    """The store takes bytes, iterables of chunks, and files."""
    receipt = application.receive(source, length=len(DATA), hash_=HASH.upper())
    assert (receipt.digest.hex, receipt.size, receipt.created, receipt.healed) == (HASH, 300_000, True, False)
    assert not application.receive(DATA).created
    answer = call(application.send(request(), HASH))
    assert answer.body == DATA


def test_a_file_is_stored_from_where_it_stands(application: Application, tmp_path: Path) -> None:
    """A file is stored from its current position."""
    (tmp_path / "file").write_bytes(b"head" + DATA)
    with (tmp_path / "file").open("rb") as file:
        file.seek(4)
        assert application.receive(file).digest.hex == HASH


class Broken(Exception):
    """The error of a host's stream."""


def broken() -> Iterator[bytes]:
    """Chunks that stop with an error."""
    yield DATA
    raise Broken


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"source": DATA, "hash_": "0" * 64}, errors.DigestMismatch),
        ({"source": DATA, "hash_": "0" * 32}, errors.BadRequest),
        ({"source": DATA, "hash_": "../store"}, errors.BadRequest),
        ({"source": DATA, "length": 299_999}, errors.IncompleteBody),
        ({"source": DATA, "length": 300_001}, errors.IncompleteBody),
        ({"source": DATA, "max_size": 299_999}, errors.TooLarge),
        ({"source": "text"}, TypeError),
        ({"source": broken()}, Broken),
    ],
)
def test_what_is_not_stored(application: Application, arguments: dict[str, Any], error: type) -> None:
    """A failed upload raises its own error and stores nothing."""
    with pytest.raises(error):
        application.receive(**arguments)
    assert not list(application.store.iterate())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_only_reading_is_answered(application: Application, method: str) -> None:
    """A blob is sent only in answer to GET and HEAD."""
    application.receive(DATA)
    with pytest.raises(errors.MethodNotAllowed):
        application.send(request(method), HASH)


# Fixed ids: HASH differs in each pytest-xdist worker, and all must collect the same tests.
@pytest.mark.parametrize(
    "hash_",
    ["0" * 64, "x", "", "../../etc/passwd", HASH + "/a"],
    ids=["absent", "short", "empty", "path", "below a blob"],
)
def test_what_is_no_blob(application: Application, hash_: str) -> None:
    """A malformed hash counts as an absent blob."""
    with pytest.raises(errors.BlobNotFound):
        application.send(request(), hash_)


def test_a_problem_can_be_found_in_the_log(application: Application) -> None:
    """A problem carries the request id that the client sent."""
    answer = call(application.problem(request(HTTP_X_REQUEST_ID="abc"), errors.TooLarge(limit=5)))
    assert (answer.status, answer.headers["X-Request-ID"]) == (413, "abc")
    assert answer.json["limit"] == 5


def test_a_host_may_iterate_over_the_body(application: Application) -> None:
    """A host that iterates over the body gets the bytes, whatever file wrapper the server has."""
    application.receive(DATA)
    # uWSGI's wrapper returns the file it is given.
    environ = request(**{"wsgi.file_wrapper": lambda file, size: file})
    _, _, body = start(application.send(environ, HASH), environ)
    with closing(body):
        assert b"".join(body) == DATA


def test_a_replica_stores_nothing(config: Config) -> None:
    """A view of a read-only service gets ReadOnly."""
    create_app(config)
    replica = create_app(Config(root=config.root, min_free=0, read_only=True))
    with pytest.raises(errors.ReadOnly):
        replica.receive(DATA)


def test_public_names() -> None:
    """Every public name is listed and loads on first use."""
    assert set(wsgi_store.__all__) <= set(dir(wsgi_store))
    for name in wsgi_store.__all__:
        assert getattr(wsgi_store, name) is not None
    assert wsgi_store.errors is sys.modules["wsgi_store.errors"]
    with pytest.raises(AttributeError, match="'wsgi_store' has no attribute 'nothing'"):
        _ = wsgi_store.nothing  # type: ignore[attr-defined]
