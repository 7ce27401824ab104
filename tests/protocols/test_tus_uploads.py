"""Uploads by tus from their creation to their end, and what may happen between two requests."""

import base64
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.access import line, maker
from tests.support.calling import Answer, Body, Untouched, call, held
from tests.support.resumable import TUS, checksum, created, offset, tus
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.uploads import part
from wsgi_store.web.application import Application

HELLO = b"hello world"
HASH = hashlib.sha256(HELLO).hexdigest()
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(HELLO).digest()).decode()}:"
DAY = 86400


def folder(application: Application, path: str) -> Path:
    """The directory of an upload."""
    (found,) = Path(application.config.root, ".uploads").glob(f"*/{path.rpartition('/')[2]}")
    return found


@contextmanager
def used(application: Application, path: str) -> Iterator[None]:
    """Another process has the upload, and received a byte just now."""
    with (folder(application, path) / "0").open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.utime(file.fileno())
        yield


class Broken(Body):
    """A body whose connection breaks."""

    def readinto(self, buffer: Any, /) -> int:
        """Read while there are bytes."""
        count = super().readinto(buffer)
        if not count:
            raise ConnectionResetError
        return count


@pytest.mark.parametrize("sizes", [[11], [0, 11], [5, 6], [1] * 11, [5, 0, 0, 6]], ids=str)
def test_pieces(application: Application, sizes: list[int]) -> None:
    """A file sent in any pieces is stored, and each answer has the new offset."""
    path = created(application, UPLOAD_LENGTH=11)
    at = 0
    for size in sizes:
        answer = tus(application, "PATCH", path, HELLO[at : at + size], UPLOAD_OFFSET=at)
        at += size
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(at))
    assert held(application) == [HASH]
    assert answer.headers["Content-Location"] == f"/{HASH}"
    assert call(application, path=f"/{HASH}").body == HELLO


def test_the_result_is_told_until_the_upload_expires(application: Application) -> None:
    """HEAD has the URL and the digest of the blob, GET has the JSON that a POST would get."""
    path = created(application, UPLOAD_LENGTH=11, UPLOAD_METADATA="filename aC50eHQ=")
    tus(application, "PATCH", path, HELLO, UPLOAD_OFFSET=0)
    for _ in range(2):
        head = tus(application, "HEAD", path)
        assert head.headers["Upload-Offset"] == head.headers["Upload-Length"] == "11"
        assert head.headers["Content-Location"] == f"/{HASH}"
        assert head.headers["Repr-Digest"] == DIGEST
        assert head.headers["Cache-Control"] == "no-store"
        described = call(application, path=path).json
        assert described.pop("expires") == pytest.approx(time.time() + DAY, abs=60)
        assert (described.pop("offset"), described.pop("length")) == (11, 11)
        posted = call(application, "POST", body=HELLO).json
        assert described == posted | {"created": True, "name": "h.txt"}


def test_bytes_for_a_file_that_is_stored(application: Application) -> None:
    """A stored file gets no more bytes; a client that sends its end again gets 409."""
    path = created(application, UPLOAD_LENGTH=11)
    tus(application, "PATCH", path, HELLO, UPLOAD_OFFSET=0)
    again = tus(
        application, "PATCH", path, Untouched(), UPLOAD_OFFSET=5, CONTENT_LENGTH="6", CONTENT_TYPE=TUS
    )
    assert (again.status, again.headers["Upload-Offset"]) == (409, "11")
    more = tus(
        application, "PATCH", path, Untouched(), UPLOAD_OFFSET=11, CONTENT_LENGTH="1", CONTENT_TYPE=TUS
    )
    assert (more.status, more.json["code"]) == (400, "inconsistent_length")
    longer = tus(application, "PATCH", path, b"", UPLOAD_OFFSET=11, UPLOAD_LENGTH=12)
    assert (longer.status, longer.json["code"]) == (400, "inconsistent_length")
    nothing = tus(application, "PATCH", path, b"", UPLOAD_OFFSET=11)
    assert (nothing.status, nothing.headers["Upload-Offset"]) == (204, "11")


def test_the_end_of_a_stored_file(application: Application) -> None:
    """A finished upload can be terminated as well; the file stays."""
    path = created(application, UPLOAD_LENGTH=11)
    tus(application, "PATCH", path, HELLO, UPLOAD_OFFSET=0)
    assert tus(application, "DELETE", path).status == 204
    for method in ("HEAD", "PATCH", "DELETE"):
        assert tus(application, method, path, HELLO, UPLOAD_OFFSET=0).status == 404
    assert held(application) == [HASH]


def test_the_url_of_an_upload(application: Application) -> None:
    """Location is a path below the mount point; no field of a proxy or Host changes it."""
    fields = {"HOST": "evil.example", "X_FORWARDED_HOST": "evil.example", "X_FORWARDED_PROTO": "https"}
    fields |= {"FORWARDED": "host=evil.example;proto=https"}
    answer = tus(application, "POST", CONTENT_LENGTH="0", UPLOAD_LENGTH=1, SCRIPT_NAME="/a b", **fields)
    location = answer.headers["Location"]
    assert location.startswith("/a%20b/uploads/")
    done = tus(application, "PATCH", location[6:], b"x", UPLOAD_OFFSET=0, SCRIPT_NAME="/a b")
    assert done.headers["Content-Location"].startswith("/a%20b/")


@pytest.mark.parametrize("value", ["a", "a ", "a YQ==", "a YQ==,b", "a YQ==, b YQ==", "~!# /+8=,is_secret"])
def test_metadata(application: Application, value: str) -> None:
    """HEAD returns the metadata byte for byte, before and after the file is stored."""
    path = created(application, UPLOAD_LENGTH=1, UPLOAD_METADATA=value)
    assert tus(application, "HEAD", path).headers["Upload-Metadata"] == value
    tus(application, "PATCH", path, b"x", UPLOAD_OFFSET=0)
    assert tus(application, "HEAD", path).headers["Upload-Metadata"] == value


@pytest.mark.parametrize(
    "value, name",
    [
        ("filename aC50eHQ=", "h.txt"),
        ("name aC50eHQ=", "h.txt"),
        ("name YQ==,filename aC50eHQ=", "h.txt"),
        ("filename w6QudHh0", "ä.txt"),
        ("filename,name aC50eHQ=", "h.txt"),
        ("filename /w==", "\ufffd"),
        ("filename", None),
        ("filetype aC50eHQ=", None),
    ],
)
def test_the_name_of_the_file(application: Application, value: str, name: str | None) -> None:
    """Clients tell the name of the file as filename or as name, in UTF-8."""
    path = created(application, UPLOAD_LENGTH=1, UPLOAD_METADATA=value)
    assert call(application, path=path).json.get("name") == name


def test_a_length_that_is_told_later(application: Application) -> None:
    """HEAD says that the length is deferred until a PATCH sends it; then it never changes."""
    path = created(application, UPLOAD_DEFER_LENGTH=1)
    tus(application, "PATCH", path, b"hello", UPLOAD_OFFSET=0)
    head = tus(application, "HEAD", path)
    assert head.headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in head.headers
    assert call(application, path=path).json["length"] is None
    # With bytes before the last ones.
    assert tus(application, "PATCH", path, b" ", UPLOAD_OFFSET=5, UPLOAD_LENGTH=11).status == 204
    head = tus(application, "HEAD", path)
    assert head.headers["Upload-Length"] == "11"
    assert "Upload-Defer-Length" not in head.headers
    assert tus(application, "PATCH", path, b"world!", UPLOAD_OFFSET=6, UPLOAD_LENGTH=12).status == 400
    assert tus(application, "PATCH", path, b"world", UPLOAD_OFFSET=6, UPLOAD_LENGTH=11).status == 204
    assert held(application) == [HASH]


@pytest.mark.parametrize("rest", [b" world", b""], ids=["with the last bytes", "after them"])
def test_the_end_of_a_file_of_unknown_length(application: Application, rest: bytes) -> None:
    """The length can be sent with the last bytes, or after them."""
    path = created(application, UPLOAD_DEFER_LENGTH=1)
    at = len(HELLO) - len(rest)
    tus(application, "PATCH", path, HELLO[:at], UPLOAD_OFFSET=0)
    assert not held(application)
    answer = tus(application, "PATCH", path, rest, UPLOAD_OFFSET=at, UPLOAD_LENGTH=11)
    assert (answer.status, answer.headers["Content-Location"]) == (204, f"/{HASH}")


def test_lengths_that_cannot_be(config: Config) -> None:
    """A length below the offset or above the limit is refused before the body is read, and not noted."""
    application = create_app(replace(config, max_size=20))
    path = created(application, UPLOAD_DEFER_LENGTH=1)
    tus(application, "PATCH", path, b"hello", UPLOAD_OFFSET=0)
    for status, length, size in [(400, 4, 0), (400, 6, 2), (413, 21, 1), (413, None, 16)]:
        answer = tus(
            application,
            "PATCH",
            path,
            Untouched(),
            UPLOAD_OFFSET=5,
            UPLOAD_LENGTH=length,
            CONTENT_LENGTH=str(size),
            CONTENT_TYPE=TUS,
        )
        assert answer.status == status
        assert tus(application, "HEAD", path).headers["Upload-Defer-Length"] == "1"
    wrong = tus(application, "PATCH", path, b"x", UPLOAD_OFFSET=4, UPLOAD_LENGTH=6)
    assert wrong.status == 409
    damaged = tus(
        application, "PATCH", path, b"x", UPLOAD_OFFSET=5, UPLOAD_LENGTH=6, UPLOAD_CHECKSUM=checksum(b"y")
    )
    assert (damaged.status, damaged.headers["Upload-Offset"]) == (460, "5")
    assert tus(application, "HEAD", path).headers["Upload-Defer-Length"] == "1"
    right = tus(
        application, "PATCH", path, b"x", UPLOAD_OFFSET=5, UPLOAD_LENGTH=7, UPLOAD_CHECKSUM=checksum(b"x")
    )
    assert right.status == 204
    assert tus(application, "HEAD", path).headers["Upload-Length"] == "7"


def test_when_an_upload_expires(config: Config) -> None:
    """Upload-Expires is in the answers to a creation and to each PATCH, and moves on with each byte."""
    application = create_app(replace(config, upload_expires=1))
    answer = tus(application, "POST", CONTENT_LENGTH="0", UPLOAD_LENGTH=11)
    path = answer.headers["Location"]
    answers = [answer, tus(application, "PATCH", path, b"h", UPLOAD_OFFSET=0), tus(application, "HEAD", path)]
    for one in answers:
        told = parsedate_to_datetime(one.headers["Upload-Expires"]).timestamp()
        assert one.headers["Upload-Expires"].endswith(" GMT")
        assert time.time() - 2 <= told <= time.time() + 2
    for name in ("0", "upload.json"):
        os.utime(folder(application, path) / name, (0, 0))
    for method in ("HEAD", "GET", "PATCH", "DELETE"):
        gone = tus(application, method, path, b"e", UPLOAD_OFFSET=1)
        assert gone.status == 404
        assert "Upload-Offset" not in gone.headers


def test_a_broken_line(application: Application) -> None:
    """Bytes that arrived before the connection broke count."""
    path = created(application, UPLOAD_LENGTH=11)
    answer = tus(application, "PATCH", path, Broken(b"hello"), UPLOAD_OFFSET=0, CONTENT_LENGTH="11")
    assert (answer.status, answer.json["code"]) == (400, "incomplete_body")
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert offset(application, path) == 5
    assert tus(application, "PATCH", path, b" world", UPLOAD_OFFSET=5).status == 204
    assert held(application) == [HASH]


def test_a_broken_line_in_bytes_with_a_checksum(application: Application) -> None:
    """Bytes whose checksum was not verified do not count."""
    path = created(application, UPLOAD_LENGTH=11)
    tus(application, "PATCH", path, b"he", UPLOAD_OFFSET=0)
    sent = checksum(b"llo world")
    tus(application, "PATCH", path, Broken(b"llo"), UPLOAD_OFFSET=2, CONTENT_LENGTH="9", UPLOAD_CHECKSUM=sent)
    assert offset(application, path) == 2
    assert tus(application, "PATCH", path, b"llo world", UPLOAD_OFFSET=2, UPLOAD_CHECKSUM=sent).status == 204
    assert held(application) == [HASH]


def test_a_wrong_checksum_of_the_last_bytes(application: Application) -> None:
    """With a wrong checksum the last bytes do not complete the file; sent again they do."""
    path = created(application, UPLOAD_LENGTH=11)
    wrong = tus(application, "PATCH", path, HELLO, UPLOAD_OFFSET=0, UPLOAD_CHECKSUM=checksum(b"", "sha512"))
    assert (wrong.status, wrong.json["offset"]) == (460, 0)
    assert {"expected", "actual"} <= wrong.json.keys()
    assert not held(application)
    assert tus(application, "PATCH", path, HELLO, UPLOAD_OFFSET=0).status == 204


@pytest.mark.parametrize("sent", [b"", HELLO], ids=["empty", "stored"])
def test_a_checksum_of_nothing(application: Application, sent: bytes) -> None:
    """The checksum of an empty request is checked, too, although the file is stored already."""
    path = created(application, UPLOAD_LENGTH=len(sent))
    if sent:
        assert tus(application, "PATCH", path, sent, UPLOAD_OFFSET=0).status == 204
    for data, status in ((b"x", 460), (b"", 204)):
        fields = {"UPLOAD_OFFSET": len(sent), "UPLOAD_CHECKSUM": checksum(data)}
        answer = tus(application, "PATCH", path, b"", **fields)
        assert (answer.status, answer.headers["Upload-Offset"]) == (status, str(len(sent)))


def test_a_creation_with_broken_bytes(application: Application) -> None:
    """If the client still gets the answer, it has the URL where it can continue."""
    answer = tus(application, "POST", body=Broken(b"hello"), UPLOAD_LENGTH=11, CONTENT_LENGTH="11")
    assert answer.status == 400
    path = answer.headers["Location"]
    assert answer.json["upload"] == path
    assert offset(application, path) == 5


@pytest.mark.parametrize("query", [True, False], ids=["hash", "Repr-Digest"])
def test_a_creation_with_the_digest_of_the_file(application: Application, query: bool) -> None:
    """A creation with the digest of an unfinished upload finds it, also for a client without its URL."""
    told = {"QUERY_STRING": f"hash={HASH}"} if query else {"REPR_DIGEST": DIGEST}

    def create(body: bytes | Body) -> Answer:
        length = len(body) if isinstance(body, bytes) else 11
        return tus(application, "POST", body=body, UPLOAD_LENGTH=11, CONTENT_LENGTH=str(length), **told)

    broken = create(Broken(b"hello"))
    again = create(b"")
    assert again.status == 201
    assert again.headers["Upload-Offset"] == "5"
    path = again.headers["Location"]
    assert path == broken.headers["Location"]
    # Bytes that come with the creation begin at 0.
    assert create(HELLO).headers["Upload-Offset"] == "5"
    assert tus(application, "PATCH", path, b" world", UPLOAD_OFFSET=5).status == 204
    done = create(b"")
    assert (done.status, done.headers["Upload-Offset"]) == (201, "11")
    assert done.headers["Content-Location"] == f"/{HASH}"


def test_a_file_that_lacks_its_digest(application: Application) -> None:
    """A complete file that lacks the digest of its creation gets 422, and the upload is gone."""
    path = created(application, UPLOAD_LENGTH=5, REPR_DIGEST=DIGEST)
    answer = tus(application, "PATCH", path, b"other", UPLOAD_OFFSET=0)
    assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    assert "Upload-Offset" not in answer.headers
    assert tus(application, "HEAD", path).status == 404
    whole = tus(application, "POST", body=b"other", UPLOAD_LENGTH=5, REPR_DIGEST=DIGEST)
    assert whole.status == 422
    assert "Location" not in whole.headers


def test_an_upload_that_another_request_uses(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another request sends bytes, everybody gets 423 and when to try again."""
    monkeypatch.setattr(part, "PATIENCE", 0.05)
    path = created(application, UPLOAD_LENGTH=11)
    with used(application, path):
        for method in ("HEAD", "GET", "PATCH"):
            answer = tus(application, method, path, Body(b"hello"), UPLOAD_OFFSET=0, CONTENT_LENGTH="5")
            assert answer.status == 423
            assert answer.headers["Retry-After"] == "1"
            assert answer.headers["Tus-Resumable"] == "1.0.0"
            assert "Upload-Offset" not in answer.headers
        # The request that ends it does not wait for the other.
        assert tus(application, "DELETE", path).status == 204
    assert tus(application, "HEAD", path).status == 404


def test_bodies_of_unknown_length(application: Application) -> None:
    """A chunked body is taken from a server that tells its end, and is no longer than was announced."""
    chunked = {"TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": None}
    path = created(application, UPLOAD_LENGTH=11)
    unsure = tus(application, "PATCH", path, b"hello", UPLOAD_OFFSET=0, **chunked)
    assert (unsure.status, unsure.json["code"]) == (411, "length_required")
    sure = chunked | {"wsgi.input_terminated": True, "SERVER_SOFTWARE": "gunicorn/27"}
    for at, data, status in ((0, b"hello", 204), (5, b" world!", 400), (5, b" world", 204)):
        assert tus(application, "PATCH", path, data, UPLOAD_OFFSET=at, **sure).status == status
    assert held(application) == [HASH]
    both = tus(
        application, "PATCH", path, b"", UPLOAD_OFFSET=11, TRANSFER_ENCODING="chunked", CONTENT_LENGTH="0"
    )
    assert both.status == 400


def test_callers(config: Config, tmp_path: Path) -> None:
    """Uploads need the scope write, and belong to their callers; each refusal is an answer of tus."""
    lines = line("reader", "read") + line("writer", "write", "one") + line("other", "write", "two")
    api = maker(config, tmp_path / "tokens")(lines).app

    def send(token: str | None, method: str, path: str = "/uploads", **fields: Any) -> Any:
        return tus(api, method, path, AUTHORIZATION=token and f"Bearer {token}", **fields)

    for token, status in ((None, 401), ("nobody", 401), ("reader", 403)):
        refused = send(token, "POST", UPLOAD_LENGTH=1, CONTENT_LENGTH="0")
        assert refused.status == status
        assert refused.headers["Tus-Resumable"] == "1.0.0"
    path = send("writer", "POST", UPLOAD_LENGTH=1, CONTENT_LENGTH="0").headers["Location"]
    for token, status in ((None, 401), ("reader", 403), ("other", 404), ("all", 404)):
        for method in ("HEAD", "GET", "PATCH", "DELETE"):
            refused = send(token, method, path, body=b"x", UPLOAD_OFFSET=0)
            assert refused.status == status
            assert refused.headers.get_all("Tus-Resumable") == ["1.0.0"]
    # The version is looked at after the caller: strangers learn nothing.
    assert send(None, "HEAD", path, TUS_RESUMABLE="0.1").status == 401
    assert send("writer", "PATCH", path, body=b"x", UPLOAD_OFFSET=0).status == 204


def test_a_read_only_store(config: Config) -> None:
    """A read-only store takes no uploads, and says so in an answer of tus."""
    created(create_app(config), UPLOAD_LENGTH=1)
    application = create_app(replace(config, read_only=True))
    for method, path in (("POST", "/uploads"), ("HEAD", f"/uploads/{'0' * 32}")):
        answer = tus(application, method, path, UPLOAD_LENGTH=1, CONTENT_LENGTH="0")
        assert (answer.status, answer.headers["Tus-Resumable"]) == (403, "1.0.0")


@pytest.mark.parametrize("path", ["/uploads", "/uploads/", f"/uploads/{'0' * 32}", "/uploads/x"])
def test_what_the_server_can(config: Config, tmp_path: Path, path: str) -> None:
    """OPTIONS has versions, extensions and limits, without a token and for every version."""
    api = maker(config, tmp_path / "tokens")(max_size=1000).app
    for version in (None, "0.2.2", "1.0.0"):
        answer = tus(api, "OPTIONS", path, TUS_RESUMABLE=version)
        assert answer.status == 204
        told = answer.headers
        assert told.get_all("Tus-Resumable") == told.get_all("Tus-Version") == ["1.0.0"]
        assert told["Tus-Extension"].split(",") == [
            *["creation", "creation-with-upload", "creation-defer-length"],
            *["termination", "checksum", "expiration"],
        ]
        assert told["Tus-Checksum-Algorithm"].split(",")[0] == "sha1"
        assert told["Tus-Max-Size"] == "1000"
        assert {"Upload-Limit", "Accept-Patch", "Allow"} <= set(told.keys())
    assert "Tus-Max-Size" not in tus(maker(config, tmp_path / "more")().app, "OPTIONS").headers


def test_a_store_whose_algorithm_has_no_field(config: Config) -> None:
    """Repr-Digest has no key for BLAKE2b, so that only Content-Location tells the hash."""
    application = create_app(replace(config, hash=Algorithm.BLAKE2B, names=()))
    path = created(application, UPLOAD_LENGTH=11)
    done = tus(application, "PATCH", path, HELLO, UPLOAD_OFFSET=0)
    for answer in (done, tus(application, "HEAD", path)):
        assert answer.headers["Content-Location"] == f"/{hashlib.blake2b(HELLO).hexdigest()}"
        assert "Repr-Digest" not in answer.headers
