"""GET, HEAD and DELETE of a blob, under both spellings of its URL."""

import base64
import os
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from webtest import TestApp

from tests.support.calling import call, held
from tests.support.kinds import digest_of
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.web.application import Application

pytestmark = pytest.mark.every_store
HELLO = b"hello\n"
HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
SPELLINGS = [
    f"/{HASH}",
    f"/{HASH.upper()}",
    f"/{HASH}/",
    f"/?hash={HASH}",
    f"/?x=1&hash={HASH.upper()}&filename=",
]
NAMED = [
    f"/{HASH}/a.txt",
    f"/?hash={HASH}&filename=a.txt",
    f"/?filename=a.txt&hash={HASH}",
    f"/{HASH}/a.txt?filename=b.html",
]
LARGE = os.urandom(70_000)


@pytest.mark.on_disk
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_get(api: TestApp, config: Config, spelling: str) -> None:
    """GET sends a blob with exactly the fields that describe it, protect the reader and allow caching."""
    api.post("/", HELLO)
    answer = api.get(spelling)
    assert (answer.status, answer.body) == ("200 OK", HELLO)
    headers = dict(answer.headers)
    assert len(headers.pop("X-Request-ID")) == 16
    modified = parsedate_to_datetime(headers.pop("Last-Modified")).timestamp()
    assert modified == int(os.stat(Path(config.root, HASH[:2], HASH)).st_mtime)
    assert headers == {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": "attachment",
        "Content-Length": "6",
        "ETag": f'"{HASH}"',
        "Repr-Digest": "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:",
        "Cache-Control": "public, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


@pytest.mark.parametrize("data", [b"", HELLO, LARGE])
def test_head(api: TestApp, data: bytes) -> None:
    """HEAD has the same header as GET, including digest and length, and no body."""
    url = api.post("/", data).json["url"]
    for path in (url, f"{url}/a.txt", f"/?hash={url[1:]}", f"/?hash={url[1:]}&filename=a.txt"):
        get, head = api.get(path), api.head(path)
        assert get.body == data
        assert (head.status_int, head.body) == (200, b"")
        assert {**head.headers, "X-Request-ID": ""} == {**get.headers, "X-Request-ID": ""}


@pytest.mark.parametrize("spelling", NAMED)
def test_file_name(api: TestApp, spelling: str) -> None:
    """A file name in the URL sets the type and the disposition of the same blob."""
    api.post("/", HELLO)
    answer = api.get(spelling)
    assert answer.body == HELLO
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "inline; filename=a.txt"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_repr_digest(config: Config, algorithm: Algorithm) -> None:
    """Repr-Digest uses the key of RFC 9530 and is left out for algorithms without one."""
    application = create_app(replace(config, hash=algorithm))
    path = call(application, "POST", body=HELLO).json["url"]
    keys = {"md5": "md5", "sha1": "sha", "sha256": "sha-256", "sha512": "sha-512"}
    raw = digest_of(algorithm, HELLO).raw
    expected = None
    if algorithm not in (Algorithm.BLAKE2B, Algorithm.BLAKE3):
        expected = f"{keys[algorithm.value]}=:{base64.b64encode(raw).decode()}:"
    for method in ("GET", "HEAD"):
        assert call(application, method, path).headers.get("Repr-Digest") == expected


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_delete(api: TestApp, application: Application, spelling: str) -> None:
    """DELETE removes a blob once, by any spelling of its URL, and returns its size."""
    api.post("/", HELLO)
    answer = api.delete(spelling)
    assert (answer.status_int, answer.json) == (200, {"hash": HASH, "names": {"sha256": HASH}, "size": 6})
    assert answer.headers["Cache-Control"] == "no-store"
    assert not held(application)
    assert api.delete(spelling, status=404).json["code"] == "blob_not_found"
    assert api.get(spelling, status=404).json["code"] == "blob_not_found"


def test_delete_under_a_file_name(api: TestApp, application: Application) -> None:
    """A path with a file name allows only reading."""
    api.post("/", HELLO)
    assert api.delete(f"/{HASH}/a.txt", status=405).headers["Allow"] == "GET, HEAD, OPTIONS, PUT"
    assert held(application) == [HASH]
    assert api.delete(f"/?hash={HASH}&filename=a.txt").json["hash"] == HASH


def test_delete_while_sent(application: Application) -> None:
    """A blob removed and stored again has the same URL."""
    path = call(application, "POST", body=LARGE).json["url"]
    assert call(application, "DELETE", path).json["size"] == len(LARGE)
    assert call(application, "POST", body=LARGE).json["created"] is True
    assert call(application, path=path).body == LARGE


def test_mounted(application: Application) -> None:
    """A mounted service ignores the prefix when it routes."""
    call(application, "POST", body=HELLO, SCRIPT_NAME="/data")
    assert call(application, path=f"/{HASH}", SCRIPT_NAME="/data").body == HELLO


@pytest.mark.on_disk
def test_blob_that_is_no_file(application: Application, config: Config) -> None:
    """A directory in the place of a blob is answered 404."""
    Path(config.root, HASH[:2], HASH).mkdir(parents=True)
    for method in ("GET", "HEAD", "DELETE"):
        assert call(application, method, f"/{HASH}").status == 404
