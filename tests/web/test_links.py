"""`POST /links` signs links and tickets for callers with the scope `link`."""

import json
import time
from typing import Any
from urllib.parse import unquote

import pytest
from webtest import TestApp

from tests.support.access import HELLO, KEY, Make, bearer, code, line
from wsgi_store.access.grant import EVERYTHING
from wsgi_store.assembly import create_app
from wsgi_store.config import Config

JSON = {"Content-Type": "application/json"}
LINES = line("linker", "link,read,write") + line("writer", "link,write") + line("reader", "link,read")


@pytest.fixture(name="client")
def fixture_client(make: Make) -> TestApp:
    """A service that holds one blob."""
    client = make(LINES + line("other", "read,write"))
    client.post("/", b"hello", headers=bearer("all"))
    return client


def ask(client: TestApp, token: str = "linker", status: int = 200, **members: object) -> Any:
    """Ask for a link or a ticket."""
    body = json.dumps(members).encode()
    return client.post("/links", body, headers={**JSON, **bearer(token)}, status=status).json


@pytest.mark.parametrize("name", [None, "", "a.txt", "a b/ü?&#%.txt", "日本" * 100, "a\nb", "x" * 1024])
def test_a_link_downloads(client: TestApp, name: str | None) -> None:
    """The URL downloads the blob under its name without a token, and nothing else."""
    now = time.time()
    told = ask(client, hash=HELLO.upper(), filename=name, expires_in=60)
    assert now + 58 < told["expires"] <= now + 61
    assert unquote(told["url"].partition("?")[0]) == f"/{HELLO}" + (f"/{name}" if name else "")
    assert client.get(told["url"]).body == b"hello"
    if name:
        assert code(client.get(f"/{HELLO}/other?link={told['link']}", status=403)) == "denied"
    assert code(client.get(f"/{'0' * 64}?link={told['link']}", status=403)) == "denied"


def test_a_ticket_uploads(client: TestApp) -> None:
    """The URL stores one file within its limits."""
    told = ask(client, ticket=True, max_size=5, expires_in=60)
    assert told["url"] == f"/?ticket={told['ticket']}"
    assert code(client.post(told["url"], b"123456", status=413)) == "too_large"
    client.post(told["url"], b"12345")
    assert client.post(told["url"], b"1234", status=403).json["reason"] == "used"
    told = ask(client, "writer", ticket=True, hash=HELLO, max_size=None)
    assert code(client.post(told["url"], b"other", status=422)) == "digest_mismatch"


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"hash": 5},
        {"hash": HELLO, "max_size": 5},
        {"hash": HELLO, "more": 5},
        {"hash": HELLO, "filename": 5},
        {"hash": HELLO, "filename": "."},
        {"hash": HELLO, "filename": ".."},
        {"hash": HELLO, "filename": "x" * 1025},
        {"hash": HELLO, "filename": "ü" * 513},
        {"hash": HELLO, "filename": "\ud800"},
        {"hash": "\ud800"},
        {"\ud800": 5},
        {"ticket": 1},
        {"ticket": True, "filename": "a"},
        {"ticket": True, "hash": HELLO[:-1]},
        {"ticket": True, "max_size": -1},
        {"ticket": True, "max_size": 1.5},
        {"ticket": True, "max_size": True},
        {"ticket": True, "max_size": 1 << 63},
        {"ticket": True, "expires_in": "60"},
    ],
)
def test_malformed_requests(client: TestApp, members: dict[str, object]) -> None:
    """A member that is unknown, misplaced or malformed gets 400."""
    assert ask(client, status=400, **members)["code"] == "bad_request"


@pytest.mark.parametrize("body", [b"x", b"[]", b'"a"', b"null", b"\xff", b"[" * 60_000, b'{"hash":'])
def test_bodies_that_are_no_object(client: TestApp, body: bytes) -> None:
    """A body that is no JSON object gets 400, also one that is deeper than Python can read."""
    answer = client.post("/links", body, headers={**JSON, **bearer("linker")}, status=400)
    assert code(answer) == "bad_request"


def test_how_long_it_may_last(make: Make) -> None:
    """At most as long as the setting says, which the problem tells; that is also the default."""
    client = make(LINES, link_expires=90)
    for seconds in (0, -1, 91, float("inf"), float("nan")):
        problem = ask(client, status=400, ticket=True, expires_in=seconds)
        assert (problem["code"], problem["limit"]) == ("bad_request", 90)
    assert ask(client, ticket=True, expires_in=90)["expires"] <= time.time() + 90
    assert ask(client, ticket=True)["expires"] <= time.time() + 90


def test_who_may_ask(client: TestApp) -> None:
    """The caller needs the scope `link`, `read` for a link, and `write` for a ticket."""
    cases: list[tuple[str, str, dict[str, object]]] = [
        ("other", "link", {"hash": HELLO}),
        ("writer", "read", {"hash": HELLO}),
        ("reader", "write", {"ticket": True}),
    ]
    for token, scope, members in cases:
        problem = ask(client, token, 403, **members)
        assert (problem["code"], problem["scope"]) == ("denied", scope)
    assert code(client.post_json("/links", {"hash": HELLO}, status=401)) == "unauthenticated"


def test_links_and_tickets_make_none(client: TestApp) -> None:
    """Limited rights make no links: those of a link and a ticket lack the scope."""
    for made in (ask(client, hash=HELLO), ask(client, ticket=True)):
        query = made["url"].partition("?")[2]
        assert code(client.post_json(f"/links?{query}", {"hash": HELLO}, status=403)) == "denied"


def test_a_host_application_signs_none(config: Config) -> None:
    """A host application that authorizes requests itself would read none of these links."""
    client = TestApp(create_app(config, lambda environ: EVERYTHING))
    assert code(client.post_json("/links", {"ticket": True}, status=404)) == "not_found"


def test_what_else_is_refused(client: TestApp, make: Make) -> None:
    """A missing blob, another media type, a body that is too long, a page of another site."""
    assert ask(client, status=404, hash="0" * 64)["code"] == "blob_not_found"
    for members in ({}, {"ticket": True}):
        for malformed in ("", "x", "0" * 32, "0" * 65):
            problem = ask(client, status=400, hash=malformed, **members)
            assert (problem["code"], problem["algorithms"]) == ("bad_request", ["sha256"])
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json+x"):
        answer = client.post("/links", b"{}", headers={"Content-Type": kind, **bearer("linker")}, status=415)
        assert code(answer) == "unsupported_media_type"
    long = client.post("/links", b" " * (65 << 10), headers={**JSON, **bearer("linker")}, status=413)
    assert (code(long), long.json["limit"]) == ("too_large", 64 << 10)
    other = {**bearer("linker"), "Origin": "https://other.example", "Sec-Fetch-Site": "cross-site"}
    assert code(client.post_json("/links", {"ticket": True}, headers=other, status=403)) == "cross_origin"
    assert ask(make(LINES, signing_keys=()), status=404, ticket=True)["code"] == "not_found"


def test_mounted(client: TestApp) -> None:
    """URLs begin with the mount point, and contain no key."""
    for members in ({"hash": HELLO}, {"ticket": True}):
        answer = client.post_json(
            "/links", members, headers=bearer("linker"), extra_environ={"SCRIPT_NAME": "/a b"}
        )
        assert answer.json["url"].startswith("/a%20b/")
        assert KEY not in answer.text


@pytest.mark.usefixtures("client")
def test_a_store_that_is_only_read(make: Make) -> None:
    """It gives links to its blobs, and no tickets."""
    reading = make(LINES, read_only=True)
    assert reading.get(ask(reading, hash=HELLO)["url"]).body == b"hello"
    assert ask(reading, status=403, ticket=True)["code"] == "read_only"
