"""Calls to a WSGI application, with requests that other test tools refuse to send."""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.store.contract import Durability
from wsgi_store.web.application import Application
from wsgi_store.web.backend import Backend
from wsgi_store.web.routes import UPLOADS, URLS, aim
from wsgi_store.web.routing import Routes

# RFC 9110 section 5.5; no field of this service needs any of them.
CONTROL = re.compile("[\x00-\x1f\x7f]")


class Answer(NamedTuple):
    """The response of an application."""

    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)


class Body(io.BytesIO):
    """A request body that arrives in pieces of the given sizes, and then as large as requested."""

    def __init__(self, data: bytes, sizes: Iterable[int] = ()) -> None:
        super().__init__(data)
        self._sizes = iter(sizes)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next piece, b"" at the end."""
        assert size is not None and size > 0
        return super().read(min(size, next(self._sizes, size)))


class Untouched(io.BytesIO):
    """A request body that must not be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Fail."""
        raise AssertionError("the body was read")


@cache
def quick(config: Config) -> Application:
    """A service that syncs nothing, shared by all examples of a property."""
    return create_app(replace(config, durability=Durability.NONE))


def application_of(backend: Backend, **given: Any) -> Application:
    """An application with the URLs of this API alone, and with these arguments."""
    return Application(backend, Routes(URLS, [UPLOADS], aim), **given)


def held(application: Application) -> list[str]:
    """The hashes in a service's store."""
    return [blob.digest.hex for blob in application.store.iterate()]


def request(
    method: str = "GET", path: str = "/", query: str = "", body: bytes | io.BytesIO = b"", **extra: Any
) -> dict[str, Any]:
    """An environ (PEP 3333) with text decoded to latin-1; `extra` overrides entries, None removes them."""
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "store.example",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body) if isinstance(body, bytes) else body,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if isinstance(body, bytes) and (body or method == "POST"):
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in extra.items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value
    return environ


def start(application: Callable[..., Any], environ: dict[str, Any]) -> tuple[int, Headers, Any]:
    """Start a response; returns its status, its header and its body, which the caller closes."""
    started: list[tuple[int, Headers]] = []

    def start_response(status: str, fields: list[tuple[str, str]], _: object = None) -> Callable[..., None]:
        assert not started
        for name, value in fields:
            value.encode("latin-1")
            assert not CONTROL.search(name + value), (name, value)
        started.append((int(status[:3]), Headers(fields)))
        return lambda data: None

    result = application(environ, start_response)
    assert len(started) == 1
    return *started[0], result


def call(application: Callable[..., Any], *args: Any, **kwargs: Any) -> Answer:
    """Send `request(...)` and read the whole response."""
    environ = request(*args, **kwargs)
    status, headers, result = start(application, environ)
    try:
        body = b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    if environ["REQUEST_METHOD"] == "HEAD" or status in (204, 304):
        assert not body
    elif headers.get("Content-Type") != "application/x-tar":  # whose length is unknown when it begins
        assert headers["Content-Length"] == str(len(body))
    return Answer(status, headers, body)


def pages(application: Application, query: str) -> Iterator[list[str]]:
    """The hashes of each page of /files, following `next` to the end."""
    following: str | None = f"/files?{query}"
    while following is not None:
        parts = urlsplit(following)
        answer = call(application, path=parts.path, query=parts.query).json
        yield [file["hash"] for file in answer["files"]]
        following = answer["next"]
