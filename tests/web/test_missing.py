"""`POST /missing` tells which blobs of a list the store lacks, and renews the others."""

import hashlib
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.access import HELLO, Make, bearer, code, line
from tests.support.calling import Answer, Untouched, call
from wsgi_store.access.grant import SCOPES, Grant
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability
from wsgi_store.web.application import Application
from wsgi_store.web.hash_list import LONGEST, MOST

JSON, TEXT = "application/json", "text/plain"
ABSENT = hashlib.sha256(b"never added").hexdigest()
MD5 = hashlib.md5(b"hello").hexdigest()


@pytest.fixture
def config(root: Path) -> Config:
    """Settings for a store by sha256."""
    return Config(root=str(root), min_free=0, hash=Algorithm.SHA256)


@pytest.fixture(name="holding")
def fixture_holding(application: Application) -> Application:
    """A service that holds one blob."""
    application.receive(b"hello")
    return application


def post(
    application: Application, body: Any, kind: str = JSON, path: str = "/missing", **extra: Any
) -> Answer:
    """Send a list."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return call(application, "POST", path, body=data, CONTENT_TYPE=kind, **extra)


def missing(application: Application, body: Any, kind: str = JSON, query: str = "") -> list[str]:
    """The hashes that the store lacks."""
    answer = post(application, body, kind, query=query)
    assert (answer.status, answer.headers["Content-Type"]) == (200, JSON), answer
    assert answer.headers["Cache-Control"] == "no-store"
    return list(answer.json["missing"])


def refused(application: Application, body: Any, kind: str = JSON, query: str = "") -> dict[str, Any]:
    """The problem with a list."""
    answer = post(application, body, kind, query=query)
    assert (answer.status, answer.json["code"]) == (400, "bad_request"), answer
    return dict(answer.json)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], []),
        ([HELLO], []),
        ([ABSENT, HELLO, ABSENT.upper()], [ABSENT]),
        ([HELLO.upper(), {"hash": ABSENT.upper()}], [ABSENT]),
        ([{"hash": HELLO, "size": 5}, {"hash": HELLO, "size": None}], []),
        ([{"hash": HELLO, "size": 4}], [HELLO]),
        ([{"hash": HELLO, "size": 5.0}, {"hash": ABSENT, "size": 1e18}], [ABSENT]),
        ([{"hash": HELLO, "size": 5}, {"hash": HELLO, "size": 6}], [HELLO]),
        ([{"hash": HELLO, "size": (1 << 63) - 1}, "0" * 64, ABSENT], [HELLO, "0" * 64, ABSENT]),
    ],
)
def test_a_list_in_json(holding: Application, body: object, expected: list[str]) -> None:
    """Each hash that leads to no blob of its size is told once, in lower case, in the order of the list."""
    assert missing(holding, body) == expected
    assert missing(holding, body, "Application/JSON; charset=utf-8") == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", []),
        (f"{HELLO}", []),
        (f"{ABSENT}\n{HELLO} 5\r\n{ABSENT.upper()}\n", [ABSENT]),
        (f"{HELLO} 6\n{HELLO}\t5", [HELLO]),
        (f"{HELLO} 0005\n", []),
    ],
)
def test_a_list_in_lines(holding: Application, body: str, expected: list[str]) -> None:
    """Text has a hash in each line, perhaps with a size."""
    assert missing(holding, body.encode(), TEXT) == expected


def test_an_answer_in_lines(holding: Application) -> None:
    """Whoever prefers text gets a hash in each line."""
    answer = post(holding, ["0" * 64, HELLO, ABSENT], HTTP_ACCEPT="text/plain")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body == f"{'0' * 64}\n{ABSENT}\n".encode()
    assert post(holding, [HELLO], HTTP_ACCEPT="text/plain").body == b""


@pytest.mark.parametrize("path", ["/missing", "/archive"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b""),
        (JSON, b"x"),
        (JSON, b"{}"),
        (JSON, b"null"),
        (JSON, b'"' + HELLO.encode() + b'"'),
        (JSON, b"[" + HELLO.encode() + b"]"),
        (JSON, b'["' + HELLO.encode() + b'"'),
        (JSON, b'\xef\xbb\xbf["' + HELLO.encode() + b'"]'),
        (JSON, json.dumps([HELLO]).encode("utf-16")),
        (JSON, b'["\xff"]'),
        (JSON, b'["\\ud800"]'),
        (JSON, b"[" * 100_000),
        (JSON, b'[{"hash":' * 100_000),
        (JSON, b"[" + b"[]," * 100_000 + b"[]]"),
        (JSON, b"[NaN]"),
        (JSON, b"[null]"),
        (JSON, b"[[]]"),
        (JSON, b"[{}]"),
        (JSON, b"[5]"),
        (JSON, b"[true]"),
        (JSON, b'[""]'),
        (JSON, b'["' + b"0" * 63 + b'"]'),
        (JSON, b'["' + b"g" * 64 + b'"]'),
        (JSON, b'["' + b"0" * 32 + b'"]'),
        (JSON, b'["' + b"0" * 1_000_000 + b'"]'),
        (JSON, '["'.encode() + "\u0661".encode() * 64 + b'"]'),
        (JSON, b'[{"hash": 5}]'),
        (JSON, b'[{"size": 5}]'),
        (JSON, f'[{{"hash": "{HELLO}", "more": 5}}]'.encode()),
        *(
            (JSON, f'[{{"hash": "{HELLO}", "size": {size}}}]'.encode())
            for size in (
                "-1",
                "5.5",
                "true",
                '"5"',
                "[]",
                "1e400",
                str(1 << 63),
                "9" * 5000,
                "NaN",
                "Infinity",
            )
        ),
        (TEXT, b"\n"),
        (TEXT, HELLO.encode() + b"\n\n"),
        (TEXT, HELLO.encode() + b" 5 5\n"),
        (TEXT, HELLO.encode() + b"  hello.txt\n"),
        (TEXT, HELLO.encode() + b" -5\n"),
        (TEXT, HELLO.encode() + b" " + b"9" * 19 + b"\n"),
        (TEXT, HELLO.encode() + b" " + b"9" * 5000 + b"\n"),
        (TEXT, HELLO.encode() + b" \xd9\xa1\n"),
        (TEXT, HELLO.encode() + b"\0"),
        (TEXT, b"\xff"),
        (TEXT, b"x" * 1_000_000),
        (TEXT, b"0" * 32),
    ],
    ids=lambda one: str(one)[:40],
)
def test_malformed_lists(holding: Application, path: str, kind: str, body: bytes) -> None:
    """What is no list of hashes that this store can have gets 400, and a short answer."""
    answer = post(holding, body, kind, path)
    assert (answer.status, answer.json["code"]) == (400, "bad_request"), answer
    assert len(answer.body) < 1000


def test_hashes_of_other_algorithms(holding: Application) -> None:
    """A hash by an algorithm that the store does not keep gets 400, with those that it keeps."""
    assert refused(holding, [HELLO, MD5])["algorithms"] == ["sha256"]


def test_a_member_that_is_given_twice(holding: Application) -> None:
    """The last value counts, as in most readers of JSON (RFC 8259 section 4)."""
    twice = f'[{{"hash": "{ABSENT}", "hash": "{HELLO}", "size": 4, "size": 5}}]'.encode()
    assert not missing(holding, twice)


@pytest.mark.parametrize("path", ["/missing", "/archive"])
@pytest.mark.parametrize("kind", [JSON, TEXT])
def test_too_many_hashes(holding: Application, path: str, kind: str) -> None:
    """Ten thousand hashes are answered, and one more gets 400 with the limit."""
    hashes = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(MOST + 1)]

    def body(number: int) -> bytes:
        if kind == TEXT:
            return "".join(f"{one} 0\n" for one in hashes[:number]).encode()
        return json.dumps([{"hash": one, "size": 0} for one in hashes[:number]]).encode()

    if path == "/missing":
        assert missing(holding, body(MOST), kind) == hashes[:MOST]
    answer = post(holding, body(MOST + 1), kind, path)
    assert (answer.status, answer.json["limit"]) == (400, MOST)
    assert post(holding, json.dumps(hashes).encode(), path=path).status == 400


@pytest.mark.parametrize("path", ["/missing", "/archive"])
def test_large_bodies(holding: Application, path: str) -> None:
    """A body of 2 MiB is read. A larger one gets 413, before it is read if its length is announced."""
    item = json.dumps([HELLO]).encode()
    if path == "/missing":
        assert not missing(holding, item + b" " * (LONGEST - len(item)))
    announced = call(
        holding, "POST", path, body=Untouched(), CONTENT_TYPE=JSON, CONTENT_LENGTH=str(LONGEST + 1)
    )
    body = item + b" " * (LONGEST + 1 - len(item))
    chunked = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    chunked["SERVER_SOFTWARE"] = "gunicorn/27"
    for answer in (announced, post(holding, body, path=path, **chunked)):
        assert (answer.status, answer.json["code"], answer.json["limit"]) == (413, "too_large", LONGEST)


@pytest.mark.parametrize("path", ["/missing", "/archive"])
@pytest.mark.parametrize(
    "kind",
    ["", "text/html", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "x", "*/*"],
)
def test_other_types(holding: Application, path: str, kind: str) -> None:
    """A body of another type gets 415 before it is read."""
    answer = call(holding, "POST", path, body=Untouched(), CONTENT_TYPE=kind, CONTENT_LENGTH="5")
    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/missing", "/archive"])
def test_other_methods(holding: Application, path: str) -> None:
    """The path takes a POST, and a PUT as every path of one segment."""
    for method in ("GET", "HEAD", "DELETE", "PATCH"):
        answer = call(holding, method, path)
        assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST, PUT")
    assert call(holding, "PUT", path, body=b"hello").json["hash"] == HELLO


def test_who_may_ask(make: Make) -> None:
    """The caller needs the scope `read`, and `write` as well to renew; everybody may ask if all may read."""
    lines = line("reader", "read") + line("writer", "write")
    client = make(lines)
    client.post("/", b"hello", headers=bearer("all"))
    asked = [{"hash": HELLO, "size": 5}]
    assert client.post_json("/missing", asked, headers=bearer("reader")).json == {"missing": []}
    assert client.post_json("/missing", asked, headers=bearer("writer"), status=403).json["scope"] == "read"
    for token, scope in (("reader", "write"), ("writer", "read")):
        problem = client.post_json("/missing?renew=true", asked, headers=bearer(token), status=403).json
        assert problem["scope"] == scope
    assert client.post_json("/missing?renew=true", asked, headers=bearer("all")).json == {"missing": []}
    assert code(client.post_json("/missing", asked, status=401)) == "unauthenticated"
    public = make(lines, public_read=True)
    assert public.post_json("/missing", asked).json == {"missing": []}
    assert code(public.post_json("/missing?renew=true", asked, status=401)) == "unauthenticated"


@pytest.mark.parametrize("path", ["/missing", "/archive"])
def test_a_link_is_for_its_blob(make: Make, path: str) -> None:
    """A signed link asks for its own blob, and for no other."""
    client = make()
    client.post("/", b"hello", headers=bearer("all"))
    link = client.post_json("/links", {"hash": HELLO}, headers=bearer("all")).json["link"]
    assert client.post_json(f"{path}?link={link}", [HELLO.upper()]).status_int == 200
    problem = client.post_json(f"{path}?link={link}", [HELLO, ABSENT], status=403).json
    assert (problem["code"], problem["reason"]) == ("denied", "hash")


def test_a_grant_for_one_blob_renews_no_other(config: Config) -> None:
    """Of a host application's grant for one blob both scopes are for that blob."""
    application = create_app(config, authorize=lambda _: Grant(SCOPES, "host", hash=HELLO))
    application.receive(b"hello")
    assert not missing(application, [{"hash": HELLO, "size": 5}], query="renew=true")
    answer = post(application, [{"hash": ABSENT, "size": 5}], query="renew=true")
    assert (answer.status, answer.json["reason"]) == (403, "hash")


def test_a_page_of_another_site_may_not_ask(holding: Application) -> None:
    """Like every request that may change data it is refused to pages of other sites."""
    for kind in (JSON, TEXT):
        answer = post(holding, b"", kind, HTTP_ORIGIN="http://elsewhere.example")
        assert (answer.status, answer.json["code"]) == (403, "cross_origin")


def modified(application: Application) -> float:
    """When the blob was last added, in seconds since the epoch."""
    return application.store.stat(Algorithm.SHA256.parse(HELLO)).modified


@pytest.fixture(name="old")
def fixture_old(holding: Application, root: Path) -> float:
    """When the blob was last added, long ago."""
    past = time.time() - 1000
    os.utime(root / HELLO[:2] / HELLO, (past, past))
    return modified(holding)


@pytest.mark.usefixtures("old")
def test_renewed_blobs(holding: Application) -> None:
    """Those that are there count as uploaded now, and the others are missing."""
    now = time.time()
    asked = [{"hash": ABSENT, "size": 5}, {"hash": HELLO.upper(), "size": 5}]
    assert missing(holding, asked, query="renew=true") == [ABSENT]
    assert modified(holding) > now - 10


def test_what_is_not_renewed(holding: Application, old: float) -> None:
    """Neither a blob of another size, nor one of two sizes, nor without that the caller asks for it."""
    right, wrong = {"hash": HELLO, "size": 5}, {"hash": HELLO, "size": 6}
    assert missing(holding, [wrong], query="renew=true") == [HELLO]
    assert missing(holding, [right, wrong], query="renew=true") == [HELLO]
    assert missing(holding, [right]) == missing(holding, [right], query="renew=false") == []
    for query in ("renew", "renew=", "renew=1", "renew=True"):
        refused(holding, [right], query=query)
    assert modified(holding) == old


def test_renewing_needs_sizes(holding: Application, old: float) -> None:
    """A hash without a size gets 400 with a reason, and nothing is renewed."""
    asked = f"{HELLO} 5\n{ABSENT}\n".encode()
    assert refused(holding, asked, TEXT, "renew=true")["reason"] == "size"
    assert refused(holding, [HELLO], query="renew=true")["reason"] == "size"
    assert modified(holding) == old
    assert not missing(holding, f"{HELLO} 5".encode(), TEXT, "renew=true")


def test_renewing_by_a_weak_hash(config: Config, root: Path) -> None:
    """A hash by md5 is missing, because a different file may have it; one by sha256 renews the same blob."""
    application = create_app(replace(config, hash=Algorithm.MD5, names=(Algorithm.SHA256,)))
    application.receive(b"hello")
    asked = [{"hash": MD5, "size": 5}, {"hash": HELLO, "size": 5}]
    os.utime(root / MD5[:2] / MD5, (1, 1))
    assert missing(application, asked, query="renew=true") == [MD5]
    assert modified(application) > 1
    assert not missing(application, asked)
    assert missing(application, [{"hash": HELLO, "size": 4}, HELLO]) == [HELLO]


def test_a_read_only_store(holding: Application, config: Config, old: float) -> None:
    """A store that is only read tells what it lacks, and renews nothing."""
    reader = create_app(replace(config, read_only=True))
    asked = [{"hash": HELLO, "size": 5}]
    assert not missing(reader, asked)
    answer = post(reader, asked, query="renew=true")
    assert (answer.status, answer.json["code"]) == (403, "read_only")
    assert modified(holding) == old


def test_a_store_that_cannot_be_read(holding: Application, root: Path) -> None:
    """An absent disk gets 503: its blobs are not missing."""
    shutil.move(root, root.with_name("away"))
    for query in ("", "renew=true"):
        answer = post(holding, [{"hash": HELLO, "size": 5}], query=query)
        assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    shutil.move(root.with_name("away"), root)


SMALL = [b"", b"a", b"hello"]
HASHES = {hashlib.sha256(data).hexdigest(): len(data) for data in [*SMALL, b"absent", b"gone"]}


@given(
    st.sets(st.sampled_from(SMALL)),
    st.lists(st.tuples(st.sampled_from(sorted(HASHES)), st.none() | st.integers(0, 6), st.booleans())),
    st.sampled_from([JSON, TEXT]),
    st.booleans(),
)
def test_any_list(
    tmp_path_factory: pytest.TempPathFactory,
    held: set[bytes],
    asked: list[tuple[str, int | None, bool]],
    kind: str,
    renews: bool,
) -> None:
    """The answer is the same as that of a dict, however the list is written."""
    root = tmp_path_factory.mktemp("any")
    application = create_app(
        Config(root=str(root / "store"), min_free=0, hash=Algorithm.SHA256, durability=Durability.NONE)
    )
    there = {application.receive(data).digest.hex: len(data) for data in held}
    items = [(hash_.upper() if upper else hash_, size) for hash_, size, upper in asked]
    if kind == TEXT:
        lines = [f"{one}\n" if size is None else f"{one} {size}\n" for one, size in items]
        body = "".join(lines).encode()
    else:
        listed = [one if size is None else {"hash": one, "size": size} for one, size in items]
        body = json.dumps(listed).encode()
    query = "renew=true" if renews else ""
    if renews and {one for one, _, _ in asked} - {one for one, size, _ in asked if size is not None}:
        assert refused(application, body, kind, query)["reason"] == "size"
        return
    lacks = {one for one, size, _ in asked if one not in there or size not in (None, there[one])}
    expected = [one for one in dict.fromkeys(one for one, _, _ in asked) if one in lacks]
    assert missing(application, body, kind, query) == expected
