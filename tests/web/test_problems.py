"""Errors are answered as problem+json (RFC 9457)."""

import errno
import io
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger
from webtest import TestApp

from tests.support.calling import Answer, Untouched, call, held, quick
from wsgi_store import errors
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import BlobReader
from wsgi_store.web import problems, service
from wsgi_store.web.application import Application

HELLO = b"hello\n"
# Reason phrases of RFC 9110 section 15 that older Pythons spell as older RFCs did.
CURRENT = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
# Wang and Yu, "How to Break MD5 and Other Hash Functions" (2005).
COLLIDING = [
    bytes.fromhex(
        f"d131dd02c5e6eec4693d9a0698aff95c2fca{a}12467eab4004583eb8fb7f8955ad340609f4b30283e4888325{b}"
        f"5a085125e8f7cdc99fd91dbd{c}280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2{d}87da03fd02396306"
        f"d248cda0e99f33420f577ee8ce54b67080{e}0d1ec69821bcb6a8839396f965{f}b6ff72a70"
    )
    for a, b, c, d, e, f in (("b587", "7141", "f", "b4", "a8", "2"), ("b507", "f141", "7", "34", "28", "a"))
]
ANY_PATH = st.one_of(
    st.sampled_from(["", "/", "//", "/files", "/healthz", "/readyz", f"/{HASH}", f"/{HASH.upper()}/a", "/?"]),
    st.text(st.characters(max_codepoint=255), max_size=50).map(lambda text: f"/{text}"),
    st.text(st.characters(max_codepoint=255), max_size=50).map(lambda text: f"/{HASH}/{text}"),
)
VALUE = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=40),
    st.sampled_from(["bytes=0-", "bytes=-1,0-0", f'"{HASH}"', "*", "Sun, 06 Nov 1994 08:49:37 GMT"]),
    st.sampled_from(["multipart/form-data; boundary=x", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"]),
    st.sampled_from(["Mon, 01 Jan 2001 00:00:00 +99999999999999999999", "9" * 5000, f"bytes={'9' * 5000}-"]),
)
FIELDS = [
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "HTTP_ACCEPT",
    "HTTP_CONTENT_DIGEST",
    "HTTP_HOST",
    "HTTP_IF_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_RANGE",
    "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_RANGE",
    "HTTP_REPR_DIGEST",
    "HTTP_TRANSFER_ENCODING",
    "HTTP_X_REQUEST_ID",
]
QUERY = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=40),
    st.tuples(st.sampled_from(["hash", "filename", "after", "limit"]), VALUE).map("=".join),
    VALUE.map(lambda value: f"hash={HASH}&filename={value}"),
)
ENVIRONS = st.fixed_dictionaries(
    {
        "REQUEST_METHOD": st.one_of(st.sampled_from(["GET", "HEAD", "DELETE", "PUT", "POST"]), VALUE),
        "PATH_INFO": ANY_PATH,
        "QUERY_STRING": QUERY,
        "SCRIPT_NAME": st.text(st.characters(max_codepoint=255), max_size=5).map(lambda text: f"/{text}"),
        "wsgi.input": st.binary(max_size=20).map(io.BytesIO),
    },
    optional={name: VALUE for name in FIELDS},
)


@contextmanager
def logged() -> Iterator[list[str]]:
    """The errors logged within the block, one text each."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message} {extra}", level="ERROR")
    try:
        yield lines
    finally:
        logger.remove(sink)


def check(answer: Answer, status: int, code: str, **evidence: object) -> dict[str, Any]:
    """Assert that `answer` is this problem; return it."""
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    problem: dict[str, Any] = answer.json
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"] == CURRENT.get(status, HTTPStatus(status).phrase)
    assert problem["detail"]
    assert problem | evidence == problem
    return problem


ALLOWED = [
    ("/", "", "GET, HEAD, OPTIONS, POST, PUT"),
    ("/files", "", "GET, HEAD, OPTIONS, PUT"),
    ("/healthz", "", "GET, HEAD, OPTIONS, PUT"),
    ("/readyz/", "", "GET, HEAD, OPTIONS, PUT"),
    (f"/{HASH}", "", "DELETE, GET, HEAD, OPTIONS, PUT"),
    (f"/{HASH.upper()}", "", "DELETE, GET, HEAD, OPTIONS, PUT"),
    (f"/{HASH}/a/b", "", "GET, HEAD, OPTIONS, PUT"),
    ("/", f"hash={HASH}", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),
]


@pytest.mark.parametrize("path, query, allowed", ALLOWED)
def test_methods(application: Application, path: str, query: str, allowed: str) -> None:
    """An unsupported method on a known path gets 405 with the allowed ones in order."""
    names = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "M-SEARCH"]
    odd = ["get", "Post", "post", "delete", "options", "GET ", "*", "-", "", "\xff", "X" * 300, "0"]
    for method in names + odd:
        if method in allowed.split(", "):
            continue
        answer = call(application, method, path, query, Untouched(), CONTENT_LENGTH="6")
        check(answer, 405, "method_not_allowed", allowed=allowed.split(", "))
        assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path, query, allowed",
    [
        *ALLOWED,
        ("*", "", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("/*", "", "OPTIONS, PUT"),
        ("/x", "", "OPTIONS, PUT"),
        ("/files/x", "", "OPTIONS"),
        ("/", "hash=x", "OPTIONS, POST, PUT"),
    ],
)
def test_options(application: Application, path: str, query: str, allowed: str) -> None:
    """OPTIONS lists the methods of a path; for `*` it lists all methods of the service."""
    answer = call(application, "OPTIONS", path, query, Untouched(), CONTENT_LENGTH="6")
    assert (answer.status, answer.headers["Allow"], answer.body) == (204, allowed, b"")
    assert set(answer.headers.keys()) == {"Allow", "X-Request-ID"}


@pytest.mark.parametrize("target", ["a:80", "[::1]:443", ""])
def test_connect(application: Application, target: str) -> None:
    """CONNECT gets 405 with all methods of the service, as it names no path."""
    answer = call(application, "CONNECT", target, RAW_URI=target)
    check(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


# Names: there is nothing to read under them, but a PUT stores its body.
NAMES = ["/x", "/index.html", "/x/", f"/{HASH * 5}", f"/{HASH[:31]}", f"/{HASH}\n", "/store.json", "/-"]
METHODS = ["GET", "HEAD", "DELETE", "POST", "PATCH", "get", "put", "-"]


@pytest.mark.parametrize(
    "method, path",
    [
        *itertools.product(METHODS, NAMES),
        *itertools.product([*METHODS, "PUT"], ["/files/x", "/healthz/x/", "/x/y", "/-/-"]),
    ],
)
def test_unknown_path(application: Application, method: str, path: str) -> None:
    """Unknown paths get 404."""
    answer = call(application, method, path, body=Untouched(), CONTENT_LENGTH="6")
    assert answer.status == 404
    if method != "HEAD":
        check(answer, 404, "not_found")


@pytest.mark.parametrize(
    "hash_", ["", "files", "healthz", "../files", f"{HASH}/x", f"{HASH}%0a", "%ff", HASH[:31]]
)
def test_malformed_hash_in_the_query(application: Application, hash_: str) -> None:
    """A malformed hash in the query gets 404 and is never taken for another path."""
    call(application, "POST", body=HELLO)
    for method in ("GET", "DELETE"):
        check(call(application, method, query=f"hash={hash_}"), 404, "not_found")


@pytest.mark.parametrize("hash_", ["0" * 64, "A" * 64, "0" * 32, "0" * 33])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_absent_blob(application: Application, method: str, hash_: str) -> None:
    """An absent blob gets 404 under both spellings of its URL."""
    for path, query in ((f"/{hash_}", ""), ("/", f"hash={hash_}")):
        check(call(application, method, path, query), 404, "blob_not_found", hash=hash_.lower())


def test_collision(config: Config) -> None:
    """A colliding file is refused, and the stored one stays as it was."""
    application = create_app(replace(config, hash=Algorithm.MD5))
    first, second = COLLIDING
    url = call(application, "POST", body=first).json["url"]
    check(call(application, "POST", body=second), 409, "digest_collision", hash=url[1:])
    assert call(application, path=url).body == first


def test_every_error_has_its_own_answer() -> None:
    """Each error class has its own code; errors of the start and of the client become 500."""
    found = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.WSGIStoreError)
    }
    found -= {errors.StoreError, errors.RequestError}
    assert len({kind.code for kind in found}) == len(found)
    # Two end the start of a service; the others are raised by the client.
    starting = {errors.ConfigError, errors.WrongStore}
    seen = {
        errors.Unreachable,
        errors.UnexpectedAnswer,
        errors.UnexpectedDigest,
        errors.MalformedHash,
        errors.MalformedTree,
        errors.OutwardLink,
    }
    assert found - set(errors.BY_CODE.values()) == starting | seen
    for kind in found:
        told = (500, "internal_error") if kind in starting | seen else (kind.status, kind.code)
        assert problems.status_of(kind("it failed")) == told


def test_disk_errors(application: Application, config: Config) -> None:
    """Without its directory the store is unavailable, with Retry-After and without the path."""
    moved = Path(config.root).with_name("moved")
    os.rename(config.root, moved)
    try:
        answers = [
            call(application, path=f"/{HASH}"),
            call(application, "DELETE", f"/{HASH}"),
            call(application, "POST", body=HELLO),
            call(application, path="/readyz"),
            call(application, path="/files"),
        ]
    finally:
        os.rename(moved, config.root)
    for answer in answers:
        check(answer, 503, "store_unavailable")
        assert answer.headers["Retry-After"].isdigit()
        assert config.root not in answer.body.decode()


def test_disk_error_is_logged_with_its_cause(
    application: Application, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a failure is in the log and not in the answer."""
    shard = Path(config.root, HASH[:2])
    real = os.open

    def fail(path: str, *args: Any, **options: Any) -> int:
        if path == str(shard):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    with logged() as lines:
        answer = call(application, path=f"/{HASH}", HTTP_X_REQUEST_ID="one")
    monkeypatch.undo()
    check(answer, 503, "store_unavailable")
    line = "".join(lines)
    assert len(lines) == 1
    assert str(shard) in line and "'one'" in line and "store_unavailable" in line
    assert str(shard) not in answer.body.decode()


@pytest.mark.parametrize("identity", ["a", "0" * 64, "A-Z_.9", "7d9f1c2e-6b1a-4f7e-9c3d-2b8a1e5f4c6d"])
def test_request_id(application: Application, identity: str) -> None:
    """A harmless request id is echoed, on errors as well."""
    for path in ("/", "/nowhere"):
        assert call(application, path=path, HTTP_X_REQUEST_ID=identity).headers["X-Request-ID"] == identity


@pytest.mark.parametrize(
    "identity", ["", " ", "a b", "a\n", "a,b", "\xff", "<script>", "{0}", "0" * 65, "%0d"]
)
def test_harmful_request_id(application: Application, identity: str) -> None:
    """A request id with unsafe characters, or too long, is replaced."""
    answers = [call(application, HTTP_X_REQUEST_ID=identity) for _ in range(2)]
    first, second = (answer.headers["X-Request-ID"] for answer in answers)
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first != second


def test_unforeseen_error_of_a_handler(
    application: Application, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug gets 500 without details, and is logged once with the request id."""
    monkeypatch.setattr(service, "__version__", object())  # JSON cannot express it
    with logged() as lines:
        answer = call(application, HTTP_X_REQUEST_ID="one", HTTP_ACCEPT="secret")
    check(answer, 500, "internal_error")
    assert answer.headers["X-Request-ID"] == "one"
    line = "".join(lines)
    assert len(lines) == 1
    assert "Traceback" in line and "TypeError" in line and "'one'" in line
    assert "not JSON serializable" not in line, "a message may have values in it"
    for secret in ("JSON", "object", "Traceback", "secret", config.root):
        assert secret not in answer.body.decode()


def test_unforeseen_error_of_the_store(
    application: Application, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that breaks the store's contract gets 500 instead of a dropped connection."""

    def fail(digest: Digest, *_: Any) -> BlobReader:
        raise OSError(5, "Input/output error", f"{config.root}/{digest.hex}")

    monkeypatch.setattr(application.store, "open", fail)
    with logged() as lines:
        answer = call(application, path=f"/{HASH}")
    check(answer, 500, "internal_error")
    assert config.root not in answer.body.decode()
    assert len(lines) == 1 and "OSError: Input/output error" in lines[0]


class Broken(io.BytesIO):
    """A body whose reading raises an error with the server's own message."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        """Raise it."""
        raise self._error


def begun(text: str) -> bytes:
    """A form, or its beginning, with the boundary b."""
    return text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    "body, detail",
    [
        (Broken(ValueError("InvalidChunkSize(b'x')")), "cannot read the body"),
        (Broken(OSError("NoMoreData")), "cannot read the body"),
        (Broken(TimeoutError("timed out")), "cannot read the body"),
        (begun("no form at all"), "malformed form"),
        (begun('--b\nContent-Disposition: form-data; name="a"\n\nx'), "malformed form"),
        (begun("--b\n: x\n\nx\n--b--\n"), "malformed form"),
        (
            begun("--b\nX: " + "x" * 20_000),
            "malformed form: more than 1000 parts, or a part header of more than 16384 bytes",
        ),
    ],
    ids=range(7),
)
def test_details_in_words_of_this_service(application: Application, body: Any, detail: str) -> None:
    """Messages of the server or a library are replaced, as they reveal internals."""
    kind = "multipart/form-data; boundary=b" if isinstance(body, bytes) else "x/y"
    length = str(len(body)) if isinstance(body, bytes) else "6"
    answer = call(application, "POST", body=body, CONTENT_TYPE=kind, CONTENT_LENGTH=length)
    assert 400 <= answer.status < 500
    assert answer.json["detail"] == detail


def test_head_of_an_error(api: TestApp) -> None:
    """HEAD of an error has the header of GET and no body."""
    get = api.get(f"/{HASH}", status=404)
    head = api.head(f"/{HASH}", status=404)
    for name in ("Content-Type", "Content-Length", "Cache-Control"):
        assert head.headers[name] == get.headers[name]


@given(environ=ENVIRONS)
def test_no_request_breaks_the_service(config: Config, environ: dict[str, Any]) -> None:
    """No request gets an invalid header or a 5xx except 501, and only POST stores anything."""
    application = quick(config)
    if not held(application):
        call(application, "POST", body=HELLO)
    before = held(application)
    method = environ["REQUEST_METHOD"]
    answer = call(application, **environ)
    # 501 is the client's fault, too: an unsupported transfer coding.
    assert 200 <= answer.status < 500 or answer.status == 501
    after = held(application)
    if method != "POST":
        assert set(after) <= set(before)
    if method != "DELETE":
        assert set(before) <= set(after)


def test_create_app_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """create_app() uses the default directory and ignores the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSGI_STORE_ROOT", str(tmp_path / "elsewhere"))
    call(create_app(), "POST", body=HELLO)
    assert Path(tmp_path, "store", HASH[:2], HASH).read_bytes() == HELLO
