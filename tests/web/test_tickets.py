"""`GET /?ticket=…` tells whether the ticket is still good, before anybody chooses a file."""

import time
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.support.access import HELLO, KEY, Make, bearer, code, maker, soon
from wsgi_store.access.signing import Signer
from wsgi_store.config import Config

HTML = {"Accept": "text/html"}
SIGNER = Signer([KEY])


@pytest.fixture(name="make")
def fixture_make(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes services with tokens."""
    return maker(config, tmp_path_factory.mktemp("access") / "tokens")


def refusals(client: TestApp, ticket: str) -> set[str]:
    """Why the index refuses a ticket; to HEAD and on the page as well."""
    answer = client.get(f"/?ticket={ticket}", status=403)
    assert code(answer) == "denied"
    client.head(f"/?ticket={ticket}", status=403)
    shown = client.get(f"/?ticket={ticket}", headers=HTML, status=403)
    assert shown.content_type == "text/html" and "<form" not in shown
    for words in SENTENCES[answer.json["reason"]]:
        assert words in shown
    client.head(f"/?ticket={ticket}", headers=HTML, status=403)
    return {answer.json["reason"]}


SENTENCES = {
    "used": ["This link has been used: its file has arrived."],
    "expired": ["This link has expired."],
    "signature": ["This link is damaged or not valid."],
}


def test_a_good_ticket(make: Make) -> None:
    """The index tells what a ticket allows: its scope and its limit."""
    client = make(max_size=1000)
    for most, hash_ in [(5, None), (None, HELLO), (2000, HELLO)]:
        ticket = SIGNER.ticket(soon(), most, hash_)
        told = client.get(f"/?ticket={ticket}").json
        assert told["scopes"] == ["write"]
        assert told["limits"]["max_size"] == min(most or 1000, 1000)
        assert "<form" in client.get(f"/?ticket={ticket}", headers=HTML)


@pytest.mark.parametrize("limits", [{}, {"max_size": 5}, {"hash_": HELLO}])
@pytest.mark.parametrize("resumable", [False, True])
def test_used(make: Make, limits: dict[str, Any], resumable: bool) -> None:
    """A ticket that took its file is refused, whether or not the upload could be continued."""
    client = make()
    ticket = SIGNER.ticket(soon(), **limits)
    if resumable:
        send(client, begin(client, ticket), b"hello")
    else:
        client.post(f"/?ticket={ticket}", b"hello")
    assert refusals(client, ticket) == {"used"}


def test_a_failed_upload_leaves_it(make: Make) -> None:
    """A ticket is good after an upload that failed."""
    client = make()
    ticket = SIGNER.ticket(soon(), hash_=HELLO)
    client.post(f"/?ticket={ticket}", b"other", status=422)
    client.get(f"/?ticket={ticket}")


@pytest.mark.parametrize(
    "ticket",
    [
        "nonsense",
        "",
        "%00",
        "%ff",
        "a.b.c",
        Signer(["another-key-of-length"]).ticket(soon()),
        SIGNER.ticket(soon())[:-1],
        SIGNER.link(HELLO, soon()),
    ],
)
def test_not_valid(make: Make, ticket: str) -> None:
    """A ticket that is malformed, cut, forged or a link is refused; so is any where nothing is signed."""
    assert refusals(make(), ticket) == {"signature"}
    assert refusals(make(signing_keys=()), ticket) == {"signature"}
    assert refusals(make(public_read=True), ticket) == {"signature"}


def test_expired(make: Make) -> None:
    """An expired ticket is refused, unless its upload has begun and can be continued."""
    client = make()
    for before in (1, 10**6):
        assert refusals(client, SIGNER.ticket(time.time() - before)) == {"expired"}
    ticket = SIGNER.ticket(time.time() + 2)
    url = begin(client, ticket)
    send(client, url, b"he")
    time.sleep(2.1)
    assert client.get(f"/?ticket={ticket}").json["scopes"] == ["write"]
    send(client, url, b"llo", 2)
    assert refusals(client, ticket) == {"used"}


def test_a_token_counts_first(make: Make) -> None:
    """With a token the index is about the token, whatever the ticket."""
    assert "read" in make().get("/?ticket=nonsense", headers=bearer("all")).json["scopes"]


def test_a_disk_error(make: Make, config: Config) -> None:
    """If the notes of used tickets cannot be read, the index says so."""
    client = make()
    place = Path(config.root, ".tickets")
    place.touch()
    assert code(client.get(f"/?ticket={SIGNER.ticket(soon())}", status=503)) == "store_unavailable"


TUS = {"Tus-Resumable": "1.0.0"}


def begin(client: TestApp, ticket: str) -> str:
    """Create an upload of five bytes; returns its URL."""
    answer = client.post(f"/uploads?ticket={ticket}", headers={**TUS, "Upload-Length": "5"}, status=201)
    return f"{answer.headers['Location']}?ticket={ticket}"


def send(client: TestApp, url: str, data: bytes, offset: int = 0) -> None:
    """Append bytes to an upload."""
    fields = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    client.patch(url, data, headers=fields, status=204)
