"""The file of a form: its name, size and digest, and the limits for the rest of the form."""

import base64
import hashlib
import io
import os
import tracemalloc
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.calling import Body, Untouched, call, held, quick
from tests.support.forms import CHUNKED, FIELD, FILE, HASH, HELLO, check_refused, form, part, post
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.web.application import Application
from wsgi_store.web.body import READ_SIZE
from wsgi_store.web.form import FORM_OVERHEAD

PIECE = READ_SIZE // 4


@pytest.mark.parametrize(
    "written, name",
    [
        ("filename=a.txt", "a.txt"),
        ('filename="a b;c=d.txt"', "a b;c=d.txt"),
        ('filename="größe €.txt"', "größe €.txt"),
        (b'filename="gr\xf6\xdfe.txt"', "gr\ufffd\ufffde.txt"),
        (b'filename="\xff"', "\ufffd"),
        ("filename*=UTF-8''gr%C3%B6%C3%9Fe.txt", "größe.txt"),
        ("filename*=iso-8859-1'de'gr%F6%DFe.txt", "größe.txt"),
        ("filename=\"a.txt\"; filename*=UTF-8''b.txt", "a.txt"),
        ('filename="a\\"b.txt"', 'a"b.txt'),
        ('filename="a%22b.txt"', 'a"b.txt'),
        ('filename="a%0Ab.txt"', "a\nb.txt"),
        ('filename="100%.txt"', "100%.txt"),
        ('filename="/etc/passwd"', "/etc/passwd"),
        ('filename="../../etc/passwd"', "../../etc/passwd"),
        ('filename="C:\\a\\b.txt"', "b.txt"),
        ('filename="a\0b.txt"', "a\0b.txt"),
        ('filename=".."', ".."),
        (f'filename="{"x" * 300}"', "x" * 300),
        (f'filename="{"ü" * 300}"', "ü" * 300),
    ],
)
def test_names(application: Application, config: Config, written: str | bytes, name: str) -> None:
    """Any file name is accepted, returned as the client meant it, and never used as a path."""
    before = sorted(os.listdir(config.root))
    if isinstance(written, str):
        written = written.encode()
    answer = post(application, form(part(b"name=file; " + written, HELLO))).json
    assert (answer["hash"], answer["name"]) == (HASH, name)
    assert sorted(os.listdir(config.root)) == sorted([*before, HASH[:2]])
    assert call(application, path=f"/{HASH}/" + name.encode().decode("latin-1")).body == HELLO
    assert call(application, query=f"hash={HASH}&filename={quote(name)}").body == HELLO


@given(name=st.binary(max_size=40))
def test_any_name(config: Config, name: bytes) -> None:
    """A file name may have any bytes except a line feed."""
    body = form(part(b'name="file"; filename="a' + name + b'"', HELLO))
    answer = post(quick(config), body)
    if b"\n" in name:
        assert answer.status in (200, 400)
    else:
        assert answer.json["hash"] == HASH


HUGE = b"x" * (FORM_OVERHEAD + 1)


@pytest.mark.parametrize(
    "body",
    [
        form(part("name=x", HUGE), FILE),
        form(FILE, part("name=x", HUGE)),
        form(part("name=x", HUGE[: FORM_OVERHEAD // 2]), FILE, part("name=x", HUGE[: FORM_OVERHEAD // 2])),
        HUGE + b"\r\n" + form(FILE),
        form(FILE) + HUGE,
    ],
)
def test_too_much_beside_the_file(application: Application, body: bytes) -> None:
    """Fields, preamble and epilogue over the limit stop the reading early, and nothing is stored."""
    endless = Body(body + bytes(2 * READ_SIZE))
    answer = post(application, endless, **CHUNKED)
    check_refused(application, answer)
    assert answer.json["limit"] == FORM_OVERHEAD
    assert endless.tell() <= len(body) + READ_SIZE


def test_one_byte_too_much(application: Application) -> None:
    """The limit is exact to the byte."""
    most = FORM_OVERHEAD - (len(form(FILE)) - len(HELLO))
    check_refused(application, post(application, form(FILE) + HUGE[: most + 1]))
    assert post(application, form(FILE) + HUGE[:most]).json["hash"] == HASH


def test_second_file_is_not_read(application: Application) -> None:
    """With `?hash=`, reading stops where a second file begins."""
    second = part('name="b"; filename="b"', bytes(4 * READ_SIZE))
    body = Body(form(FILE, second))
    check_refused(application, post(application, body, QUERY_STRING=f"hash={HASH}", **CHUNKED))
    assert body.tell() <= READ_SIZE


@pytest.mark.parametrize("size", [1, FORM_OVERHEAD, 2 * FORM_OVERHEAD + 1])
@pytest.mark.parametrize("sizes", [(), (100_001,) * 200])
def test_large_fields_and_files(application: Application, size: int, sizes: tuple[int, ...]) -> None:
    """The limit counts, to the byte, everything in the form except the file."""
    content = os.urandom(size)
    file = part('name="file"; filename="a"', content)
    frame = len(form(part("name=x"), file)) - size
    data = form(part("name=x", bytes(FORM_OVERHEAD - frame)), file)
    assert len(data) - size == FORM_OVERHEAD
    answer = post(application, Body(data, sizes), **CHUNKED).json
    assert answer["hash"] == hashlib.sha256(content).hexdigest()


def test_size_limit(config: Config) -> None:
    """max_size limits the file; if there must be one, a Content-Length too large for it gets 413 at once."""
    application = create_app(replace(config, max_size=6))
    assert post(application, form(FIELD, FILE, FIELD)).status == 200
    seven = form(part('name="file"; filename="a"', b"seven b"))
    bound = {"QUERY_STRING": f"hash={HASH}"}
    for answer in (
        post(application, seven),
        post(application, seven, **bound),
        post(application, Untouched(), CONTENT_LENGTH=str(FORM_OVERHEAD + 7), **bound),
    ):
        assert (answer.status, answer.json["code"], answer.json["limit"]) == (413, "too_large", 6)
    assert held(application) == [HASH]


def digest_field(data: bytes) -> str:
    """A digest field for `data`."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.mark.parametrize("name", ["HTTP_REPR_DIGEST", "HTTP_CONTENT_DIGEST"])
def test_digest_fields(application: Application, name: str) -> None:
    """Digest fields cover the whole body (RFC 9530), epilogue included."""
    body = form(FIELD, FILE) + b"epilogue"
    for wrong in (HELLO, form(FIELD, FILE)):
        answer = post(application, body, **{name: digest_field(wrong)})
        assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
        assert answer.json["actual"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert not held(application)
    assert post(application, body, **{name: digest_field(body)}).json["hash"] == HASH


def test_expected_hash(application: Application) -> None:
    """`hash` in the query is the hash of the file."""
    body = form(FIELD, FILE)
    answer = post(application, body, QUERY_STRING=f"hash={hashlib.sha256(body).hexdigest()}")
    assert (answer.status, answer.json["actual"]) == (422, f"sha256:{HASH}")
    assert not held(application)
    assert post(application, body, QUERY_STRING=f"hash={HASH}").json["hash"] == HASH


class Endless(io.BytesIO):
    """A form with a file of many blocks, generated while it is read."""

    def __init__(self, blocks: int, head: bytes, tail: bytes) -> None:
        super().__init__()
        self.pieces = iter([head, *[bytes(PIECE)] * blocks, tail])

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Read the next piece; no read asks for less."""
        piece = next(self.pieces, b"")
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("is_form", [True, False])
def test_memory(application: Application, is_form: bool) -> None:
    """Receiving a large file takes no more memory than a few reads."""
    blocks = 256
    head, _, tail = form(part('name="file"; filename="a"', b"@")).partition(b"@")
    body = Endless(blocks, head if is_form else b"", tail if is_form else b"")
    if not is_form:
        next(body.pieces)
    tracemalloc.start()
    try:
        kind = {} if is_form else {"CONTENT_TYPE": "text/plain"}
        answer = post(application, body, **CHUNKED, **kind)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.json["size"] == blocks * PIECE
    assert peak < 12 * PIECE
