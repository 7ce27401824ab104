"""Hostile header fields, targets and queries of any length cost little time."""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import wsgi_store
from tests.support.access import ALL, HELLO, KEY, line
from tests.support.calling import call
from wsgi_store.assembly import create_app
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config
from wsgi_store.web.application import Application
from wsgi_store.web.request import FIELDS, MAX_ACCEPT, MAX_FIELD, UPLOAD_FIELDS

PACKAGE = Path(wsgi_store.__file__).parent
# Why the length of these fields costs nothing.
SHORT = {
    "HTTP_ACCEPT_ENCODING": "MAX_ACCEPT characters are looked at",
    "HTTP_ACCEPT_LANGUAGE": "MAX_ACCEPT characters are looked at",
    "HTTP_X_REQUEST_ID": "64 characters are looked at",
    "HTTP_RANGE": "its items are counted first",
    "HTTP_HOST": "512 characters are looked at",
    "HTTP_ORIGIN": "it is matched once",
    "HTTP_CONTENT_RANGE": "only whether there is one",
    "HTTP_COOKIE": "only whether there is one",
    "HTTP_X_REQUESTED_WITH": "only whether there is one",
    "HTTP_SEC_FETCH_SITE": "it is compared",
    "HTTP_X_FORWARDED_FOR": "trusted proxies bound it",
    "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "only whether there is one",
    "HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK": "it is compared",
    "HTTP_TUS_RESUMABLE": "it is compared",
    "HTTP_WANT_DIGEST": "MAX_ACCEPT characters are looked at",
    "HTTP_X_CONTENT_LENGTH": "it is matched once",
    "HTTP_X_CONTENT_TYPE": "it is compared",
    "HTTP_UPLOAD_COMPLETE": "it is matched once",
    "HTTP_UPLOAD_CONCAT": "only whether there is one",
    "HTTP_UPLOAD_DEFER_LENGTH": "it is compared",
    "HTTP_UPLOAD_DRAFT_INTEROP_VERSION": "it is matched once",
    "HTTP_X_HTTP_METHOD_OVERRIDE": "it is compared",
}
UNITS = [
    *'a,;= \t"\\:%&-/',
    "a,",
    "a/b,",
    "*/*;q=0.5,",
    '"a",',
    '"a"',
    'W/"a",',
    "a=b;",
    "a=1,",
    "a;a*0=b;",
    "md5=:,",
    "sha-256=:AAAA:,",
    "-1,",
    "0-0,",
    "9-",
    "((",
    "%41",
    "a=b&",
    "\xff",
    "%ff",
    "Mon, 01 Jan 2024 00:00:00 GMT",
]
# What is repeated in the fields only by `make races`.
REST = [unit for number, unit in enumerate(UNITS) if number % 3]
TUS = {"HTTP_TUS_RESUMABLE": "1.0.0", "HTTP_UPLOAD_DEFER_LENGTH": "1", "CONTENT_LENGTH": "0"}
# Generous: an idle machine needs a tenth of it.
LIMIT = 0.1


def filled(unit: str, size: int) -> str:
    """The unit, repeated up to that size."""
    return (unit * (size // len(unit) + 1))[:size]


@pytest.fixture(name="app", scope="module")
def fixture_app(tmp_path_factory: pytest.TempPathFactory) -> Application:
    """A service that requires tokens for everything but metrics."""
    directory = tmp_path_factory.mktemp("costs")
    (directory / "tokens").write_text(line("all", ALL))
    config = Config(root=str(directory / "store"), min_free=0, metrics=MetricsAccess.PUBLIC)
    settings: dict[str, Any] = {"tokens": str(directory / "tokens"), "signing_keys": (KEY,)}
    app = create_app(replace(config, **settings))
    call(app, "POST", body=b"hello", HTTP_AUTHORIZATION="Bearer all")
    return app


def quick(app: Application, *args: Any, **kwargs: Any) -> int:
    """Send a request and check that it takes little CPU time, with two retries."""
    for attempt in range(3):
        begin = time.thread_time()
        answer = call(app, *args, **kwargs)
        if time.thread_time() - begin < LIMIT:
            break
        assert attempt < 2, (args, {name: value[:40] for name, value in kwargs.items()})
    assert answer.status not in (500, 503)
    return answer.status


def test_every_field_is_bounded() -> None:
    """Every header field that the package reads is listed in FIELDS or SHORT."""
    used = {
        name
        for path in PACKAGE.rglob("*.py")
        if "client" not in path.parts
        for name in re.findall(r"\bHTTP_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert used - {"HTTP_"} <= {*FIELDS, *UPLOAD_FIELDS, *SHORT}


@pytest.mark.parametrize(
    "unit", [*UNITS[::3], *(pytest.param(unit, marks=pytest.mark.races) for unit in REST)]
)
def test_fields(app: Application, unit: str) -> None:
    """Each field is answered quickly at its maximum length, and with 431 or quickly beyond it."""
    all_ = {"HTTP_AUTHORIZATION": "Bearer all"}
    form = {"CONTENT_TYPE": "multipart/form-data; boundary=b"}
    for name in (*FIELDS, *UPLOAD_FIELDS, "HTTP_RANGE", "HTTP_ORIGIN"):
        for begin in {
            "HTTP_RANGE": ("bytes=",),
            "HTTP_AUTHORIZATION": ("Bearer ", "Basic "),
            "HTTP_ORIGIN": ("", "http://"),
            "HTTP_REPR_DIGEST": ("", "md5=:"),
            "CONTENT_TYPE": ("", "multipart/form-data; boundary=", 'multipart/form-data; a="'),
        }.get(name, ("",)):
            value = begin + filled(unit, MAX_FIELD - len(begin))
            for extra in ({}, all_):
                fields = {**extra, name: value}
                quick(app, path=f"/{HELLO}/a.txt", **fields)
                quick(app, "DELETE", f"/{'0' * 64}", **fields)
                quick(app, "POST", body=b"hello", **fields)
                quick(app, path="/metrics", **fields)
                quick(app, path="/openapi.json", **fields)
                quick(app, "POST", "/uploads", **(TUS | fields))
            if name in UPLOAD_FIELDS:
                answer = call(app, "POST", "/uploads", **TUS, **all_, **{name: value + "x" * 800_000})
                assert (answer.status, answer.json["code"]) == (431, "head_too_large")
            if name not in FIELDS:
                quick(app, path=f"/{HELLO}", **all_, **{name: begin + filled(unit, 800_000)})
                quick(app, "POST", body=b"hello", **all_, **{name: begin + filled(unit, 800_000)})
                continue
            long = {**all_, name: value + "x" * 800_000}
            for method, path in (("GET", f"/{HELLO}"), ("POST", "/"), ("GET", "/metrics")):
                answer = call(app, method, path, **long)
                assert (answer.status, answer.json["code"]) == (431, "head_too_large")
    # File names in forms, and the rest of a part's header.
    for head in (f'filename="{filled(unit, 15_000)}"', filled(unit, 15_000)):
        part = f'--b\r\nContent-Disposition: form-data; name="f"; {head}\r\n\r\nx\r\n--b--\r\n'
        quick(app, "POST", body=part.encode("latin-1"), **all_, **form)


@pytest.mark.parametrize("unit", UNITS)
def test_targets(app: Application, unit: str) -> None:
    """Paths and queries as long as a request line allows are answered quickly."""
    all_ = {"HTTP_AUTHORIZATION": "Bearer all"}
    for path in ("/", f"/{HELLO}/", "/files/"):
        quick(app, path=path + filled(unit, 8100), **all_)
    for begin in ("", "hash=", f"hash={HELLO}&filename=", "link=", "ticket=", "limit=", "after="):
        query = begin + filled(unit, 8100)
        for extra in ({}, all_):
            for method, path in (("GET", "/"), ("GET", "/files"), ("GET", f"/{HELLO}"), ("POST", "/")):
                quick(app, method, path, query=query, **extra)


def test_an_accept_field_that_is_too_long_to_read(app: Application) -> None:
    """Only the beginning of a very long Accept field counts."""
    extra = {"body": b"hello", "HTTP_AUTHORIZATION": "Bearer all"}
    rest = filled("a/b,", MAX_ACCEPT)
    for accept, kind in ((f"text/plain,{rest}", "text/plain"), (f"{rest}text/plain", "application/json")):
        answer = call(app, "POST", HTTP_ACCEPT=accept, **extra)
        assert answer.headers["Content-Type"].partition(";")[0] == kind


def test_nothing_is_guessed(app: Application) -> None:
    """Every answer, errors included, has `nosniff`."""
    all_ = {"HTTP_AUTHORIZATION": "Bearer all"}
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="<script>.html"\r\n\r\nx\r\n--b--\r\n'
    kind = {"CONTENT_TYPE": "multipart/form-data; boundary=b"}
    seen = set()
    for method, path, extra in [
        ("GET", "/", {}),
        ("GET", "/healthz", {}),
        ("GET", "/readyz", {}),
        ("GET", "/openapi.json", {}),
        ("GET", "/metrics", {}),
        ("GET", "/files", all_),
        ("GET", "/files", {}),
        ("GET", f"/{HELLO}/<script>.html", all_),
        ("GET", "/<script>", all_),
        ("PATCH", "/", all_),
        ("POST", "/", {"body": form, **kind, **all_}),
        ("POST", "/", {"body": b"y", "HTTP_ACCEPT": "text/plain", **all_}),
        ("POST", "/", {"body": b"", "query": "hash=<script>", **all_}),
        ("DELETE", f"/{'a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa'}", all_),
    ]:
        answer = call(app, method, path, **extra)
        seen.add(answer.status)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", (method, path)
        assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert {200, 400, 401, 404, 405} <= seen
