"""Blossom: events, uploads, downloads and deletions, by the words of its documents (BUD)."""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webtest import TestApp

from tests.support import nostr
from tests.support.nostr import MINE, OTHERS, allowing, event, field, public
from wsgi_store.choices import Protocol
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.protocols.blossom import create_app

DATA = b"hello, world\n"
HASH = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def config(config: Config, tmp_path: Path) -> Config:
    """Settings for a service that knows one key, which may do everything, and one that may read."""
    tokens = tmp_path / "tokens"
    tokens.write_text(
        f"me read,write,delete nostr:{public(MINE)}\nother read nostr:{public(OTHERS).upper()}\n"
    )
    return replace(
        config, hash=Algorithm.SHA256, tokens=str(tokens), public_read=True, protocols=(Protocol.BLOSSOM,)
    )


@pytest.fixture(name="api")
def fixture_api(config: Config) -> TestApp:
    """The service."""
    return TestApp(create_app(config))


def refused(answer: Any, status: int) -> str:
    """Check a refusal; returns its reason."""
    assert answer.status_code == status, answer
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert not any(value.startswith("Basic") for value in answer.headers.getall("WWW-Authenticate"))
    return str(answer.headers["X-Reason"])


def put(api: TestApp, fields: dict[str, str], data: bytes = DATA) -> Any:
    """Upload."""
    return api.put("/upload", data, headers={"Content-Type": "image/png", **fields}, expect_errors=True)


def test_from_upload_to_deletion(api: TestApp) -> None:
    """A blob is uploaded, sent with the type of its extension, and deleted."""
    answer = put(api, {**allowing("upload", HASH), "X-SHA-256": HASH})
    assert answer.status_code == 201
    told = answer.json
    assert abs(told.pop("uploaded") - time.time()) < 60
    assert told == {"url": f"http://localhost/{HASH}.png", "sha256": HASH, "size": 13, "type": "image/png"}
    assert put(api, allowing("upload", HASH)).status_code == 200
    assert api.get(f"/{HASH}.png").content_type == "image/png"
    plain = api.get(f"/{HASH}")
    assert (plain.body, plain.content_type) == (DATA, "application/octet-stream")
    assert api.head(f"/{HASH}.pdf").headers["Content-Length"] == "13"
    assert api.get(f"/{HASH}", headers={"Range": "bytes=0-4"}, status=206).body == b"hello"
    api.delete(f"/{HASH}", headers=allowing("delete", HASH), status=200)
    refused(api.get(f"/{HASH}", expect_errors=True), 404)


def test_types(api: TestApp) -> None:
    """An unknown type gets the extension `bin`, and the descriptor tells what a download will say."""
    for kind, ending in (("application/pdf", ".pdf"), ("x/unknown", ".bin"), ("", ".bin")):
        answer = put(api, {**allowing("upload", HASH), "Content-Type": kind})
        assert answer.json["url"].endswith(ending)
        path = answer.json["url"].removeprefix("http://localhost")
        assert api.get(path).content_type == answer.json["type"]


def test_bytes_without_the_hash(api: TestApp) -> None:
    """Bytes without the announced hash are refused (409), and nothing is stored."""
    refused(put(api, {**allowing("upload", HASH), "X-SHA-256": HASH}, b"other"), 409)
    refused(put(api, allowing("upload", HASH), b"other"), 409)
    refused(api.get(f"/{HASH}", expect_errors=True), 404)


OLD, SOON = str(int(time.time()) - 10), str(int(time.time()) + 3600)
BAD = {
    "none": {},
    "another scheme": {"Authorization": "Bearer x"},
    "basic": {"Authorization": "Basic eDp5"},
    "no base64": {"Authorization": "Nostr ***"},
    "no JSON": {"Authorization": "Nostr e30x"},
    "too long": {"Authorization": f"Nostr {'a' * 9000}"},
    "another kind": field(event(MINE, "upload", HASH, kind=1)),
    "expired": field(event(MINE, "upload", all_tags=[["t", "upload"], ["x", HASH], ["expiration", OLD]])),
    "without an end": field(event(MINE, "upload", all_tags=[["t", "upload"], ["x", HASH]])),
    "from the future": field(event(MINE, "upload", HASH, created_at=int(time.time()) + 3600)),
    "another verb": allowing("get", HASH),
    "another server": field(event(MINE, "upload", HASH, tags=[["server", "elsewhere.example"]])),
    "another blob": allowing("upload", "0" * 64),
    "a wrong signature": field({**event(MINE, "upload", HASH), "sig": "0" * 128}),
    "another id": field({**event(MINE, "upload", HASH), "id": "0" * 64}),
    "another key": field({**event(MINE, "upload", HASH), "pubkey": public(OTHERS)}),
    "tags that are none": field({**event(MINE, "upload", HASH), "tags": 7}),
}


@pytest.mark.parametrize("fields", BAD.values(), ids=list(BAD))
def test_bad_events(api: TestApp, fields: dict[str, str]) -> None:
    """An event that does not allow this is refused (401), with a reason for the person."""
    assert refused(put(api, {**fields, "X-SHA-256": HASH}), 401)
    assert not list(api.app.store.iterate())


def test_unknown_keys_and_scopes(api: TestApp) -> None:
    """A key that is not listed, or lacks the scope, is refused (403)."""
    stranger = nostr.PrivateKey(b"\x03" * 32)
    refused(put(api, allowing("upload", HASH, key=stranger)), 403)
    refused(put(api, allowing("upload", HASH, key=OTHERS)), 403)


def test_the_server_of_an_event(api: TestApp) -> None:
    """An event for several servers is valid on each."""
    tags = [["server", "elsewhere.example"], ["server", "localhost"]]
    assert put(api, field(event(MINE, "upload", HASH, tags=tags))).status_code == 201


def test_several_hashes(api: TestApp) -> None:
    """With several hashes in the event, X-SHA-256 has to say which one is meant."""
    refused(put(api, allowing("upload", HASH, "0" * 64)), 400)
    assert put(api, {**allowing("upload", HASH, "0" * 64), "X-SHA-256": HASH}).status_code == 201
    refused(put(api, {**allowing("upload", HASH), "X-SHA-256": HASH.upper()}), 400)


def test_both_alphabets(api: TestApp) -> None:
    """Base64 of either alphabet is read, with and without padding."""
    import base64

    text = json.dumps(event(MINE, "upload", HASH, content="?>?>ÿÿÿ"), ensure_ascii=False).encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for end in ("", "="):
            encoded = encode(text).decode().rstrip(end) if not end else encode(text).decode()
            assert put(api, {"Authorization": f"Nostr {encoded}"}).status_code in (200, 201)


def test_private(config: Config) -> None:
    """Without public reading, a download takes an event, which may be for one blob or for all."""
    api = TestApp(create_app(replace(config, public_read=False)))
    put(api, allowing("upload", HASH))
    refused(api.get(f"/{HASH}", expect_errors=True), 401)
    api.get(f"/{HASH}", headers=allowing("get"), status=200)
    api.head(f"/{HASH}.txt", headers=allowing("get", HASH), status=200)
    refused(api.get(f"/{HASH}", headers=allowing("get", "0" * 64), expect_errors=True), 401)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 200),
        ({"X-Content-Length": None}, 411),
        ({"X-Content-Length": "many"}, 400),
        ({"X-Content-Length": "1001"}, 413),
        ({"X-SHA-256": "short"}, 400),
        ({"Authorization": None}, 401),
    ],
    ids=str,
)
def test_before_an_upload(config: Config, changed: dict[str, str | None], status: int) -> None:
    """HEAD tells what would become of an upload (BUD-06)."""
    api = TestApp(create_app(replace(config, max_size=1000)))
    fields = {**allowing("upload", HASH), "X-SHA-256": HASH, "X-Content-Length": "13", **changed}
    answer = api.head("/upload", headers={k: v for k, v in fields.items() if v}, expect_errors=True)
    assert answer.status_code == status
    assert ("X-Reason" in answer.headers) == (status != 200)


def test_what_is_not_served(api: TestApp) -> None:
    """Lists, mirrors and media are not served, nor is the API of this project."""
    for path in (f"/list/{public(MINE)}", "/files", "/uploads", "/metrics", f"/{HASH}/name"):
        refused(api.get(path, expect_errors=True), 404)
    refused(api.put("/mirror", b"{}", expect_errors=True), 404)
    refused(api.post("/upload", DATA, expect_errors=True), 405)


def test_pages_of_other_sites(api: TestApp) -> None:
    """Any site's page may ask, by any method of the protocol, and read the reason of a refusal."""
    fields = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
    answer = api.options("/upload", headers=fields, status=204)
    assert {"GET", "HEAD", "PUT", "DELETE"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert {"Authorization", "*"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    answer = put(
        api, {**allowing("upload", HASH), "Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 201
    assert "X-Reason" in answer.headers["Access-Control-Expose-Headers"]


def test_what_it_needs(config: Config) -> None:
    """Without the protocol, the keys or sha256 the service does not start."""
    for changed, told in (
        ({"protocols": ()}, "WSGI_STORE_PROTOCOLS"),
        ({"tokens": None, "public_read": False}, "WSGI_STORE_TOKENS"),
        ({"hash": Algorithm.MD5}, "WSGI_STORE_PROTOCOLS: blossom: .*sha256"),
    ):
        with pytest.raises(ConfigError, match=told):
            create_app(replace(config, **changed))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda one: (
            st.lists(one)
            | st.dictionaries(
                st.sampled_from(["tags", "kind", "pubkey", "sig", "id", "content", "created_at"]), one
            )
        ),
    )
)
def test_any_event(api: TestApp, anything: Any) -> None:
    """Whatever an event is, it is refused."""
    answer = api.get(f"/{HASH}", headers=field(anything), expect_errors=True)
    assert answer.status_code == 401
    changed = {**event(MINE, "get"), **(anything if isinstance(anything, dict) else {})}
    assert api.get(f"/{HASH}", headers=field(changed), expect_errors=True).status_code in (401, 404)
