"""Descriptions of blobs by Metalink (RFC 5854), and digests that clients ask for."""

import base64
import hashlib
from dataclasses import replace
from urllib.parse import unquote, urlencode
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.access import Make, bearer, line
from tests.support.calling import call
from tests.support.kinds import BucketKind
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.web.application import Application
from wsgi_store.web.digest_fields import wanted, wanted_most

SPACE = "{urn:ietf:params:xml:ns:metalink}"
DATA = b"some bytes " * 200_000
HASH, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()


@pytest.fixture(name="api")
def fixture_api(config: Config) -> Application:
    """A service with a blob of several pieces and two names."""
    application = create_app(replace(config, hash=Algorithm.SHA256, names=(Algorithm.MD5,)))
    application.receive(DATA)
    return application


def described(api: Application, path: str = f"/{HASH}.meta4", **fields: str) -> ElementTree.Element:
    """The file in a Metalink."""
    answer = call(api, path=path, **{"HTTP_HOST": "store.example", **fields})
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/metalink4+xml"
    (file,) = ElementTree.fromstring(answer.body)
    return file


def text(file: ElementTree.Element, tag: str) -> str:
    """The text of an element."""
    found = file.find(f"{SPACE}{tag}")
    assert found is not None and found.text is not None
    return found.text


def test_what_it_says(api: Application) -> None:
    """It has the size, the hash, the pieces and the URL of the blob."""
    file = described(api, HTTP_HOST="store.example:81", SCRIPT_NAME="/m")
    assert (file.get("name"), text(file, "size")) == (HASH, str(len(DATA)))
    assert [(one.get("type"), one.text) for one in file.findall(f"{SPACE}hash")] == [("sha-256", HASH)]
    assert text(file, "url") == f"http://store.example:81/m/{HASH}"
    pieces = file.find(f"{SPACE}pieces")
    assert pieces is not None and (pieces.get("type"), pieces.get("length")) == ("sha-256", str(1 << 20))
    starts = range(0, len(DATA), 1 << 20)
    assert [one.text for one in pieces] == [
        hashlib.sha256(DATA[at : at + (1 << 20)]).hexdigest() for at in starts
    ]


def test_an_empty_blob(api: Application) -> None:
    """Without any bytes there are no pieces: the list would need one (RFC 5854)."""
    file = described(api, f"/{api.receive(b'').digest.hex}.meta4")
    assert (text(file, "size"), file.find(f"{SPACE}pieces")) == ("0", None)


def test_by_another_name(api: Application) -> None:
    """Asked for by a further name, it has both hashes."""
    file = described(api, f"/{MD5.upper()}.meta4")
    assert [(one.get("type"), one.text) for one in file.findall(f"{SPACE}hash")] == [
        ("sha-256", HASH),
        ("md5", MD5),
    ]
    assert text(file, "url").endswith(f"/{MD5}")


@pytest.mark.parametrize("name", ["a.txt", "<&\"'>.txt", "ünïcode €", "a b;c"])
def test_file_names(api: Application, name: str) -> None:
    """The client saves the blob under a name that is asked for."""
    file = described(api, QUERY_STRING=urlencode({"filename": name}))
    assert file.get("name") == name
    url = text(file, "url")
    assert url.isascii() and unquote(url).endswith(f"/{HASH}/{name}")


@pytest.mark.parametrize("name", ["../a", "a/b", "..", ".", "a\\b", "a\nb", "a\x00b", "\ufffe", "\udcff"])
def test_bad_file_names(api: Application, name: str) -> None:
    """A name that leads elsewhere, or that XML cannot have, is refused."""
    quoted = "".join(f"%{byte:02x}" for byte in name.encode(errors="surrogateescape"))
    answer = call(api, path=f"/{HASH}.meta4", QUERY_STRING=f"filename={quoted}")
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


def test_methods_and_absent_blobs(api: Application) -> None:
    """Only GET and HEAD of a blob that is there; PUT stores a file of this name."""
    head = call(api, "HEAD", f"/{HASH}.meta4", HTTP_HOST="store.example")
    assert (head.status, head.body) == (200, b"")
    assert call(api, path=f"/{'0' * 64}.meta4").json["code"] == "blob_not_found"
    assert call(api, path=f"/{'0' * 128}.meta4").status == 404
    assert call(api, "DELETE", f"/{HASH}.meta4").status == 405
    assert call(api, "PUT", f"/{HASH}.meta4", body=b"a file").status == 200


def test_links_and_scopes(make: Make) -> None:
    """It takes what reading the blob takes; a signed link leads to signed bytes."""
    api = make(line("reader", "read") + line("writer", "write"))
    api.post("/", DATA, headers=bearer("all"))
    api.get(f"/{HASH}.meta4", status=401)
    api.get(f"/{HASH}.meta4", headers=bearer("writer"), status=403)
    api.get(f"/{HASH}.meta4", headers=bearer("reader"))
    link = api.post_json("/links", {"hash": HASH}, headers=bearer("all")).json["url"]
    query = link.partition("?")[2]
    (file,) = ElementTree.fromstring(api.get(f"/{HASH}.meta4?{query}").body)
    assert text(file, "url").endswith(f"/{HASH}?{query}")
    assert api.get(text(file, "url").partition("localhost")[2].removeprefix(":80")).body == DATA


def test_a_request_without_a_host(api: Application) -> None:
    """Its answer would have wrong URLs."""
    assert call(api, path=f"/{HASH}.meta4").json["code"] == "bad_request"


def test_a_bucket(config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A store in a bucket hashes no pieces, and says why."""
    root = tmp_path_factory.mktemp("bucket")
    BucketKind().open(root, Algorithm.SHA256)
    api = create_app(replace(config, root=BucketKind().url(root), s3_staging=str(root)))
    receipt = api.receive(b"hello")
    answer = call(api, path=f"/{receipt.digest.hex}.meta4")
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert "directory" in answer.json["detail"]


def base64_of(name: str, data: bytes = DATA) -> str:
    """The digest of the blob as in a field."""
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


@pytest.mark.parametrize(
    ("field", "digest"),
    [
        ("SHA-256", "SHA-256"),
        ("sha-256", "SHA-256"),
        ("md5;q=0.3, SHA-256;q=1, unixsum", "SHA-256"),
        ("MD5 ; q=0.7,sha-256;q=0.2", "MD5"),
        ("SHA-512;q=1,SHA-256;q=0.1", "SHA-256"),
        ("SHA-512", None),
        ("SHA-256;q=0", None),
        ("SHA-256;q=1.2.3", None),
        (",;q=,==", None),
    ],
)
def test_want_digest(api: Application, field: str, digest: str | None) -> None:
    """Clients of RFC 3230, such as aria2c, get the digest that they want most of those that are known."""
    for method in ("GET", "HEAD"):
        for fields in ({}, {"HTTP_RANGE": "bytes=1-5"}):
            answer = call(api, method, f"/{MD5}", HTTP_WANT_DIGEST=field, **fields)
            key = {"SHA-256": "sha256", "MD5": "md5", None: ""}[digest]
            assert answer.headers.get("Digest") == (f"{digest}={base64_of(key)}" if digest else None)


@pytest.mark.parametrize(
    ("field", "keys"),
    [
        ("sha-256=5", ["sha-256"]),
        ("sha-256=1, md5=10", ["sha-256", "md5"]),
        ("md5=3", ["md5"]),
        ("sha-512=3", ["sha-256", "md5"]),
        ("md5=0", ["sha-256"]),
        ("unknown, 7;;", ["sha-256", "md5"]),
    ],
)
def test_want_repr_digest(api: Application, field: str, keys: list[str]) -> None:
    """Clients of RFC 9530 choose among the digests that are known."""
    answer = call(api, path=f"/{MD5}", HTTP_WANT_REPR_DIGEST=field)
    found = answer.headers["Repr-Digest"]
    assert found == ", ".join(f"{key}=:{base64_of(key.replace('-', ''))}:" for key in keys)


@given(
    st.text() | st.lists(st.sampled_from(["sha-256", "MD5", ";q=", "=", ",", "0", "1.5", " "])).map("".join)
)
def test_any_preferences(field: str) -> None:
    """Whatever a client wants, it gets some of the digests or none."""
    digests = [Algorithm.SHA256.parse(HASH), Algorithm.MD5.parse(MD5)]
    assert set(wanted(digests, field)) <= set(digests)
    assert wanted_most(digests, field).partition("=")[0] in ("SHA-256", "MD5", "")


def test_nobody_asked(api: Application) -> None:
    """Without those fields an answer has no Digest, and all digests that are known."""
    answer = call(api, path=f"/{MD5}")
    assert "Digest" not in answer.headers and answer.headers["Repr-Digest"].count(", ") == 1
