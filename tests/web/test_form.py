"""POST / of a form with one file (RFC 7578) stores it, or nothing."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webtest import TestApp

from tests.support.calling import Body, call, held, quick
from tests.support.forms import (
    CHUNKED,
    EMPTY,
    FIELD,
    FILE,
    HASH,
    HELLO,
    NAMELESS,
    check_refused,
    form,
    part,
    post,
)
from wsgi_store.config import Config
from wsgi_store.web.application import Application
from wsgi_store.web.form import FORM_PARTS


def test_file_of_a_browser(api: TestApp) -> None:
    """The file of a form is stored, and the answer has its name."""
    answer = api.post("/", {"field": "value"}, upload_files=[("file", "größe.txt", HELLO)])
    assert (answer.json["hash"], answer.json["size"], answer.json["name"]) == (HASH, 6, "größe.txt")
    assert answer.json.keys() == {"hash", "algorithm", "names", "size", "url", "created", "name"}
    assert not {"ETag", "Content-Location"} & set(answer.headers), "the answer is no blob"
    assert api.get(answer.json["url"]).body == HELLO


@pytest.mark.parametrize(
    "parts",
    [
        [FILE],
        [FIELD, FILE],
        [FILE, FIELD],
        [FIELD, FIELD, FILE, FIELD, FIELD],
        [EMPTY, FILE],
        [FILE, EMPTY],
        [EMPTY, FIELD, FILE, FIELD, EMPTY],
        [part("name=x", b""), FILE, part('name="filename=b"', b"x"), part("x=y", b"z")],
    ],
)
def test_one_file(application: Application, parts: list[bytes]) -> None:
    """Other fields and empty file inputs, before or after the file, are ignored."""
    answer = post(application, form(*parts)).json
    assert (answer["hash"], answer["name"]) == (HASH, "a.txt")
    assert held(application) == [HASH]


@pytest.mark.parametrize("parts", [[], [FIELD], [EMPTY], [EMPTY, FIELD, EMPTY]])
@pytest.mark.parametrize("query", ["", f"hash={HASH}"])
def test_no_file(application: Application, parts: list[bytes], query: str) -> None:
    """A form without a file is refused."""
    answer = post(application, form(*parts), QUERY_STRING=query)
    check_refused(application, answer)
    assert answer.json["files"] == 0


@pytest.mark.parametrize(
    "parts",
    [
        [FILE, FILE],
        [FILE, FIELD, FILE],
        [FILE, NAMELESS],
        [NAMELESS, FILE],
        [FILE, part('name="b"; filename="b.txt"')],
        [FILE, FILE, FILE],
    ],
)
def test_second_file_of_a_form_that_has_to_have_one(application: Application, parts: list[bytes]) -> None:
    """With `?hash=` a form with several files is refused, whatever they are."""
    answer = post(application, form(*parts), QUERY_STRING=f"hash={HASH}")
    check_refused(application, answer)
    assert answer.json["files"] == 2


def test_empty_file(application: Application) -> None:
    """A named file without bytes is stored."""
    answer = post(application, form(part('name="file"; filename="a.txt"'), FIELD)).json
    assert (answer["size"], answer["name"]) == (0, "a.txt")


def test_file_without_a_name(application: Application) -> None:
    """A file part with bytes and an empty file name is stored, and the answer has no name."""
    answer = post(application, form(FIELD, NAMELESS)).json
    assert answer["hash"] == HASH
    assert "name" not in answer


BOUNDARIES = st.sampled_from(
    ["B", "-", "--", "a b", "*****", "----WebKitFormBoundary7MA4YWxkTrZu0gW", "x" * 70]
)


@st.composite
def uploads(draw: st.DrawFn) -> tuple[bytes, str, list[int]]:
    """Content full of near-boundaries, the boundary, and the sizes of reads."""
    boundary = draw(BOUNDARIES)
    line = b"--" + boundary.encode()
    pieces = [b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n-", b"\r\n--", line, line[:-1], b"\r\n" + line[:-1]]
    pieces += [line + b"--", line + b"\r\n", b"\n" + line, b"\0", b"x"]
    content = b"".join(draw(st.lists(st.one_of(st.sampled_from(pieces), st.binary(max_size=9)), max_size=12)))
    if b"\r\n" + line in content:
        content = content.replace(b"\r\n" + line, b"")
    if b"\r\n" + line in content:
        content = b""
    sizes = draw(st.one_of(st.just([1] * 2000), st.lists(st.integers(1, 40), max_size=100)))
    return content, boundary, sizes


@given(upload=uploads(), before=st.booleans(), after=st.booleans())
@example(upload=(b"\r\n--", "B", [1] * 2000), before=True, after=True)
def test_any_content(config: Config, upload: tuple[bytes, str, list[int]], before: bool, after: bool) -> None:
    """Any content is stored byte for byte, in whatever pieces the server delivers the body."""
    content, boundary, sizes = upload
    application = quick(config)
    file = part('name="file"; filename="a"', content)
    data = form(*[FIELD] * before, file, *[FIELD] * after, boundary=boundary)
    body = Body(data, sizes)
    answer = post(application, body, boundary, CONTENT_LENGTH=str(len(data))).json
    assert answer["hash"] == hashlib.sha256(content).hexdigest()
    assert call(application, path=answer["url"]).body == content
    assert body.tell() == len(data)


@given(data=st.data(), sizes=st.lists(st.integers(1, 40), max_size=30))
def test_any_truncation(config: Config, data: st.DataObject, sizes: list[int]) -> None:
    """A form cut anywhere before its last boundary is refused, chunked or with a Content-Length."""
    application = quick(config)
    whole = form(FIELD, part('name="file"; filename="a"', b"\r\n--\r\n" + HELLO), FIELD)
    length = data.draw(st.integers(0, len(whole) - len(b"-\r\n")))
    cut = whole[:length]
    check_refused(application, post(application, Body(cut, sizes), CONTENT_LENGTH=str(length)))
    check_refused(application, post(application, Body(cut, sizes), **CHUNKED))
    answer = post(application, Body(cut, sizes), CONTENT_LENGTH=str(len(whole)))
    check_refused(application, answer, "incomplete_body")
    assert (answer.json["expected"], answer.json["actual"]) == (len(whole), length)


def test_end_without_a_line_break(application: Application) -> None:
    """The line break after the last boundary is optional."""
    assert post(application, form(FILE)[:-2]).json["hash"] == HASH


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="B\xe9"',
        'multipart/form-data; boundary="B\n"',
        "multipart/form-data; boundary*=utf-8''%E2%82%AC",
        "multipart/form-data; boundary=C",
    ],
)
def test_boundary_that_is_none(application: Application, kind: str) -> None:
    """A form with a missing, malformed or wrong boundary is refused."""
    check_refused(application, call(application, "POST", body=form(FILE), CONTENT_TYPE=kind))


@pytest.mark.parametrize("length, status", [(1, 200), (70, 200), (71, 400)])
def test_length_of_a_boundary(application: Application, length: int, status: int) -> None:
    """A boundary has at most 70 characters (RFC 2046 section 5.1.1)."""
    boundary = "x" * length
    assert post(application, form(FILE, boundary=boundary), boundary).status == status


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data;boundary=B",
        "Multipart/Form-Data; charset=utf-8; BOUNDARY=B",
        'multipart/form-data ; boundary="B" ; x=y',
    ],
)
def test_spellings_of_the_type(application: Application, kind: str) -> None:
    """The media type and its parameter names are case-insensitive (RFC 9110 section 8.3.1)."""
    answer = call(application, "POST", body=form(FILE), CONTENT_TYPE=kind)
    assert answer.json["hash"] == HASH


@pytest.mark.parametrize("before", [b"", b"\r\n", b"preamble\r\n", b"--x\r\n" * 100])
@pytest.mark.parametrize("after", [b"", b"epilogue", form(FILE), b"\0" * 100_000])
@pytest.mark.parametrize("sizes", [(), (1,) * 1000])
def test_what_surrounds_a_form(
    application: Application, before: bytes, after: bytes, sizes: tuple[int, ...]
) -> None:
    """Preamble and epilogue are read and ignored (RFC 2046 section 5.1.1)."""
    data = before + form(FILE) + after
    for fields in ({"CONTENT_LENGTH": str(len(data))}, CHUNKED):
        body = Body(data, sizes)
        assert post(application, body, **fields).json["hash"] == HASH
        assert body.tell() == len(data)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        HELLO * 1000,
        b"--B--",
        form(FILE).replace(b"\r\n", b"\n"),
        form(FILE).replace(b"--B\r\n", b"--B \r\n"),
        form(FILE).replace(b"--B\r\n", b"--Bx\r\n"),
        form(FILE).replace(b"--B--", b"--Bx--"),
        form(FILE).replace(b": form-data", b" form-data"),
        form(FILE).replace(b"form-data", b"attachment"),
        form(b"\r\n" + HELLO),
        form(b"Content-Type: text/plain\r\n\r\n" + HELLO),
        form(b" folded\r\n" + FILE),
        form(b"\xff: x\r\n" + FILE),
        form(b"A: b\r\n" * 9 + FILE),
        form(b"A: " + b"b" * (17 << 10) + b"\r\n" + FILE),
        form(b"A: " + b"b" * (17 << 10)),
        form(b"Content-Length: 5\r\n" + FILE),
        form(b"Content-Length: 7\r\n" + FILE),
        form(b"Content-Length: x\r\n" + FILE),
        form(*[FIELD] * FORM_PARTS, FILE),
    ],
)
@pytest.mark.parametrize("sizes", [(), (1,) * 300])
def test_malformed(application: Application, body: bytes, sizes: tuple[int, ...]) -> None:
    """A malformed form is refused, as are too many parts and oversized part headers."""
    check_refused(application, post(application, Body(body, sizes), **CHUNKED))


def test_most_parts(application: Application) -> None:
    """A form of the maximum number of parts is stored."""
    assert post(application, form(*[FIELD] * (FORM_PARTS - 1), FILE)).json["hash"] == HASH
