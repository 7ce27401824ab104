"""PUT of a file under its hash, and under a name that is nothing but a name."""

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webtest import TestApp

from tests.support.access import KEY, Make, bearer, code, line, soon
from tests.support.calling import Answer, Body, Untouched, call, held, quick
from wsgi_store.access.signing import Signer
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.web.application import Application

pytestmark = pytest.mark.every_store
DATA = b"hello\n"
FORM = {"CONTENT_TYPE": "multipart/form-data; boundary=b"}
LENGTH = {"CONTENT_LENGTH": "6"}
TIME = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
DATES = {None: None, "before": formatdate(TIME - 1, usegmt=True), "equal": formatdate(TIME, usegmt=True)}
# Segments that mean something to another method, or look nearly like a hash.
SEGMENTS = [
    "files",
    "uploads",
    "healthz",
    "readyz",
    "metrics",
    "openapi.json",
    ".",
    "..",
    "-",
    "*",
    "store.json",
    "a" * 31,
    "a" * 129,
    f"{'a' * 32}.txt",
    f"{'a' * 32}\n",
    "g" * 32,
]


class Meanwhile(Body):
    """A request body whose first read lets something else happen."""

    def __init__(self, data: bytes, happens: Callable[[], object]) -> None:
        super().__init__(data)
        self._happens: Callable[[], object] | None = happens

    def read(self, size: int | None = -1, /) -> bytes:
        """Let it happen, then return what was asked for."""
        if self._happens is not None:
            self._happens()
            self._happens = None
        return super().read(size)


def name(application: Application, data: bytes) -> str:
    """The hash of data in this store."""
    hasher = application.store.algorithm.new()
    hasher.update(data)
    return hasher.hexdigest()


def put(application: Application, path: str, body: Any = DATA, **extra: Any) -> Answer:
    """Send a PUT with a length."""
    return call(application, "PUT", path, body=body, **LENGTH, **extra)


@pytest.mark.parametrize("filename", ["", "/", "/ä b.txt", "/a/b"])
def test_created_and_held(application: Application, filename: str) -> None:
    """The first PUT creates the blob, the second finds it; both answer like POST."""
    hash_ = name(application, DATA)
    path = f"/{hash_.upper()}{filename}".encode().decode("latin-1")
    answers = [put(application, path), put(application, path)]
    assert [answer.status for answer in answers] == [201, 200]
    posted = call(application, "POST", body=DATA).json
    named = {"name": filename[1:]} if len(filename) > 1 else {}
    for answer, created in zip(answers, (True, False), strict=True):
        assert answer.json == {**posted, "created": created, **named}
        assert answer.headers["Location"] == answer.json["url"] == f"/{hash_}"
    assert held(application) == [hash_]
    assert call(application, path=path).body == DATA


def test_plain_text(application: Application) -> None:
    """`Accept: text/plain` asks for the bare hash."""
    hash_ = name(application, DATA)
    for status in (201, 200):
        answer = put(application, f"/{hash_}", HTTP_ACCEPT="text/plain")
        assert (answer.status, answer.body) == (status, f"{hash_}\n".encode())


def test_under_cgi(application: Application) -> None:
    """A CGI server would follow Location, so it gets none (RFC 3875 section 6.2.2)."""
    answer = put(application, f"/{name(application, DATA)}", GATEWAY_INTERFACE="CGI/1.1")
    assert answer.status == 201
    assert "Location" not in answer.headers


@pytest.mark.on_disk
def test_healed(application: Application, config: Config) -> None:
    """PUT replaces a damaged blob and says so."""
    hash_ = name(application, DATA)
    put(application, f"/{hash_}")
    path = Path(config.root, hash_[:2], hash_)
    path.chmod(0o644)
    path.write_bytes(b"cut")
    answer = put(application, f"/{hash_}")
    assert (answer.status, answer.json["healed"]) == (201, True)
    assert call(application, path=f"/{hash_}").body == DATA


def test_other_bytes(application: Application) -> None:
    """Bytes with another hash get 422, and are not stored."""
    hash_ = name(application, b"other\n")
    answer = put(application, f"/{hash_}")
    assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    assert answer.json["expected"].endswith(f":{hash_}")
    assert not held(application)


@pytest.mark.parametrize("digits", [32, 33, 64, 65, 127, 128])
def test_hashes_of_no_blob(config: Config, digits: int) -> None:
    """A hash by an algorithm that the store does not keep gets 404 before the body is read."""
    application = create_app(replace(config, hash=Algorithm.SHA1))
    answer = put(application, f"/{'0' * digits}", Untouched())
    assert (answer.status, answer.json["code"]) == (404, "blob_not_found")
    assert "always a hash" in answer.json["detail"]
    assert answer.json["algorithms"] == ["sha1"]
    assert not held(application)


def test_a_length_that_is_wrong(application: Application) -> None:
    """A body that ends early gets 400, one without a length 411, and nothing is stored."""
    hash_ = name(application, DATA)
    for path in (f"/{hash_}", "/", "/a.txt"):
        assert call(application, "PUT", path, body=DATA, CONTENT_LENGTH="7").json["code"] == "incomplete_body"
        assert call(application, "PUT", path, body=Untouched()).status == 411
        coded = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        # Which of these bytes are missing, only a digest can tell.
        answer = call(application, "PUT", path, body=DATA[:3], CONTENT_LENGTH=None, **coded)
        assert answer.status == (422 if path == f"/{hash_}" else 411)
    assert not held(application)
    answer = call(application, "PUT", f"/{hash_}", body=DATA, CONTENT_LENGTH=None, **coded)
    assert answer.status == 201


@pytest.mark.parametrize("data", [b"", b"x" * 65536, os.urandom((1 << 20) + 1)], ids=len)
def test_sizes(application: Application, data: bytes) -> None:
    """Files of any size are stored, empty ones as well."""
    path = f"/{name(application, data)}"
    length = {"CONTENT_LENGTH": str(len(data))}
    assert call(application, "PUT", "/x", body=data, **length).json["created"] is True
    assert call(application, "PUT", path, body=data, **length).json["created"] is False
    assert call(application, path=path).body == data


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    "value", ["bytes 2-5/6", "bytes 0-5/6", "bytes */6", "", "lines 1-2/3", "\xff" * 9000]
)
def test_part_of_a_file(application: Application, method: str, value: str) -> None:
    """Content-Range says that the body is part of a file: 400 before it is read (RFC 9110 section 14.5)."""
    paths = {"/"} if method == "POST" else {"/", "/a.txt", f"/{name(application, DATA)}"}
    for path in paths:
        for kind in ({}, FORM):
            fields = {"HTTP_CONTENT_RANGE": value, **kind, **LENGTH}
            answer = call(application, method, path, body=Untouched(), **fields)
            assert (answer.status, answer.json["code"]) == (400, "bad_request")
            assert "Content-Range" in answer.json["detail"]


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=b", "Multipart/Form-Data", "multipart/form-data;"]
)
def test_forms(application: Application, kind: str) -> None:
    """A form gets 415 before it is read, because it would have to be taken apart to find the file."""
    for path in ("/", "/a.txt", "/files", f"/{name(application, DATA)}", f"/{name(application, DATA)}/a"):
        answer = put(application, path, Untouched(), CONTENT_TYPE=kind)
        assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")
    # What curl calls the body of --data-binary.
    assert put(application, "/", CONTENT_TYPE="application/x-www-form-urlencoded").json["size"] == 6


def test_other_digests(application: Application) -> None:
    """Digest fields and `?hash=` are checked like those of a POST, contradictions before the body is read."""
    hash_ = name(application, DATA)
    sha1 = "sha=:8nXlA0aM5tN0WqxeB8ehFBLRGfk=:"  # of other bytes
    for path in (f"/{hash_}", "/", "/a.txt"):
        assert put(application, path, HTTP_REPR_DIGEST=sha1).status == 422
        assert put(application, path, Untouched(), HTTP_CONTENT_DIGEST="md5").status == 400
        assert put(application, path, Untouched(), query="hash=0").status == 400
        answer = put(application, path, query=f"hash={name(application, b'other')}")
        assert answer.status == 422
    put(application, f"/{hash_}", Untouched(), query=f"hash={name(application, b'other')}")
    assert not held(application)
    assert put(application, "/", query=f"hash={hash_}").json["created"] is True
    assert put(application, f"/{hash_}", query=f"hash={hash_}").status == 200


@pytest.mark.on_disk
@pytest.mark.parametrize("is_held", [True, False])
def test_conditions(application: Application, config: Config, is_held: bool) -> None:
    """All conditions are evaluated in the order of RFC 9110 section 13.2.2."""
    hash_ = name(application, DATA)
    path = Path(config.root, hash_[:2], hash_)
    tags = {None: None, "same": f'"{hash_}"', "weak": f'W/"{hash_}"', "other": '"0"', "any": "*", "empty": ""}
    for match, none_match, unmodified, modified in itertools.product(tags, tags, DATES, DATES):
        path.unlink(missing_ok=True)
        if is_held:
            put(application, f"/{hash_}")
            os.utime(path, (TIME, TIME))
        refused = (
            match is not None
            and not (is_held and match in ("same", "any"))
            or match is None
            and is_held
            and unmodified == "before"
            or is_held
            and none_match in ("same", "weak", "any")
        )
        fields = {
            "HTTP_IF_MATCH": tags[match],
            "HTTP_IF_NONE_MATCH": tags[none_match],
            "HTTP_IF_UNMODIFIED_SINCE": DATES[unmodified],
            "HTTP_IF_MODIFIED_SINCE": DATES[modified],
        }
        answer = put(application, f"/{hash_}", Untouched() if refused else DATA, **fields)
        assert answer.status == (412 if refused else 200 if is_held else 201), fields
        assert held(application) == ([hash_] if is_held or not refused else [])
        if refused and is_held:
            assert path.stat().st_mtime == TIME


def test_conditions_come_last(config: Config) -> None:
    """What is refused anyway is not refused for a condition (RFC 9110 section 13.2.1)."""
    application = create_app(replace(config, max_size=6))
    path = f"/{name(application, DATA)}"
    put(application, path)
    condition = {"HTTP_IF_NONE_MATCH": "*"}
    assert put(application, path, Untouched(), **condition).status == 412
    for status, fields in [
        (413, {"CONTENT_LENGTH": "7"}),
        (400, {"CONTENT_LENGTH": "x"}),
        (411, {"CONTENT_LENGTH": None}),
        (501, {"HTTP_TRANSFER_ENCODING": "gzip"}),
        (400, {"HTTP_REPR_DIGEST": "md5"}),
        (400, {"HTTP_CONTENT_RANGE": "bytes 0-5/6"}),
        (415, FORM),
    ]:
        fields = {**LENGTH, **condition, **fields}
        assert call(application, "PUT", path, body=Untouched(), **fields).status == status
    assert (
        put(application, path, Untouched(), query=f"hash={name(application, b'x')}", **condition).status
        == 422
    )


def test_another_upload_is_faster(application: Application) -> None:
    """If the blob appears while the body is received, If-None-Match refuses it after all."""
    path = f"/{name(application, DATA)}"
    body = Meanwhile(DATA, lambda: call(application, "POST", body=DATA))
    assert put(application, path, body, HTTP_IF_NONE_MATCH="*").status == 412
    # Without the condition that is no reason to refuse anything.
    call(application, "DELETE", path)
    body = Meanwhile(DATA, lambda: call(application, "POST", body=DATA))
    assert put(application, path, body, HTTP_IF_NONE_MATCH='"0"').status == 200


def test_a_deletion_is_faster(application: Application) -> None:
    """If the blob vanishes while the body is received, If-Match refuses it after all."""
    path = f"/{name(application, DATA)}"
    put(application, path)
    body = Meanwhile(DATA, lambda: call(application, "DELETE", path))
    assert put(application, path, body, HTTP_IF_MATCH="*").status == 412
    assert not held(application)


@pytest.mark.on_disk
def test_one_of_many_is_first(config: Config) -> None:
    """Of many uploads with `If-None-Match: *` at once one gets 201, and all others 412."""
    application = quick(config)
    uploads = 6
    barrier = threading.Barrier(uploads)

    def upload(path: str, data: bytes) -> int:
        body = Meanwhile(data, barrier.wait)
        return put(application, path, body, HTTP_IF_NONE_MATCH="*").status

    with ThreadPoolExecutor(uploads) as pool:
        for number in range(200):
            data = f"{number:06}".encode()
            path = f"/{name(application, data)}"
            done = [pool.submit(upload, path, data) for _ in range(uploads)]
            assert sorted(future.result() for future in done) == [201] + [412] * (uploads - 1)


@pytest.mark.on_disk
def test_tickets(make: Make, config: Config) -> None:
    """A ticket's hash and size hold for PUT; a refused upload leaves the ticket unused."""
    client = make()
    application = create_app(config)
    hash_, other = name(application, b"hello"), name(application, b"other")
    ticket = Signer([KEY]).ticket(soon(), max_size=5, hash_=hash_.upper())
    assert code(client.put(f"/{other}?ticket={ticket}", b"other", status=403)) == "denied"
    assert code(client.put(f"/x?ticket={ticket}", b"other", status=422)) == "digest_mismatch"
    client.put(f"/{hash_}?ticket={ticket}", b"hello!", status=413)
    headers = {"If-Match": "*"}
    client.put(f"/{hash_}?ticket={ticket}", b"hello", headers=headers, status=412)
    answer = client.put(f"/{hash_}?ticket={ticket}", b"hello", status=201)
    assert answer.json["hash"] == hash_
    assert "used" in client.put(f"/{hash_}?ticket={ticket}", b"hello", status=403).json["detail"]
    headers = {**bearer("all"), "If-None-Match": "*"}
    client.put(f"/{hash_}", b"hello", headers=headers, status=412)


@pytest.mark.on_disk
def test_scopes(make: Make) -> None:
    """PUT needs the scope `write`, and neither a link nor a public store gives it."""
    client = make(line("w", "write") + line("others", "read,delete,list,admin"), public_read=True)
    link = Signer([KEY]).link("0" * 64, soon())
    for path in ("/", "/x", f"/{'0' * 64}", f"/{'0' * 64}/x"):
        client.put(path, b"x", status=401)
        assert client.put(path, b"x", headers=bearer("others"), status=403).json["scope"] == "write"
        assert client.put(f"{path}?link={link}", b"x", status=403).json["scope"] == "write"
    assert client.put("/x", b"x", headers=bearer("w")).json["created"] is True


@pytest.mark.on_disk
def test_read_only(config: Config) -> None:
    """A read-only store refuses PUT before its body is read."""
    create_app(config)
    application = create_app(replace(config, read_only=True))
    for path in ("/", "/x", f"/{'0' * 64}"):
        answer = put(application, path, Untouched())
        assert (answer.status, answer.json["code"]) == (403, "read_only")


@pytest.mark.parametrize("segment", SEGMENTS)
def test_segments(application: Application, segment: str) -> None:
    """A segment that is not a hash is a name, whatever it means to other methods."""
    answer = put(application, f"/{segment}")
    assert answer.status == 200
    assert answer.json == {**call(application, "POST", body=DATA).json, "created": True, "name": segment}
    assert answer.headers["Location"] == f"/{name(application, DATA)}"
    assert put(application, f"/{segment}/").json["name"] == segment
    assert held(application) == [name(application, DATA)]


def test_no_segment(application: Application) -> None:
    """PUT on `/` stores without a name."""
    answer = put(application, "/")
    assert answer.status == 200
    assert "name" not in answer.json
    assert answer.json["hash"] == name(application, DATA)


@pytest.mark.on_disk
@given(segment=st.binary(min_size=1, max_size=60).filter(lambda raw: b"/" not in raw), mounted=st.booleans())
@example(b"a" * 4096, False)
@example("ä".encode() * 2048, False)
@example(b"\xff\r\nSet-Cookie: a=b", False)
@example(b"a\0b", True)
@example(b"http://h", False)
def test_names_shape_nothing(config: Config, segment: bytes, mounted: bool) -> None:
    """Any name comes back in the answer, bytes that are not UTF-8 replaced, and has no other effect."""
    application = quick(config)
    prefix = "/blobs" if mounted else ""
    answer = put(application, f"/{segment.decode('latin-1')}", SCRIPT_NAME=prefix)
    if b"/" in segment:
        assert answer.status == 404
        return
    assert answer.status == 200
    told = json.loads(answer.body.decode())
    assert told["name"] == segment.decode("utf-8", "replace")
    hash_ = name(application, DATA)
    assert told["hash"] == hash_
    assert answer.headers["Location"] == told["url"] == f"{prefix}/{hash_}"
    fields = {field: value for field, value in answer.headers.items() if field not in ("X-Request-ID",)}
    assert fields.keys() == {
        "Content-Type",
        "Cache-Control",
        "X-Content-Type-Options",
        "Location",
        "Content-Length",
    }
    assert held(application) == [hash_]


def test_more_than_one_segment(application: Application) -> None:
    """A path of several segments gets 404 before the body is read; a server decodes %2F to a slash."""
    for path in ("/a/b", "/files/a", "/a/b/", f"/a/{name(application, DATA)}"):
        answer = put(application, path, Untouched())
        assert (answer.status, answer.json["code"]) == (404, "not_found")


@pytest.mark.on_disk
def test_what_webtest_checks(api: TestApp) -> None:
    """Answers to PUT fit PEP 3333, and their URL is where the blob is."""
    answer = api.put(f"/{quote('ä b.txt')}", DATA)
    assert api.get(answer.headers["Location"]).body == DATA
    hash_ = hashlib.new(answer.json["algorithm"], b"x").hexdigest()
    assert api.put(f"/{hash_}", b"x", status=201).json["size"] == 1
