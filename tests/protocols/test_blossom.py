"""Blossom: events, uploads, downloads and deletions, by the words of its documents (BUD)."""

import hashlib
import io
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate
from webtest import TestApp

from tests.support import nostr
from tests.support.nostr import MINE, OTHERS, allowing, event, field, public
from tests.support.servers import BLOSSOM, DEPLOY, refusal
from wsgi_store import __version__
from wsgi_store.access.grant import EVERYTHING
from wsgi_store.choices import Protocol, Redirect
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.protocols.blossom import TABLE, create_app

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


@pytest.mark.every_store
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


@pytest.mark.parametrize("config", ["bucket"], indirect=True)
def test_a_redirect(config: Config) -> None:
    """A redirect to a bucket leads to a URL with the same hash (BUD-01), and tells the type there."""
    api = TestApp(create_app(replace(config, redirect=Redirect.ALWAYS)))
    put(api, allowing("upload", HASH))
    answer = api.get(f"/{HASH}.png", status=307)
    url = urlsplit(answer.headers["Location"])
    assert url.path.endswith(f"/{HASH}")
    assert parse_qs(url.query)["response-content-type"] == ["image/png"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


KINDS = [
    ("application/pdf", ".pdf"),
    ("image/jpeg", ".jpg"),
    ("Image/WebP; q=1", ".webp"),
    ("text/plain; charset=utf-8", ".txt"),
    ("video/mp4", ".mp4"),
    ("text/html", ".html"),
    ("x/unknown", ".bin"),
    ("no type at all", ".bin"),
    ("", ".bin"),
]


@pytest.mark.parametrize(("kind", "ending"), KINDS)
def test_types(api: TestApp, kind: str, ending: str) -> None:
    """An unknown type gets the extension `bin`, and the descriptor tells what a download will say."""
    answer = put(api, {**allowing("upload", HASH), "Content-Type": kind})
    assert answer.json["url"] == f"http://localhost/{HASH}{ending}"
    for method in (api.get, api.head):
        assert method(f"/{HASH}{ending}").content_type == answer.json["type"]


def test_pieces(api: TestApp) -> None:
    """The hashes of a blob's pieces are told under the extension that is reserved for them."""
    put(api, allowing("upload", HASH))
    told = api.get(f"/{HASH}.meta4")
    assert told.content_type == "application/metalink4+xml"
    assert f"<url>http://localhost/{HASH}</url>" in told.text
    refused(api.get(f"/{'0' * 64}.meta4", expect_errors=True), 404)


def test_odd_extensions(api: TestApp) -> None:
    """Whatever the extension is, the blob is sent."""
    put(api, allowing("upload", HASH))
    for ending in (".x", ".tar.gz", ".%0D%0AX-Evil:%201", ".%F0%9F%8C%B8", ".JPEG", "..", f".{'a' * 600}"):
        assert api.get(f"/{HASH}{ending}").body == DATA
    for path in (f"/{HASH.upper()}", f"/{HASH[:-1]}", f"/{HASH}0.png", f"/{'0' * 40}"):
        refused(api.get(path, expect_errors=True), 400)
    for path in (f"/{HASH}.", f"/{HASH}.a/b", f"/{HASH[:20]}", f"/x{HASH}"):
        refused(api.get(path, expect_errors=True), 404)


def test_bytes_without_the_hash(api: TestApp) -> None:
    """Bytes without the announced hash are refused (409), and nothing is stored."""
    answer = put(api, {**allowing("upload", HASH), "X-SHA-256": HASH}, b"other")
    refused(answer, 409)
    assert (answer.json["status"], answer.json["code"]) == (409, "digest_mismatch")
    refused(put(api, allowing("upload", HASH), b"other"), 409)
    refused(api.get(f"/{HASH}", expect_errors=True), 404)


BAD = {
    "none": {},
    "another scheme": {"Authorization": "Bearer x"},
    "no event": {"Authorization": "Nostr"},
    "a wrong signature": field({**event(MINE, "upload", HASH), "sig": "0" * 128}),
    "another verb": allowing("get", HASH),
    "another server": field(event(MINE, "upload", HASH, tags=[["server", "elsewhere.example"]])),
    "another blob": allowing("upload", "0" * 64),
    "no blob": allowing("upload"),
    "another case of the blob": allowing("upload", HASH.upper()),
}


@pytest.mark.parametrize("fields", BAD.values(), ids=list(BAD))
def test_bad_events(api: TestApp, fields: dict[str, str]) -> None:
    """An event that does not allow this is refused (401), with a reason for the person; see test_nostr."""
    assert refused(put(api, {**fields, "X-SHA-256": HASH}), 401)
    assert not list(api.app.store.iterate())


def test_unknown_keys_and_scopes(api: TestApp) -> None:
    """A key that is not listed, or lacks the scope, is refused (403)."""
    stranger = nostr.PrivateKey(b"\x03" * 32)
    refused(put(api, allowing("upload", HASH, key=stranger)), 403)
    refused(put(api, allowing("upload", HASH, key=OTHERS)), 403)


def test_the_server_of_an_event(api: TestApp, config: Config) -> None:
    """An event for several servers is valid on each, whatever their port and the case of their name."""
    tags = [["server", "elsewhere.example"], ["server", "localhost"], ["-"]]
    fields = field(event(MINE, "upload", HASH, tags=tags))
    assert put(api, fields).status_code == 201
    assert put(api, {**fields, "Host": "LocalHost:8000"}).status_code == 200
    refused(put(api, {**fields, "Host": "blobs.example"}), 401)
    # A Host field that somebody else chooses does not count for a server that knows its name.
    known = TestApp(create_app(replace(config, public_url="https://Blobs.example:444")))
    refused(put(known, fields), 401)
    told = put(known, field(event(MINE, "upload", HASH, tags=[["server", "blobs.example"]])))
    assert (told.status_code, told.json["url"]) == (200, f"https://Blobs.example:444/{HASH}.png")


def test_an_event_again(api: TestApp) -> None:
    """An event holds until it expires, for the blob that it names and for no other."""
    up, down = allowing("upload", HASH), allowing("delete", HASH)
    for _ in range(2):
        assert put(api, up).status_code == 201
        assert api.delete(f"/{HASH}", headers=down).json["size"] == len(DATA)
    other = hashlib.sha256(b"other").hexdigest()
    put(api, allowing("upload", other), b"other")
    refused(api.delete(f"/{other}", headers=down, expect_errors=True), 401)
    refused(api.delete(f"/{HASH}", headers=down, expect_errors=True), 404)
    # Several hashes in an event delete no more than the one in the URL (BUD-12).
    put(api, up)
    api.delete(f"/{HASH}", headers=allowing("delete", HASH, other), status=200)
    assert api.get(f"/{other}").body == b"other"


def test_limits(config: Config) -> None:
    """Uploads without a length are taken; those that are too large or cut short leave nothing."""
    api = TestApp(create_app(replace(config, max_size=20)))
    large = DATA * 2
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}

    def send(data: bytes, **more: Any) -> Any:
        signed = allowing("upload", hashlib.sha256(data).hexdigest())["Authorization"]
        environ = {"wsgi.input": io.BytesIO(data), "HTTP_AUTHORIZATION": signed, **more}
        return api.request("/upload", method="PUT", environ=environ, expect_errors=True)

    refused(send(DATA, CONTENT_LENGTH="19"), 400)
    refused(send(large, CONTENT_LENGTH=str(len(large))), 413)
    refused(send(large, **chunked), 413)
    assert not list(api.app.store.iterate())
    told = send(DATA, SCRIPT_NAME="/mount", **chunked)
    assert (told.status_code, told.json["url"]) == (201, f"http://localhost/mount/{HASH}.bin")


def test_a_store_that_is_read_only(api: TestApp, config: Config) -> None:
    """A store that is read-only lets nobody upload or delete, and says so before an upload."""
    put(api, allowing("upload", HASH))
    api = TestApp(create_app(replace(config, read_only=True)))
    assert api.get(f"/{HASH}").body == DATA
    refused(put(api, allowing("upload", HASH)), 403)
    refused(api.delete(f"/{HASH}", headers=allowing("delete", HASH), expect_errors=True), 403)
    fields = {**allowing("upload", HASH), "X-Content-Length": "13"}
    assert "read-only" in refused(api.head("/upload", headers=fields, expect_errors=True), 403)


def test_no_host(api: TestApp) -> None:
    """Without a host there is no URL to answer with, which is found out before the body is read."""
    signed = allowing("upload", HASH)["Authorization"]
    answer = api.request(
        "/upload",
        method="PUT",
        body=DATA,
        environ={"HTTP_HOST": "", "HTTP_AUTHORIZATION": signed},
        expect_errors=True,
    )
    refused(answer, 400)
    assert not list(api.app.store.iterate())


def test_what_a_browser_adds(api: TestApp) -> None:
    """A password or a cookie counts for nothing, and a huge field is refused as what it is."""
    refused(put(api, {"Cookie": "session=1"}), 401)
    refused(put(api, {"Authorization": "Basic bWU6dG9rZW4="}), 401)
    refused(put(api, {"Authorization": f"Nostr {'a' * 9000}"}), 431)


def test_several_hashes(api: TestApp) -> None:
    """With several hashes in the event, X-SHA-256 has to say which one is meant."""
    refused(put(api, allowing("upload", HASH, "0" * 64)), 400)
    assert put(api, {**allowing("upload", HASH, "0" * 64), "X-SHA-256": HASH}).status_code == 201
    refused(put(api, {**allowing("upload", HASH), "X-SHA-256": HASH.upper()}), 400)
    refused(put(api, {**allowing("upload", HASH), "X-SHA-256": "1" * 64}), 401)
    for hashes in ((), ("short",), (HASH.upper(),)):
        refused(put(api, allowing("upload", *hashes)), 401)
    assert put(api, allowing("upload", HASH, "short")).status_code == 200
    refused(put(api, {**allowing("upload", HASH), "Content-Type": "multipart/form-data; boundary=a"}), 415)


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
        ({"X-Content-Length": "-1"}, 400),
        ({"X-Content-Length": "9" * 30}, 400),
        ({"X-Content-Type": "application/pdf"}, 200),
        ({"X-Content-Type": "multipart/form-data; boundary=a"}, 415),
        ({"X-SHA-256": "short"}, 400),
        ({"X-SHA-256": None}, 200),
        ({"X-SHA-256": "0" * 64}, 401),
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
    for path in ("/upload", f"/{HASH}", f"/{HASH}.png"):
        fields = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
        answer = api.options(path, headers=fields, status=204)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        methods = set(answer.headers["Access-Control-Allow-Methods"].split(", "))
        assert methods >= {"GET", "HEAD", "PUT", "DELETE"}
        names = set(answer.headers["Access-Control-Allow-Headers"].split(", "))
        assert names >= {"Authorization", "*"}
    far = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    answer = put(api, {**allowing("upload", HASH), **far})
    assert answer.status_code == 201
    assert "X-Reason" in answer.headers["Access-Control-Expose-Headers"]
    refused(put(api, far), 401)
    assert api.get(f"/{HASH}").headers["Access-Control-Allow-Origin"] == "*"
    api.delete(f"/{HASH}", headers={**allowing("delete", HASH), **far}, status=200)


def test_the_description(api: TestApp) -> None:
    """openapi.json describes each route with its methods and scope, and is valid."""
    answer = api.get("/openapi.json")
    document = answer.json
    validate(document)
    assert document["info"]["version"] == __version__
    assert api.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    described = {
        (path, method, tuple(scope for one in operation["security"] for scope in one["nostr"]))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }
    wanted = set()
    for rule in TABLE:
        path = re.sub(r"<[a-z]+:([a-z]+)_?>", r"{\1}", rule.path)
        for method in [rule.method.lower(), *["head"] * (rule.method == "GET")]:
            wanted.add((path, method, (rule.scope,) if rule.scope else ()))
    assert described == wanted


def test_of_a_host_application(config: Config) -> None:
    """A host application may decide itself who may do what; X-SHA-256 is checked all the same."""
    api = TestApp(create_app(replace(config, tokens=None, public_read=False), lambda environ: EVERYTHING))
    refused(put(api, {"X-SHA-256": HASH}, b"other"), 409)
    refused(put(api, {"X-SHA-256": HASH.upper()}), 400)
    assert put(api, {"X-SHA-256": HASH}).status_code == 201
    assert put(api, {}, b"other").status_code == 201
    # What it goes by may be a cookie, which a browser adds to what any page sends.
    refused(put(api, {"Cookie": "a=1", "Sec-Fetch-Site": "cross-site", "Origin": "https://a.example"}), 403)


def test_what_it_needs(config: Config) -> None:
    """Without the protocol, the keys or sha256 the service does not start."""
    for changed, told in (
        ({"protocols": ()}, "WSGI_STORE_PROTOCOLS"),
        ({"tokens": None, "public_read": False}, "WSGI_STORE_TOKENS"),
        ({"hash": Algorithm.MD5}, "WSGI_STORE_PROTOCOLS: blossom: .*sha256"),
    ):
        with pytest.raises(ConfigError, match=told):
            create_app(replace(config, **changed))


def test_without_coincurve(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, only a host application that authorizes requests itself can have the service."""
    monkeypatch.setitem(sys.modules, "coincurve", None)
    monkeypatch.delitem(sys.modules, "wsgi_store.protocols.nostr")
    with pytest.raises(ConfigError, match="install the extra blossom"):
        create_app(config)
    create_app(config, lambda environ: EVERYTHING)


def test_a_start_that_is_refused(tmp_path: Path) -> None:
    """A server ends with one line before it opens a port if the service cannot start."""
    command = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0", BLOSSOM]
    told = "wsgi-store: WSGI_STORE_TOKENS: blossom needs the file with the keys that it accepts"
    assert refusal(command, tmp_path / "store", WSGI_STORE_PROTOCOLS="blossom") == (1, [told])


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
    good = event(MINE, "get")
    changed = {**good, **(anything if isinstance(anything, dict) else {})}
    wrong = [anything, event(MINE, "get", all_tags=anything), *([changed] if changed != good else [])]
    for made in wrong:
        answer = api.get(f"/{HASH}", headers=field(made), expect_errors=True)
        # One may be too long for a header field.
        assert answer.status_code in (401, 431), made
