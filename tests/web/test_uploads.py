"""Uploads as a resource: their URLs, their state, and requests that speak no protocol."""

import hashlib
from typing import Any

import pytest

from tests.support.calling import Body, Untouched, call, held
from tests.support.resumable import created, folders, tus
from wsgi_store.access.grant import Grant
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.web.application import Application
from wsgi_store.web.exchange import KEY, Exchange

HELLO = b"hello world"
HASH = hashlib.sha256(HELLO).hexdigest()


def test_the_state_of_an_upload(application: Application) -> None:
    """GET answers JSON that must not be cached, whatever protocol the client speaks."""
    path = created(application, UPLOAD_LENGTH=11)
    tus(application, "PATCH", path, b"hello", UPLOAD_OFFSET=0)
    for fields in ({}, {"HTTP_TUS_RESUMABLE": "1.0.0"}, {"HTTP_UPLOAD_DRAFT_INTEROP_VERSION": "8"}):
        answer = call(application, path=path, **fields)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.json.keys() == {"offset", "length", "expires"}
        assert (answer.json["offset"], answer.json["length"]) == (5, 11)


def test_who_speaks_no_protocol(application: Application) -> None:
    """HEAD and DELETE need none, and HEAD answers in both; POST and PATCH get 400."""
    path = created(application, UPLOAD_LENGTH=11, UPLOAD_METADATA="a YQ==")
    head = call(application, "HEAD", path)
    assert head.status == 204
    told = {
        "Upload-Offset": "0",
        "Upload-Length": "11",
        "Upload-Complete": "?0",
        "Upload-Metadata": "a YQ==",
        "Tus-Resumable": "1.0.0",
        "Cache-Control": "no-store",
    }
    assert told.items() <= dict(head.headers).items()
    assert len(head.headers) == len(set(head.headers.keys()))
    assert call(application, "HEAD", f"/uploads/{'0' * 32}").status == 404
    for method, at in (("POST", "/uploads"), ("PATCH", path)):
        answer = call(
            application, method, at, body=Untouched(), CONTENT_LENGTH="5", CONTENT_TYPE="text/plain"
        )
        assert (answer.status, answer.json["code"]) == (400, "bad_request")
        assert "Tus-Resumable" in answer.json["detail"]
        assert "Upload-Complete" in answer.json["detail"]
    assert call(application, "DELETE", path).status == 204
    assert tus(application, "HEAD", path).status == 404


@pytest.mark.parametrize(
    "text", ["..", ".", "%2e%2e", ".key", "x", "A" * 32, "0" * 31, "0" * 33, "\0", "\n", "ä"]
)
def test_what_is_no_id(application: Application, text: str) -> None:
    """What cannot be an id leads to no upload, and to no other file."""
    created(application, UPLOAD_LENGTH=1, REPR_DIGEST="sha-256=:" + "A" * 43 + "=:")
    text = text.encode().decode("latin-1")
    for method in ("HEAD", "GET", "PATCH", "DELETE"):
        answer = tus(application, method, f"/uploads/{text}", Body(b""), CONTENT_LENGTH="0", UPLOAD_OFFSET=0)
        assert answer.status == 404
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert method == "HEAD" or answer.json["code"] == "upload_not_found"
    assert len(folders(application)) == 1


@pytest.mark.parametrize("slash", ["/", "//"])
def test_slashes_at_the_end(application: Application, slash: str) -> None:
    """A slash at the end of a URL changes nothing and does not redirect; two get 404."""
    answer = tus(application, "POST", "/uploads" + slash, CONTENT_LENGTH="0", UPLOAD_LENGTH=11)
    assert answer.status == (201 if slash == "/" else 404)
    path = created(application, UPLOAD_LENGTH=11)
    answer = tus(application, "PATCH", path + slash, HELLO, UPLOAD_OFFSET=0)
    assert answer.status == (204 if slash == "/" else 404)
    assert answer.headers["Tus-Resumable"] == "1.0.0"


def test_a_file_with_that_name(application: Application) -> None:
    """`curl -T uploads URL/` stores a file as with any other name: a PUT creates no upload."""
    answer = call(application, "PUT", "/uploads", body=HELLO, CONTENT_LENGTH="11")
    assert (answer.status, answer.json["name"]) == (200, "uploads")
    assert call(application, path=f"/{HASH}/uploads").body == HELLO
    assert call(application, "PUT", "/uploads/x", body=HELLO, CONTENT_LENGTH="11").status == 405
    assert call(application, "GET", "/uploads").status == 405
    assert held(application) == [HASH]


@pytest.mark.parametrize("path", ["/", "/name", f"/{HASH}"])
def test_a_part_of_a_file_elsewhere(application: Application, path: str) -> None:
    """A part of a file that is sent elsewhere is refused, not stored as if it were the file."""
    method = "POST" if path == "/" else "PUT"
    parts = [{"HTTP_UPLOAD_COMPLETE": value} for value in ("?0", " ?0", "?0;x=1")]
    for fields in (*parts, {"HTTP_TUS_RESUMABLE": "1.0.0", "HTTP_UPLOAD_LENGTH": "11"}):
        answer = call(application, method, path, body=Untouched(), CONTENT_LENGTH="5", **fields)
        assert (answer.status, answer.json["code"]) == (400, "bad_request")
        assert "/uploads" in answer.json["detail"]
    whole = call(application, method, path, body=HELLO, CONTENT_LENGTH="11", HTTP_UPLOAD_COMPLETE="?1")
    assert whole.status in (200, 201)


@pytest.mark.parametrize("query", ["hash=x", "hash=00", f"hash={HASH}&hash={'0' * 64}"])
def test_hashes_that_no_file_has(application: Application, query: str) -> None:
    """A creation with a malformed hash, or with two that no file can have, is refused and leaves nothing."""
    answer = tus(application, "POST", CONTENT_LENGTH="0", UPLOAD_LENGTH=11, QUERY_STRING=query)
    wanted = (422, "digest_mismatch") if "&" in query else (400, "bad_request")
    assert (answer.status, answer.json["code"]) == wanted
    assert not folders(application)


def test_bodies_that_mean_nothing(application: Application) -> None:
    """Bodies of HEAD, GET and DELETE are not read, and codings of the content are kept as they are."""
    path = created(application, UPLOAD_LENGTH=11)
    for method in ("HEAD", "GET", "DELETE"):
        extra: dict[str, Any] = {"CONTENT_LENGTH": "5", "EXPECT": "100-continue"}
        assert tus(application, method, path, Untouched(), **extra).status in (200, 204)
    path = created(application, UPLOAD_LENGTH=11, CONTENT_ENCODING="gzip")
    assert tus(application, "PATCH", path, HELLO, UPLOAD_OFFSET=0, CONTENT_ENCODING="gzip").status == 204
    assert held(application) == [HASH]


def test_the_log_knows_what_was_stored(application: Application) -> None:
    """The request that stores the file is logged with its hash and size, as a POST of it is."""
    path = created(application, UPLOAD_LENGTH=11)
    exchange = Exchange()
    tus(application, "PATCH", path, b"hello", UPLOAD_OFFSET=0, **{KEY: exchange})
    assert exchange.hash is None
    tus(application, "PATCH", path, b" world", UPLOAD_OFFSET=5, **{KEY: exchange})
    assert (exchange.hash, exchange.size) == (HASH, 11)


def test_the_last_bytes_need_a_length(application: Application) -> None:
    """A request that completes a file says how long its body is: some servers pass on none without that."""
    path = created(application, UPLOAD_DEFER_LENGTH=1)
    fields = {"HTTP_UPLOAD_COMPLETE": "?1", "HTTP_UPLOAD_OFFSET": "0"}
    fields["CONTENT_TYPE"] = "application/partial-upload"
    answer = call(application, "PATCH", path, body=Untouched(), **fields)
    assert (answer.status, answer.json["code"]) == (411, "length_required")
    assert call(application, path=path).json["length"] is None


def test_credentials_that_get_another_owner(config: Config) -> None:
    """Whoever the credentials belong to at the end has to be whose upload it is; what arrived is kept."""
    caller = "one"

    class Renaming(Body):
        """A body during which the host application gives the credentials to somebody else."""

        def readinto(self, buffer: Any, /) -> int:
            """Read a piece."""
            nonlocal caller
            caller = "two"
            return super().readinto(buffer)

    application = create_app(config, authorize=lambda _: Grant(frozenset({"write"}), name=caller))
    path = created(application, UPLOAD_LENGTH=11)
    answer = tus(application, "PATCH", path, Renaming(HELLO), UPLOAD_OFFSET=0, CONTENT_LENGTH="11")
    assert (answer.status, answer.json["code"]) == (403, "denied")
    assert not held(application)
    assert tus(application, "HEAD", path).status == 404
    caller = "one"
    assert tus(application, "HEAD", path).headers["Content-Location"] == f"/{HASH}"
