"""tus 1.0, sentence by sentence (https://tus.io/protocols/resumable-upload)."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.calling import held
from tests.support.resumable import TUS, checksum, created, folders, offset, tus
from wsgi_store.config import Config
from wsgi_store.store.contract import Durability
from wsgi_store.web.application import Application

HELLO = b"hello world"
HASH = hashlib.sha256(HELLO).hexdigest()
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(HELLO).digest()).decode()}:"
MAX = 1000


@pytest.fixture(name="config")
def fixture_config(root: Path) -> Config:
    """A service with a largest file, which does not wait for the disk."""
    return Config(root=str(root), min_free=0, max_size=MAX, durability=Durability.NONE)


class Case(NamedTuple):
    """A request about an upload that has 5 of 11 bytes, and what answers it.

    `path` is relative to the upload, or absolute. The answer has `fields`: None for one that it lacks, ""
    for any value. `offset` is that of the upload afterwards, None if there is none.
    """

    name: str
    method: str
    sends: dict[str, Any]
    status: int
    fields: Mapping[str, str | None] = MappingProxyType({})
    code: str | None = None
    offset: int | None = 5
    path: str = ""


REST = HELLO[5:]
PATCH: dict[str, Any] = {"body": REST, "UPLOAD_OFFSET": 5}
NEW = {"path": "/uploads"}


def patch(name: str, status: int, *args: Any, offset: int | None = 5, **sends: Any) -> Case:
    """A PATCH with the rest of the file and other fields."""
    return Case(name, "PATCH", PATCH | sends, status, *args, offset=offset)


def post(name: str, status: int, *args: Any, **sends: Any) -> Case:
    """A creation."""
    sends.setdefault("CONTENT_LENGTH", str(len(sends.get("body") or b"")))
    return Case(name, "POST", sends, status, *args, path="/uploads")


BAD = "bad_request"
LENGTH = {"UPLOAD_LENGTH": 11}
ERRONEOUS: dict[str, str | None] = {"Location": None}
CREATED: dict[str, str | None] = {"Location": "", "Upload-Offset": "0", "Upload-Expires": ""}
DONE: dict[str, str | None] = {
    "Upload-Offset": "11",
    "Content-Location": f"/{HASH}",
    "Repr-Digest": DIGEST,
    "Upload-Expires": None,
}
OLD: dict[str, str | None] = {"Tus-Version": "1.0.0"}
CASES = [
    # Core protocol, HEAD
    Case(
        "the offset and the length",
        "HEAD",
        {},
        200,
        {"Upload-Offset": "5", "Upload-Length": "11", "Cache-Control": "no-store", "Upload-Expires": ""},
    ),
    Case("no length is deferred", "HEAD", {}, 200, {"Upload-Defer-Length": None, "Upload-Metadata": None}),
    Case("an unknown upload", "HEAD", {}, 404, {"Upload-Offset": None}, path="/uploads/" + "0" * 32),
    Case("no id", "HEAD", {}, 404, {"Upload-Offset": None}, path="/uploads/anything"),
    # PATCH
    patch("the rest", 204, DONE, offset=11),
    patch("a part", 204, {"Upload-Offset": "6", "Upload-Expires": ""}, body=b"x", offset=6),
    patch("nothing", 204, {"Upload-Offset": "5"}, body=b""),
    patch("no body", 204, {"Upload-Offset": "5"}, body=None, CONTENT_TYPE=TUS),
    patch("a longer type", 204, body=b"x", CONTENT_TYPE=TUS + "; charset=utf-8", offset=6),
    patch("a type in capitals", 204, body=b"x", CONTENT_TYPE=TUS.upper(), offset=6),
    patch("another type", 415, {"Upload-Offset": None}, "unsupported_media_type", CONTENT_TYPE="text/plain"),
    patch("no type", 415, {}, "unsupported_media_type", CONTENT_TYPE=None),
    patch("an offset too small", 409, {"Upload-Offset": "5"}, "offset_mismatch", UPLOAD_OFFSET=4),
    patch("an offset too large", 409, {"Upload-Offset": "5"}, "offset_mismatch", UPLOAD_OFFSET=6),
    patch("the offset 0", 409, {"Upload-Offset": "5"}, "offset_mismatch", UPLOAD_OFFSET=0, body=b"hello"),
    patch("no offset", 400, {}, BAD, UPLOAD_OFFSET=None),
    *[
        patch(f"the offset {text!r}", 400, {}, BAD, UPLOAD_OFFSET=text)
        for text in ("-5", "+5", "5.0", "0x5", "5,5", "5 ", "", "five", "\u0665", "9" * 19)
    ],
    patch("too many bytes", 400, {}, "inconsistent_length", body=REST + b"!"),
    patch("the same length", 204, DONE, **LENGTH, offset=11),
    patch("another length", 400, {}, "inconsistent_length", UPLOAD_LENGTH=12),
    patch("a malformed length", 400, {}, BAD, UPLOAD_LENGTH="x"),
    Case("no such upload", "PATCH", PATCH, 404, {}, "upload_not_found", path="/uploads/" + "0" * 32),
    Case("no upload at all", "PATCH", PATCH, 404, {}, "upload_not_found", path="/uploads/a"),
    # Versions
    *[
        Case(
            f"{method}, version {version}",
            method,
            {"TUS_RESUMABLE": version, **sends},
            412,
            OLD,
            "unsupported_version",
            path=path,
        )
        for version in ("0.2.2", "1.0.1", "1.0", "", "1.0.0, 1.0.0")
        for method, path, sends in (
            ("HEAD", "", {}),
            ("GET", "", {}),
            ("PATCH", "", PATCH),
            ("DELETE", "", {}),
            ("POST", "/uploads", {"UPLOAD_LENGTH": 11, "CONTENT_LENGTH": "0"}),
        )
    ],
    patch("no version", 412, OLD, "unsupported_version", TUS_RESUMABLE=None),
    post("no version", 412, OLD, "unsupported_version", UPLOAD_DEFER_LENGTH=1, TUS_RESUMABLE=None),
    # Creation
    post("a creation", 201, CREATED, **LENGTH),
    post("no length yet", 201, CREATED, UPLOAD_DEFER_LENGTH=1),
    post("nothing about the length", 400, ERRONEOUS, BAD),
    post("both", 400, ERRONEOUS, BAD, UPLOAD_DEFER_LENGTH=1, **LENGTH),
    *[
        post(f"Upload-Defer-Length: {text}", 400, ERRONEOUS, BAD, UPLOAD_DEFER_LENGTH=text)
        for text in ("0", "2", "true", "", "1, 1")
    ],
    *[
        post(f"Upload-Length: {text}", 400, ERRONEOUS, BAD, UPLOAD_LENGTH=text)
        for text in ("-1", "x", "", "1.5", "1e3", "11, 11", "1" * 19)
    ],
    post("the largest file", 201, CREATED, UPLOAD_LENGTH=MAX),
    post("a file too large", 413, ERRONEOUS, "too_large", UPLOAD_LENGTH=MAX + 1),
    post(
        "an empty file",
        201,
        {
            "Location": "",
            "Upload-Offset": "0",
            "Content-Location": f"/{hashlib.sha256(b'').hexdigest()}",
            "Upload-Expires": None,
        },
        UPLOAD_LENGTH=0,
    ),
    *[
        post(f"Upload-Concat: {value}", 400, ERRONEOUS, BAD, UPLOAD_CONCAT=value, UPLOAD_LENGTH=length)
        for value, length in (("partial", 5), ("final;/uploads/a /uploads/b", None))
    ],
    # Creation with upload
    post("a beginning", 201, {"Upload-Offset": "5", "Location": ""}, body=b"hello", **LENGTH),
    post("everything", 201, {**DONE, "Location": ""}, body=HELLO, **LENGTH),
    post("more than announced", 400, ERRONEOUS, "inconsistent_length", body=HELLO + b"!", **LENGTH),
    post(
        "of another type", 415, ERRONEOUS, "unsupported_media_type", body=b"h", CONTENT_TYPE="a/b", **LENGTH
    ),
    post("of no type", 415, ERRONEOUS, "unsupported_media_type", body=b"h", CONTENT_TYPE=None, **LENGTH),
    post("no body, of any type", 201, CREATED, CONTENT_TYPE="application/json", **LENGTH),
    post("with an offset", 201, {"Upload-Offset": "5"}, body=b"hello", UPLOAD_OFFSET=3, **LENGTH),
    # Metadata
    *[
        post(f"Upload-Metadata: {value}", 201, CREATED, UPLOAD_METADATA=value, **LENGTH)
        for value in ("a", "a ", "a YQ==", "a YQ==,b", "a YQ==, b YQ==", "", "a/b-c!* //8=")
    ],
    *[
        post(f"Upload-Metadata: {value}", 400, ERRONEOUS, BAD, UPLOAD_METADATA=value, **LENGTH)
        for value in (",", "a,", ",a", " ", "a YQ== YQ==", "a,a", "a YQ==,a Yg==", "a YQ", "a =", "a -_8=")
        + ("a Y\xe4==", "\xe4 YQ==", "a\tYQ==", "a YQ==\r\nX: y", "a YQ=a", "a YQ==;b")
    ],
    post("too much", 431, ERRONEOUS, "head_too_large", UPLOAD_METADATA="a " + "YWFh" * 2100, **LENGTH),
    # Checksums
    *[
        patch(f"{name}", 204, DONE, UPLOAD_CHECKSUM=checksum(REST, name), offset=11)
        for name in ("sha1", "md5", "sha256", "sha512")
    ],
    *[
        patch(
            f"a wrong {name}",
            460,
            {"Upload-Offset": "5"},
            "checksum_mismatch",
            UPLOAD_CHECKSUM=checksum(b"other", name),
        )
        for name in ("sha1", "md5", "sha256", "sha512")
    ],
    *[
        patch(f"Upload-Checksum: {value}", 400, {}, BAD, UPLOAD_CHECKSUM=value)
        for value in ("", "sha1", "sha1 ", "crc32 AAAAAA==", "SHA1 " + checksum(REST)[5:], "sha1 AAAA")
        + (checksum(REST)[:-1], checksum(REST).replace(" ", "  "), checksum(REST) + ", md5 x", "sha1:AAAA")
    ],
    post(
        "a checked beginning", 201, {"Upload-Offset": "5"}, UPLOAD_CHECKSUM=checksum(b"hello"), body=b"hello",
        **LENGTH,
    ),
    post("an unknown checksum", 400, ERRONEOUS, BAD, UPLOAD_CHECKSUM="crc32 AA==", body=b"hello", **LENGTH),
    # Termination
    Case("the end", "DELETE", {"CONTENT_LENGTH": "0"}, 204, {"Upload-Offset": None}, offset=None),
    Case("no upload to end", "DELETE", {}, 404, {}, "upload_not_found", path="/uploads/" + "0" * 32),
    # Errors of routing
    Case("PUT", "PUT", {"body": b""}, 405, {"Allow": "DELETE, GET, HEAD, OPTIONS, PATCH"}),
    Case("POST to an upload", "POST", PATCH, 405, {"Allow": ""}, "method_not_allowed"),
    Case("PATCH to all", "PATCH", PATCH, 405, {"Allow": "OPTIONS, POST, PUT"}, "method_not_allowed", **NEW),
    Case("HEAD of all", "HEAD", {}, 405, {"Allow": "OPTIONS, POST, PUT"}, **NEW),
    Case("DELETE of all", "DELETE", {}, 405, {}, "method_not_allowed", **NEW),
    Case("something deeper", "HEAD", {}, 404, path="/uploads/a/b"),
    Case("a malformed Host", "HEAD", {"HOST": "a b"}, 400),
    Case("another site", "PATCH", PATCH | {"ORIGIN": "http://evil.example"}, 403, {}, "cross_origin"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}-{case.name}"[:60])
def test_a_case(application: Application, case: Case) -> None:
    """Each case of the table is answered as it says."""
    path = created(application, **LENGTH)
    tus(application, "PATCH", path, b"hello", UPLOAD_OFFSET=0)
    answer = tus(application, case.method, case.path or path, **case.sends)
    assert answer.status == case.status, answer
    assert answer.headers.get_all("Tus-Resumable") == ["1.0.0"]
    for name, value in case.fields.items():
        assert name in answer.headers if value == "" else answer.headers.get(name) == value, name
        assert len(answer.headers.get_all(name)) <= 1, name
    if case.method != "HEAD" and case.status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["status"] == case.status
        assert case.code is None or answer.json["code"] == case.code
    else:
        assert not answer.body
    if case.offset is None:
        assert tus(application, "HEAD", path).status == 404
    else:
        assert offset(application, path) == case.offset
    # No refused creation leaves an upload, and no request a blob that it should not.
    assert len(folders(application)) == (case.offset is not None) + ("Location" in answer.headers)
    assert bool(held(application)) == ("Content-Location" in answer.headers)
