"""GET of the listing, the index, /healthz and /readyz."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webtest import TestApp

from tests.support.calling import call, held, pages, quick
from wsgi_store import __version__
from wsgi_store.access.grant import SCOPES
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import Blob
from wsgi_store.web.application import Application
from wsgi_store.web.form import FORM_PARTS

pytestmark = [pytest.mark.every_store, pytest.mark.long(38)]
HELLO = b"hello\n"
HELLO_HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
HASH = st.from_regex("[0-9a-fA-F]{64}", fullmatch=True)


def fill(application: Application, count: int) -> list[str]:
    """Store that many blobs; return their hashes in order."""
    for number in range(count):
        call(application, "POST", body=str(number).encode())
    return sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(count))


def test_empty_store(api: TestApp) -> None:
    """An empty store has one empty page."""
    answer = api.get("/files")
    assert answer.json == {"files": [], "next": None}
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"


def test_page(api: TestApp) -> None:
    """A page describes each blob, and `next` starts after its last one."""
    hashes = sorted(api.post("/", data).json["hash"] for data in (b"", HELLO))
    sizes = {hashlib.sha256(b"").hexdigest(): 0, HELLO_HASH: 6}
    files = [
        {
            "hash": hash_,
            "names": {"sha256": hash_},
            "size": sizes[hash_],
            "modified": int(api.get(f"/{hash_}").last_modified.timestamp()),
            "url": f"/{hash_}",
        }
        for hash_ in hashes
    ]
    assert api.get("/files").json == {"files": files, "next": None}
    assert api.get("/files?limit=2").json == {"files": files, "next": None}
    first = api.get("/files?limit=1").json
    assert first == {"files": files[:1], "next": f"/files?after={hashes[0]}&limit=1"}
    assert api.get(first["next"]).json == {"files": files[1:], "next": None}
    head = api.head("/files?limit=1")
    assert head.headers["Content-Length"] == api.get("/files?limit=1").headers["Content-Length"]


@given(limit=st.integers(1, 50))
def test_pages_are_complete(config: Config, limit: int) -> None:
    """Every blob is on exactly one page, in order, and all pages but the last are full."""
    application = quick(config)
    hashes = held(application) or fill(application, 40)
    found = list(pages(application, f"limit={limit}"))
    assert sum(found, []) == hashes
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1]


@given(after=HASH)
def test_after_any_hash(config: Config, after: str) -> None:
    """A listing starts after any hash, stored or not, in either case."""
    application = quick(config)
    hashes = held(application) or fill(application, 40)
    found = sum(pages(application, f"after={after}&limit=7"), [])
    assert found == [hash_ for hash_ in hashes if hash_ > after.lower()]


def test_changes_between_pages(application: Application) -> None:
    """A blob that stays is listed once, even if others are added and removed between pages."""
    hashes = fill(application, 20)
    found = []
    for page in pages(application, "limit=3"):
        found.extend(page)
        call(application, "DELETE", f"/{page[-1]}")
        call(application, "POST", body=f"new {len(found)}".encode())
    assert set(hashes) <= set(found)
    assert found == sorted(set(found))


@pytest.mark.parametrize("after", ["", f"&after={HELLO_HASH}"])
def test_cost_of_a_page(application: Application, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    """A page reads one blob more than it lists, to know whether another page follows."""
    fill(application, 40)
    looked_at = 0
    iterate = application.store.iterate

    def count(after: Digest | None = None) -> Iterator[Blob]:
        nonlocal looked_at
        for blob in iterate(after):
            looked_at += 1
            yield blob

    monkeypatch.setattr(application.store, "iterate", count)
    assert len(call(application, path="/files", query=f"limit=3{after}").json["files"]) == 3
    assert looked_at == 4


def test_default_limit(application: Application) -> None:
    """A page has 100 blobs by default."""
    fill(application, 101)
    assert [len(page) for page in pages(application, "")] == [100, 1]


@pytest.mark.parametrize(
    "limit", ["0", "-1", "1001", "99999", "", "x", "1.5", "²", "%D9%A1", "1e2", " 1", "+1"]
)
def test_malformed_limit(api: TestApp, limit: str) -> None:
    """A malformed or excessive limit gets 400 with the maximum."""
    answer = api.get(f"/files?limit={limit}", status=400).json
    assert (answer["code"], answer["limit"]) == ("bad_request", 1000)


@pytest.mark.parametrize("limit", ["1", "1000", "0007"])
def test_limits(api: TestApp, limit: str) -> None:
    """Limits from 1 to 1000 are accepted."""
    api.get(f"/files?limit={limit}")


@pytest.mark.parametrize(
    "after", ["", "x", HELLO_HASH[1:], f"{HELLO_HASH}0", "0" * 32, "../..", "%00", "%ff"]
)
def test_malformed_after(api: TestApp, after: str) -> None:
    """A malformed `after` gets 400."""
    assert api.get(f"/files?after={after}", status=400).json["code"] == "bad_request"


@pytest.mark.parametrize("prefix, quoted", [("/data", "/data"), ("/\xc3\xbc\xff", "/%C3%BC%FF")])
def test_mounted(application: Application, prefix: str, quoted: str) -> None:
    """URLs in a page and in the index start with the mount point."""
    hashes = fill(application, 2)
    page = call(application, path="/files", query="limit=1", SCRIPT_NAME=prefix).json
    assert page["files"][0]["url"] == f"{quoted}/{hashes[0]}"
    assert page["next"] == f"{quoted}/files?after={hashes[0]}&limit=1"
    index = call(application, SCRIPT_NAME=prefix).json
    assert all(link.startswith(f"{quoted}/") for link in index["links"].values())


@pytest.mark.parametrize("max_size", [None, 1000])
@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.BLAKE2B])
def test_index(config: Config, max_size: int | None, algorithm: Algorithm) -> None:
    """The index has the service's version, algorithm, limits and links."""
    application = create_app(replace(config, max_size=max_size, hash=algorithm))
    answer = call(application)
    assert answer.json == {
        "service": "wsgi_store",
        "version": __version__,
        "algorithm": algorithm.value,
        "names": [],
        "read_only": False,
        "scopes": sorted(SCOPES - {"link"}),
        "limits": {
            "max_size": max_size,
            "max_form_size": None,
            "max_form_parts": FORM_PARTS,
            "upload_expires": 86400,
            "max_hashes": 10_000,
            "max_hashes_size": 2 << 20,
        },
        "links": {
            "upload": "/",
            "uploads": "/uploads",
            "files": "/files",
            "missing": "/missing",
            "archive": "/archive",
            "health": "/healthz",
            "ready": "/readyz",
            "openapi": "/openapi.json",
        },
    }
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    links = answer.json["links"]
    assert call(application, "OPTIONS", links.pop("uploads")).status == 204
    for link in (links.pop("missing"), links.pop("archive")):
        assert call(application, "POST", link, CONTENT_TYPE="text/plain").status == 200
    for link in links.values():
        assert call(application, path=link).status == 200


@pytest.mark.parametrize("path", ["/", "/files", "/healthz", "/readyz", "/openapi.json"])
def test_head(api: TestApp, path: str) -> None:
    """HEAD has the header of GET and no body."""
    get, head = api.get(path), api.head(path)
    assert head.body == b""
    assert {**head.headers, "X-Request-ID": ""} == {**get.headers, "X-Request-ID": ""}


def test_health(api: TestApp) -> None:
    """A running service is alive, and ready if it can write."""
    for path in ("/healthz", "/readyz"):
        answer = api.get(path)
        assert answer.json == {"status": "ok"}
        assert answer.headers["Cache-Control"] == "no-store"


def test_not_ready(config: Config) -> None:
    """A service without free space is alive but not ready."""
    application = create_app(replace(config, min_free=1 << 62))
    answer = call(application, path="/readyz")
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert call(application, path="/healthz").status == 200
