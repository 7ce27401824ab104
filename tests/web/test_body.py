"""POST /: a body becomes a blob, or nothing at all."""

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webtest import TestApp

from tests.support.calling import Body, Untouched, call, held, quick
from tests.support.forms import CHUNKED
from tests.support.kinds import digest_of
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.web.application import Application

pytestmark = pytest.mark.every_store
HELLO = b"hello\n"
HASH = hashlib.sha256(HELLO).hexdigest()
RAW = "application/octet-stream"


@pytest.mark.on_disk
def test_raw_body(api: TestApp, application: Application, config: Config) -> None:
    """A raw body is stored under its hash, and the answer describes it."""
    answer = api.post("/", HELLO, content_type=RAW)
    assert answer.status_int == 200
    assert answer.json == {
        "hash": HASH,
        "algorithm": "sha256",
        "names": {"sha256": HASH},
        "size": 6,
        "url": f"/{HASH}",
        "created": True,
    }
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not {"ETag", "Content-Location"} & set(answer.headers), "the answer is no blob"
    assert answer.headers["Location"] == f"/{HASH}"
    assert Path(config.root, HASH[:2], HASH).read_bytes() == HELLO
    assert held(application) == [HASH]


def test_again(api: TestApp, application: Application) -> None:
    """A second upload of the same bytes returns the same blob with `created: false`."""
    first = api.post("/", HELLO, content_type=RAW).json
    again = api.post("/", HELLO, content_type=RAW).json
    assert again == first | {"created": False}
    assert held(application) == [HASH]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_algorithms(config: Config, algorithm: Algorithm) -> None:
    """The hash is that of the configured algorithm."""
    application = create_app(replace(config, hash=algorithm))
    answer = call(application, "POST", body=HELLO).json
    assert answer["hash"] == digest_of(algorithm, HELLO).hex
    assert answer["algorithm"] == algorithm.value
    assert call(application, path=answer["url"]).body == HELLO


def test_empty_body(api: TestApp) -> None:
    """An empty body with Content-Length: 0 is stored."""
    answer = api.post("/", b"", content_type=RAW)
    assert answer.json["size"] == 0
    assert answer.json["hash"] == hashlib.sha256(b"").hexdigest()
    assert api.get(answer.json["url"]).body == b""


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=x", "nonsense", "", None],
)
def test_any_type_is_raw(application: Application, kind: str | None) -> None:
    """A body of any type except multipart/form-data is stored as it is."""
    body = b"--x\r\na=1&b=%20\r\n--x--\r\n"
    answer = call(application, "POST", body=body, CONTENT_TYPE=kind)
    assert answer.json["hash"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("sizes", [(), (1,) * 6, (2, 3)])
def test_chunked(application: Application, sizes: tuple[int, ...]) -> None:
    """A chunked body is read to its end if the server marks the end."""
    answer = call(application, "POST", body=Body(HELLO, sizes), **CHUNKED)
    assert (answer.json["hash"], answer.json["size"]) == (HASH, 6)


@pytest.mark.parametrize(
    "server",
    [
        {},
        {"SERVER_SOFTWARE": "gunicorn/27.0.1"},
        {"wsgi.input_terminated": True},
        {"wsgi.input_terminated": True, "SERVER_SOFTWARE": "Granian"},
        {"wsgi.input_terminated": True, "HTTP_SERVER_SOFTWARE": "gunicorn/27.0.1"},
        {"wsgi.input_terminated": True, "SERVER_SOFTWARE": "Unknown (gunicorn/27.0.1)"},
    ],
)
def test_chunked_where_its_end_is_not_told(application: Application, server: dict[str, Any]) -> None:
    """A chunked body gets 411 under servers that may present a truncated one as complete."""
    answer = call(application, "POST", body=Untouched(), HTTP_TRANSFER_ENCODING="chunked", **server)
    assert (answer.status, answer.json["code"]) == (411, "length_required")
    assert not held(application)


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("announced", ["hash", "Repr-Digest"])
def test_chunked_with_a_digest(application: Application, announced: str, cut: int) -> None:
    """With an expected digest a chunked body is accepted and checked even if the server hides truncation."""
    server = {"wsgi.input_terminated": True, "SERVER_SOFTWARE": "Granian"}
    fields = {"HTTP_TRANSFER_ENCODING": "chunked", **server}
    if announced == "Repr-Digest":
        fields["HTTP_REPR_DIGEST"] = "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:"
    query = f"hash={HASH}" if announced == "hash" else ""
    answer = call(application, "POST", query=query, body=Body(HELLO[cut:]), **fields)
    assert answer.status == (422 if cut else 200)
    assert held(application) == ([] if cut else [HASH])


def test_chunked_with_a_length(application: Application) -> None:
    """Content-Length beside Transfer-Encoding gets 400, as servers disagree on where the body ends."""
    answer = call(application, "POST", body=Untouched(), CONTENT_LENGTH="6", **CHUNKED)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


def test_chunked_inside_uwsgi(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside uWSGI a chunked body is read by `uwsgi.chunked_read`."""
    chunks = iter([HELLO[:2], HELLO[2:]])
    uwsgi = ModuleType("uwsgi")
    uwsgi.chunked_read = lambda: next(chunks, b"")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    fields = {"HTTP_TRANSFER_ENCODING": "chunked", "uwsgi.version": b"2.0.30"}
    answer = call(application, "POST", body=Untouched(), **fields)
    assert answer.json["hash"] == HASH


@pytest.mark.parametrize(
    "coding",
    [
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "identity",
        "x",
        "",
        "\x0bchunked",
        "chunked\x0c",
        "\xa0chunked",
    ],
)
def test_other_transfer_codings(application: Application, coding: str) -> None:
    """Any transfer coding except chunked gets 501 before the body is read."""
    fields = {**CHUNKED, "HTTP_TRANSFER_ENCODING": coding}
    answer = call(application, "POST", body=Untouched(), **fields)
    assert (answer.status, answer.json["code"]) == (501, "unsupported")


@pytest.mark.parametrize("length", [None, ""])
def test_no_length(application: Application, length: str | None) -> None:
    """A body of unknown length gets 411."""
    answer = call(application, "POST", body=Untouched(), CONTENT_LENGTH=length)
    assert (answer.status, answer.json["code"]) == (411, "length_required")


@pytest.mark.parametrize("length", ["-1", "+5", "0x10", "1e3", " 6", "6 ", "6,6", "²", "٦", "9" * 20])
def test_malformed_length(application: Application, length: str) -> None:
    """A length that is not a number is refused before the body is read."""
    answer = call(application, "POST", body=Untouched(), CONTENT_LENGTH=length)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


def test_nothing_is_read_past_the_length(application: Application) -> None:
    """Reading stops at Content-Length: the next bytes belong to the next request."""
    body = Body(HELLO + b"GET / HTTP/1.1")
    answer = call(application, "POST", body=body, CONTENT_LENGTH="6")
    assert answer.json["hash"] == HASH
    assert body.read(100) == b"GET / HTTP/1.1"


@given(data=st.binary(max_size=200), sizes=st.lists(st.integers(1, 50)))
def test_any_bytes_in_any_pieces(config: Config, data: bytes, sizes: list[int]) -> None:
    """Any bytes are stored as sent, in whatever pieces the server delivers them."""
    application = quick(config)
    answer = call(application, "POST", body=Body(data, sizes), CONTENT_LENGTH=str(len(data))).json
    assert answer["hash"] == hashlib.sha256(data).hexdigest()
    assert call(application, path=answer["url"]).body == data


@pytest.mark.parametrize(
    "accept, plain",
    [
        ("text/plain", True),
        ("text/*", True),
        ("application/json;q=0.5, text/plain", True),
        ("text/plain;q=0.5, application/json", False),
        ("text/plain; charset=utf-8", True),
        ("text/plain;charset=UTF-8, */*;q=0.1", True),
        ("text/plain; charset=latin-1, application/json;q=0.1", False),
        ("*/*", False),
        ("application/json", False),
        ("image/png", False),
        ("text/plain;q=0", False),
        ("", False),
        (";;;,=", False),
        ("text/plain;q=x", False),
    ],
)
def test_accept(application: Application, accept: str, plain: bool) -> None:
    """A client that prefers text/plain gets only the hash."""
    answer = call(application, "POST", body=HELLO, HTTP_ACCEPT=accept)
    if plain:
        assert answer.body == f"{HASH}\n".encode()
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    else:
        assert answer.json["hash"] == HASH
    assert answer.headers["Cache-Control"] == "no-store"
    assert not {"ETag", "Content-Location"} & set(answer.headers), "the answer is no blob"
    assert answer.headers["Location"] == f"/{HASH}"


@pytest.mark.parametrize(
    "prefix, quoted",
    [
        ("/data", "/data"),
        ("/data/", "/data"),
        ("/a b", "/a%20b"),
        ("/daten/ü".encode().decode("latin-1"), "/daten/%C3%BC"),
        ("/\xfc", "/%FC"),
        ('/<"?#%', "/%3C%22%3F%23%25"),
    ],
)
def test_mounted(application: Application, prefix: str, quoted: str) -> None:
    """URLs in answers are relative to the mount point and ignore the Host field."""
    answer = call(application, "POST", body=HELLO, SCRIPT_NAME=prefix, HTTP_HOST="evil.example")
    assert answer.json["url"] == f"{quoted}/{HASH}"
    assert answer.headers["Location"] == f"{quoted}/{HASH}"


def test_path_of_the_mount_point_itself(application: Application) -> None:
    """The service answers at its mount point without the slash, too."""
    assert call(application, "POST", path="", body=HELLO, SCRIPT_NAME="/data").json["hash"] == HASH


def test_size_limit(config: Config) -> None:
    """A file of max_size is stored; one byte more gets 413, with or without Content-Length."""
    application = create_app(replace(config, max_size=6))
    assert call(application, "POST", body=HELLO).status == 200
    announced = call(application, "POST", body=Untouched(), CONTENT_LENGTH="7")
    found = call(application, "POST", body=Body(b"seven b"), **CHUNKED)
    for answer in (announced, found):
        assert (answer.status, answer.json["code"]) == (413, "too_large")
        assert answer.json["limit"] == 6
    assert held(application) == [HASH]


def test_no_room(config: Config) -> None:
    """A file larger than the free space gets 507 before its body is read."""
    application = create_app(replace(config, min_free=1 << 62))
    answer = call(application, "POST", body=Untouched(), CONTENT_LENGTH="6")
    assert (answer.status, answer.json["code"]) == (507, "storage_full")
    assert (answer.json["needed"], answer.json["available"]) == (6, 0)


def test_short_body(application: Application) -> None:
    """A body shorter than its Content-Length stores nothing, and the error gives both lengths."""
    answer = call(application, "POST", body=Body(HELLO), CONTENT_LENGTH="10")
    assert (answer.status, answer.json["code"]) == (400, "incomplete_body")
    assert (answer.json["expected"], answer.json["actual"]) == (10, 6)
    assert not held(application)


class Broken(Body):
    """A body that raises an error midway."""

    def __init__(self, error: Exception) -> None:
        super().__init__(HELLO)
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the data, then raise."""
        data = super().read(size)
        if not data:
            raise self.error
        return data

    def readinto(self, buffer: Any, /) -> int:
        """The same into a buffer."""
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


@pytest.mark.parametrize(
    "error, status, code",
    [
        (TimeoutError("timed out"), 408, "request_timeout"),
        (ConnectionResetError("reset"), 400, "incomplete_body"),
        (OSError("No more data"), 400, "incomplete_body"),
        (ValueError("bad chunk"), 400, "bad_request"),
    ],
)
def test_broken_body(application: Application, error: Exception, status: int, code: str) -> None:
    """A read error of the server is answered as a client error and stores nothing."""
    for extra in (CHUNKED, {"CONTENT_LENGTH": "10"}):
        answer = call(application, "POST", body=Broken(error), **extra)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert not held(application)
        assert not os.listdir(application.store.staging_directory)


def test_a_server_that_follows_cgi(application: Application) -> None:
    """Under CGI there is no Location, because Apache would answer with the blob it names."""
    answer = call(application, "POST", body=HELLO, GATEWAY_INTERFACE="CGI/1.1")
    assert (answer.status, answer.json["hash"]) == (200, HASH)
    assert "Location" not in answer.headers
