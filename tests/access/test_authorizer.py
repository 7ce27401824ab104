"""Authorization by scopes and tokens, in process."""

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webtest import TestApp

from examples.signing import invite
from tests.support.access import HELLO, KEY, Make, bearer, code, line
from wsgi_store.access.authorizer import Authorizer
from wsgi_store.access.grant import SCOPES, Grant
from wsgi_store.access.signing import Signer
from wsgi_store.access.tickets import UsedTickets
from wsgi_store.access.tokens import Tokens
from wsgi_store.assembly import create_app
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config
from wsgi_store.errors import ConfigError, Denied, Unauthenticated
from wsgi_store.web.application import Application
from wsgi_store.web.routes import URLS

REQUESTS = {
    ("/", "GET"): None,
    ("/", "POST"): "write",
    ("/", "PUT"): "write",
    ("/files", "GET"): "list",
    ("/missing", "POST"): "read",
    ("/archive", "POST"): "read",
    ("/links", "POST"): "link",
    ("/healthz", "GET"): None,
    ("/readyz", "GET"): None,
    ("/openapi.json", "GET"): None,
    ("/page/<string:version>/<name:name>", "GET"): None,
    ("/metrics", "GET"): "admin",
    ("/uploads", "POST"): "write",
    ("/uploads/<string:id_>", "GET"): "write",
    ("/uploads/<string:id_>", "PATCH"): "write",
    ("/uploads/<string:id_>", "DELETE"): "write",
    ("/<hash:hash_>", "GET"): "read",
    ("/<hash:hash_>/<name:filename>", "GET"): "read",
    ("/<hash:hash_>", "DELETE"): "delete",
    ("/<hash:hash_>", "PUT"): "write",
    ("/<hash:hash_>/<name:filename>", "PUT"): "write",
    ("/<segment:filename>", "PUT"): "write",
}

# The fields that requests about uploads need beside a token.
TUS = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": "10",
    "Upload-Offset": "0",
    "Content-Type": "application/offset+octet-stream",
}


@pytest.mark.parametrize("route", URLS, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_scopes_decide(make: Make, route: Any, scope: str) -> None:
    """A token opens exactly the routes of its scope."""
    client = make(line("this", scope), metrics=MetricsAccess.ON)
    client.post("/", b"hello", headers=bearer("all"))
    path = re.sub("<(name|segment):filename>", "x.txt", route.path.replace("<hash:hash_>", HELLO))
    needed = REQUESTS[route.path, route.method]
    allowed = needed in (None, scope)
    if path.startswith("/page/"):
        page = client.get("/", headers={"Accept": "text/html"}).text
        path = urljoin("/", re.findall('src="(.*?)"', page)[0])
    elif "<string:" in path:
        owner = bearer("this" if allowed else "all")
        path = client.post("/uploads", headers=TUS | owner, status=201).headers["Location"]
    body = b"hello" if route.method in ("POST", "PUT", "PATCH") else b""
    fields = TUS if path.startswith("/uploads") else {}
    client.request(
        path, method=route.method, body=body, headers=fields, status=200 if needed is None else 401
    )
    answer = client.request(
        path,
        method=route.method,
        body=body,
        headers=fields | bearer("this"),
        # The body has the type of a blob, not that of a question.
        status=403 if not allowed else 415 if path in ("/links", "/missing", "/archive") else "2*",
    )
    if not allowed:
        assert code(answer) == "denied"
        assert answer.json["scope"] == needed


def test_without_tokens_everything_is_allowed(application: Application) -> None:
    """Without a token file everything is allowed."""
    client = TestApp(application)
    client.post("/", b"hello")
    answer = client.get(f"/{HELLO}")
    assert answer.headers["Cache-Control"].startswith("public,")
    assert "Vary" not in answer.headers
    client.delete(f"/{HELLO}")


def test_unauthenticated_says_how(make: Make) -> None:
    """A 401 names the accepted schemes."""
    answer = make().get("/files", status=401)
    assert code(answer) == "unauthenticated"
    assert answer.headers.getall("WWW-Authenticate") == [
        'Bearer realm="wsgi_store"',
        'Basic realm="wsgi_store"',
    ]


@pytest.mark.parametrize(
    "field, known_as",
    [
        ("Bearer wrong", "invalid_token"),
        ("bearer", "invalid_token"),
        ("Bearer a b", "invalid_token"),
        ("Basic " + base64.b64encode(b"me:wrong").decode(), None),
        ("Digest x", None),
        ("", None),
    ],
)
def test_what_is_wrong_with_a_token(make: Make, field: str, known_as: str | None) -> None:
    """Only a Bearer credential gets the error code invalid_token of RFC 6750, and no other challenge."""
    answer = make().get("/files", headers={"Authorization": field}, status=401)
    challenges = ['Bearer realm="wsgi_store"', 'Basic realm="wsgi_store"']
    if known_as:
        challenges = [f'Bearer realm="wsgi_store", error="{known_as}"']
    assert answer.headers.getall("WWW-Authenticate") == challenges


def test_which_scope_is_missing(make: Make) -> None:
    """A 403 for a missing scope names the scope as in RFC 6750; other 403s do not."""
    api = make(line("reader", "read"))
    for method, path, scope in [
        ("POST", "/", "write"),
        ("DELETE", f"/{HELLO}", "delete"),
        ("GET", "/files", "list"),
        ("GET", "/metrics", "admin"),
    ]:
        answer = api.request(path, method=method, headers=bearer("reader"), status=403)
        challenge = f'Bearer realm="wsgi_store", error="insufficient_scope", scope="{scope}"'
        assert answer.headers.getall("WWW-Authenticate") == [challenge]
    forged = api.get(f"/{HELLO}?link=forged", status=403)
    assert "WWW-Authenticate" not in forged.headers


@pytest.mark.parametrize(
    "field",
    [
        "Bearer all",
        "bearer  all ",
        "Basic " + base64.b64encode(b"anybody:all").decode(),
        "BASIC " + base64.b64encode(b":all").decode(),
    ],
)
def test_ways_to_send_a_token(make: Make, field: str) -> None:
    """A token is sent as Bearer or as the password of Basic; the scheme is case-insensitive."""
    make().get("/files", headers={"Authorization": field})


@pytest.mark.parametrize(
    "field",
    ["", "Bearer", "Bearer ", "Bearer ALL", "Bearer all all", "Digest all", "Basic all", "Basic !!!", "all"]
    + ["Basic " + base64.b64encode(text).decode() for text in (b"all", b"all:", b"all:x", b"\xff:\xff")],
)
def test_ways_not_to_send_a_token(make: Make, field: str) -> None:
    """A malformed or unknown credential gets 401, even for public reading."""
    make().get("/files", headers={"Authorization": field}, status=401)
    make(public_read=True).get(f"/{HELLO}", headers={"Authorization": field}, status=401)


def test_public_read(make: Make) -> None:
    """public_read opens only reading, and lets shared caches keep blobs."""
    client = make(public_read=True)
    client.post("/", b"hello", status=401)
    client.post("/", b"hello", headers=bearer("all"))
    for headers in ({}, bearer("all")):
        assert client.get(f"/{HELLO}", headers=headers).headers["Cache-Control"].startswith("public,")
    client.get("/files", status=401)
    client.delete(f"/{HELLO}", status=401)


def test_private_reading_is_not_cached_for_others(make: Make) -> None:
    """If reading requires a token, blobs and 304s are marked private, so no shared cache keeps them."""
    client = make()
    client.post("/", b"hello", headers=bearer("all"))
    for extra, status in (({}, 200), ({"If-None-Match": f'"{HELLO}"'}, 304)):
        answer = client.get(f"/{HELLO}", headers=bearer("all") | extra, status=status)
        assert answer.headers["Cache-Control"].startswith("private,")
        assert answer.headers["Vary"] == "Authorization"


def test_refused_before_the_body(make: Make) -> None:
    """A client without permission gets 401 before its body is read."""

    class Untouchable:  # pylint: disable=missing-class-docstring
        def read(self, size: int = -1) -> bytes:  # pylint: disable=missing-function-docstring
            raise AssertionError(f"{size} bytes were read")

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "CONTENT_LENGTH": "5",
        "wsgi.input": Untouchable(),
        "wsgi.url_scheme": "http",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
    }
    seen: list[str] = []
    make().app(environ, lambda status, headers: seen.append(status))
    assert seen == ["401 Unauthorized"]


@pytest.mark.parametrize("settings", [{"public_read": True}, {"signing_keys": (KEY,)}])
def test_contradictions(config: Config, settings: dict[str, Any]) -> None:
    """Settings that need tokens are refused without them."""
    with pytest.raises(ConfigError, match="has no effect without WSGI_STORE_TOKENS"):
        create_app(replace(config, **settings))


def test_a_host_decides(config: Config) -> None:
    """A host's own authorize decides on every request that needs a scope."""

    def authorize(environ: Mapping[str, Any]) -> Grant:
        if "HTTP_X_USER" not in environ:
            raise Unauthenticated("log in first")
        return Grant(frozenset({environ["HTTP_X_USER"]}), name="host")

    client = TestApp(create_app(config, authorize))
    client.get("/files", status=401)
    client.get("/files", headers={"X-User": "list"})
    client.post("/", b"hello", headers={"X-User": "list"}, status=403)
    client.post("/", b"hello", headers={"X-User": "write"})


@given(st.text(), st.text())
def test_no_credentials_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, field: str, query: str
) -> None:
    """Any string as a token, link or ticket is either accepted or refused."""
    path = tmp_path_factory.getbasetemp() / "no-tokens"
    path.touch()
    ask = Authorizer(Tokens(str(path)), Signer([KEY]), UsedTickets("/nonexistent"))
    for environ in (
        {"HTTP_AUTHORIZATION": field},
        {"HTTP_AUTHORIZATION": "Basic " + field},
        {"HTTP_AUTHORIZATION": "Bearer " + field},
        {"QUERY_STRING": query},
        {"QUERY_STRING": "link=" + query},
        {"QUERY_STRING": "ticket=" + query},
    ):
        try:
            grant = ask(environ)
        except (Unauthenticated, Denied):
            continue
        assert not grant.scopes


def test_invitations(make: Make) -> None:
    """The URLs of the documented example work as documented."""
    client = make()
    client.post("/", b"hello", headers=bearer("all"))
    download, upload = invite([KEY], HELLO)
    assert client.get(download).body == b"hello"
    assert client.post(upload, b"other").json["created"]
    client.post(upload, b"another", status=403)
