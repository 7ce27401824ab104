"""The index tells every caller what it may do, and how large an upload of its own may be."""

import json
import re
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from webtest import TestApp

from tests.support.access import ALL, HELLO, KEY, Make, bearer, code, line, soon
from wsgi_store.access.grant import SCOPES, Grant
from wsgi_store.access.signing import Signer
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.errors import Denied, Unauthenticated

BROWSER = {"Accept": "text/html"}


def scopes(client: TestApp, query: str = "", **headers: str) -> list[str]:
    """The scopes that the index tells."""
    told = client.get(f"/{query}", headers=headers).json["scopes"]
    assert isinstance(told, list)
    assert client.head(f"/{query}", headers=headers).status_int == 200
    return told


def embedded(page: str) -> Any:
    """Return the description of the service that the page has for its scripts."""
    match = re.search('<script[^>]*id="service"[^>]*>(.*?)</script>', page, re.S)
    assert match
    return json.loads(match[1])


def test_of_a_token(make: Make) -> None:
    """A token has the scopes of its line, sorted; with public reading, too."""
    for public in (False, True):
        client = make(line("some", "write,list"), public_read=public)
        assert scopes(client, **bearer("all")) == sorted(ALL.split(","))
        assert scopes(client, **bearer("some")) == ["list", "write"]
        assert scopes(client) == (["read"] if public else [])


def test_without_tokens(config: Config) -> None:
    """In an open store everybody has all scopes, whatever they send."""
    client = TestApp(create_app(config))
    assert (
        scopes(client) == scopes(client, "?ticket=x&link=y", **bearer("unknown")) == sorted(SCOPES - {"link"})
    )


def test_who_may_sign(make: Make) -> None:
    """The scope `link` and the longest life of a link are told where the service signs."""
    client = make(line("some", "link,read"), link_expires=90.5)
    assert scopes(client, **bearer("some")) == ["link", "read"]
    assert client.get("/").json["limits"]["link_expires"] == 90
    client = make(line("some", "link,read"), signing_keys=())
    assert scopes(client, **bearer("some")) == ["read"]
    assert "link_expires" not in client.get("/").json["limits"]


def test_of_a_link_and_a_ticket(make: Make) -> None:
    """A link reads, a ticket writes; a token goes before both."""
    client, signer = make(), Signer([KEY])
    link, ticket = signer.link(HELLO, soon()), signer.ticket(soon())
    assert scopes(client, f"?link={link}") == ["read"]
    assert scopes(client, f"?ticket={ticket}") == ["write"]
    assert scopes(client, f"?ticket={ticket}", **bearer("all")) == sorted(ALL.split(","))


@pytest.mark.parametrize(
    "own, limit, told", [(5, None, 5), (5, 9, 5), (9, 5, 5), (None, 5, 5), (None, None, None)]
)
def test_the_size_of_an_upload(make: Make, own: int | None, limit: int | None, told: int | None) -> None:
    """`limits.max_size` is the smaller one of the service's limit and the ticket's."""
    client = make(max_size=limit)
    ticket = Signer([KEY]).ticket(soon(), max_size=own)
    assert client.get(f"/?ticket={ticket}").json["limits"]["max_size"] == told
    assert client.get("/", headers=bearer("all")).json["limits"]["max_size"] == limit


def test_refused_credentials(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are refused elsewhere are refused here, with the same code."""
    client, now = make(), time.time()
    signer = Signer([KEY])
    ticket, link = signer.ticket(now + 60), signer.link(HELLO, now + 60)
    for query, headers, status in (
        ("", bearer("unknown"), 401),
        ("", {"Authorization": "Basic !"}, 401),
        ("?link=forged", {}, 403),
        ("?ticket=forged", {}, 403),
    ):
        answer = client.get(f"/{query}", headers=headers, status=status)
        assert code(answer) == {401: "unauthenticated", 403: "denied"}[status]
    later = SimpleNamespace(time=lambda: now + 61, monotonic=time.monotonic)
    for module in ("grant", "signing", "tickets"):
        monkeypatch.setattr(f"wsgi_store.access.{module}.time", later)
    for query in (f"?link={link}", f"?ticket={ticket}"):
        answer = client.get(f"/{query}", status=403)
        assert (code(answer), answer.json["reason"]) == ("denied", "expired")


def test_the_page_has_the_scopes_of_its_browser(make: Make) -> None:
    """Those of the credentials that the browser itself sends, and those of everybody if they are refused."""
    client = make(public_read=True)
    own = embedded(client.get("/", headers=BROWSER).text)
    assert own["scopes"] == own["everybody"] == ["read"]
    for query, headers in (("", bearer("unknown")), ("?link=x", {})):
        assert embedded(client.get(f"/{query}", headers={**BROWSER, **headers}).text) == own
    known = embedded(client.get("/", headers={**BROWSER, **bearer("all")}).text)
    assert "write" in known["scopes"]
    assert known["everybody"] == ["read"]


def test_a_host_application_decides(config: Config) -> None:
    """A host application's own authorize tells the scopes; whoever it refuses has none."""

    def authorize(environ: Mapping[str, Any]) -> Grant:
        user = environ.get("HTTP_COOKIE", environ.get("HTTP_AUTHORIZATION"))
        if user is None:
            raise Unauthenticated("log in first")
        if user == "nobody":
            raise Denied("not you")
        return Grant(frozenset({user, "read"}), name="host", max_size=7)

    client = TestApp(create_app(config, authorize))
    assert scopes(client) == scopes(client, Cookie="nobody") == []
    assert scopes(client, Cookie="list") == ["list", "read"]
    assert client.get("/", headers={"Cookie": "list"}).json["limits"]["max_size"] == 7
    client.get("/", headers={"Authorization": "nobody"}, status=403)
    for cookie, known in (("nobody", []), ("list", ["list", "read"])):
        page = embedded(client.get("/", headers={**BROWSER, "Cookie": cookie}).text)
        assert (page["scopes"], page["everybody"]) == (known, [])
