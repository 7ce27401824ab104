"""Ranges (RFC 9110 section 14), compared with a reference that works on sets of bytes."""

import hashlib
import random
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webtest import TestApp

from tests.support.calling import Answer, call, quick, request, start
from wsgi_store.config import Config
from wsgi_store.digest import Digest
from wsgi_store.store.contract import Blob
from wsgi_store.web.application import Application
from wsgi_store.web.conditional import GAP, MAX_RANGES

pytestmark = pytest.mark.every_store
TEN = b"0123456789"
BYTES = random.Random(9110).randbytes(300_000)
SIZES = [0, 1, 2, 10, 300, 1000, 70_000, 300_000]
NUMBER = st.one_of(st.integers(0, 12), st.integers(0, 1200), st.integers(0, 310_000)).map(str)
SPEC = st.one_of(
    st.tuples(NUMBER, NUMBER).map("-".join),
    NUMBER.map(lambda number: f"{number}-"),
    NUMBER.map(lambda number: f"-{number}"),
    st.sampled_from(
        ["", " ", "-", "x", "1", "0--1", "1-2-3", "+1-2", "1 - 2", "٣-٤", "0x1-", "9" * 5000 + "-"]
    ),
)
FIELD = st.one_of(
    st.lists(st.one_of(st.tuples(NUMBER, NUMBER).map(sorted).map("-".join), SPEC), max_size=8)
    .map(",".join)
    .map(lambda specs: f"bytes={specs}"),
    st.lists(SPEC, max_size=8).map(" ,\t".join).map(lambda specs: f"Bytes={specs}"),
    st.tuples(st.sampled_from(["bytes", "lines", "", "bytes "]), st.sampled_from(["", "=", ":"]), SPEC).map(
        "".join
    ),
)


def wanted(value: str, size: int) -> list[set[int]] | None:
    """The bytes of each satisfiable range; None if the field is ignored."""
    match = re.fullmatch(r"\s*bytes\s*=(.*)", value, re.IGNORECASE | re.DOTALL)
    if match is None:
        return None
    specs = [spec.strip(" \t") for spec in match[1].split(",")]
    specs = [spec for spec in specs if spec]
    everything = range(size)
    found = []
    for spec in specs:
        if re.fullmatch("[0-9]{1,4000}-", spec):
            found.append(set(everything[int(spec[:-1]) :]))
        elif re.fullmatch("-[0-9]{1,4000}", spec):
            suffix = int(spec[1:])
            if suffix and not size:
                return None
            found.append(set(everything[max(0, size - suffix) :]))
        elif re.fullmatch("[0-9]{1,4000}-[0-9]{1,4000}", spec):
            first, last = map(int, spec.split("-"))
            if last < first:
                return None
            found.append(set(everything[first : last + 1]))
        else:
            return None
    return [one for one in found if one] if specs else None


def parts(answer: Answer, size: int) -> list[tuple[int, int, bytes]]:
    """The parts of a 206, parsed strictly: first byte, last byte and content."""
    spans = []
    kind = answer.headers["Content-Type"]
    match = re.fullmatch(r"multipart/byteranges; boundary=([0-9a-f]+)", kind)
    if match is None:
        span = re.fullmatch(rf"bytes ([0-9]+)-([0-9]+)/{size}", answer.headers["Content-Range"])
        assert span is not None
        return [(int(span[1]), int(span[2]), answer.body)]
    assert "Content-Range" not in answer.headers
    delimiter = b"\r\n--" + match[1].encode()
    rest = answer.body
    while not rest.startswith(delimiter + b"--"):
        head, _, rest = rest.partition(b"\r\n\r\n")
        pattern = delimiter + rb"\r\nContent-Type: (.*)\r\nContent-Range: bytes ([0-9]+)-([0-9]+)/%d"
        fields = re.fullmatch(pattern % size, head)
        assert fields is not None
        first, last = int(fields[2]), int(fields[3])
        spans.append((first, last, rest[: last - first + 1]))
        rest = rest[last - first + 1 :]
    assert rest == delimiter + b"--\r\n"
    return spans


def put(application: Application, data: bytes) -> str:
    """Store `data`; return its path."""
    path: str = call(application, "POST", body=data).json["url"]
    return path


@given(value=FIELD, size=st.sampled_from(SIZES))
@example(value="bytes=0-0,200-200", size=300)
@example(value="bytes=200-200,0-0,100-100,-1", size=300_000)
@example(value=f"bytes=0-0,{GAP + 1}-{GAP + 1}", size=1000)
@example(value=f"bytes=0-0,{GAP + 2}-{GAP + 2}", size=1000)
def test_any_ranges(config: Config, value: str, size: int) -> None:
    """Any Range field gets the bytes it asks for, each once and in order."""
    application = quick(config)
    data = BYTES[:size]
    answer = call(application, path=put(application, data), HTTP_RANGE=value)
    asked = wanted(value, size)
    if asked is None:
        assert (answer.status, answer.body) == (200, data)
    elif not asked:
        assert (answer.status, answer.json["code"]) == (416, "range_not_satisfiable")
        assert answer.json["size"] == size
        assert answer.headers["Content-Range"] == f"bytes */{size}"
    else:
        assert answer.status == 206
        sent = parts(answer, size)
        for first, last, content in sent:
            assert content == data[first : last + 1]
        spans = sorted((first, last) for first, last, _ in sent)
        # Bytes between two ranges are sent only if they are fewer than a part's header.
        assert all(start - stop - 1 > GAP for (_, stop), (start, _) in zip(spans, spans[1:]))
        given_ = set().union(*(range(first, last + 1) for first, last in spans))
        union = set().union(*asked)
        assert union <= given_
        if len(sent) == 1 and len(asked) == 1:
            assert union == given_
        assert all(first in union and last in union for first, last in spans)
        order = [next(i for i, (a, b, _) in enumerate(sent) if a <= min(one) <= b) for one in asked]
        assert list(dict.fromkeys(order)) == list(range(len(sent)))


@pytest.mark.parametrize(
    "value, content, content_range",
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=9-9", b"9", "bytes 9-9/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-100", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-100", TEN, "bytes 0-9/10"),
        ("bytes=0-", TEN, "bytes 0-9/10"),
        ("BYTES=1-1", b"1", "bytes 1-1/10"),
        ("bytes=1-1,,20-", b"1", "bytes 1-1/10"),
        ("bytes=2-3,0-1", b"0123", "bytes 0-3/10"),
    ],
)
def test_one_range(
    api: TestApp, application: Application, value: str, content: bytes, content_range: str
) -> None:
    """A single range, or several that merge into one, is sent with all fields of the blob."""
    path = put(application, TEN)
    whole = api.get(path)
    answer = api.get(path, headers={"Range": value})
    assert (answer.status_int, answer.body) == (206, content)
    assert answer.headers["Content-Range"] == content_range
    assert answer.headers["Content-Length"] == str(len(content))
    same = {"ETag", "Last-Modified", "Repr-Digest", "Cache-Control", "Content-Type", "Accept-Ranges"}
    assert {name: answer.headers[name] for name in same} == {name: whole.headers[name] for name in same}


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-20,11-", "bytes=-0", "bytes=99999999999999999999-"])
def test_no_range_satisfiable(api: TestApp, application: Application, value: str) -> None:
    """Ranges beyond the end get 416 with the size of the blob."""
    answer = api.get(put(application, TEN), headers={"Range": value}, status=416)
    assert answer.headers["Content-Range"] == "bytes */10"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "ETag" not in answer.headers
    assert answer.json["size"] == 10


@pytest.mark.parametrize("value, status", [("bytes=0-", 416), ("bytes=-0", 416), ("bytes=-5", 200)])
def test_ranges_of_nothing(application: Application, value: str, status: int) -> None:
    """An empty blob satisfies only a suffix range, and is sent whole."""
    answer = call(application, path=put(application, b""), HTTP_RANGE=value)
    assert answer.status == status
    assert answer.headers.get("Content-Range") == ("bytes */0" if status == 416 else None)


def test_several_ranges(api: TestApp, application: Application) -> None:
    """Several ranges are sent as multipart/byteranges, each part with the type of the blob."""
    path = put(application, BYTES[:1000])
    answer = api.get(f"{path}/a.txt", headers={"Range": "bytes=900-,0-9"})
    boundary = answer.headers["Content-Type"].partition("boundary=")[2]
    head = f"\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes "
    assert answer.body == (
        f"{head}900-999/1000\r\n\r\n".encode()
        + BYTES[900:1000]
        + f"{head}0-9/1000\r\n\r\n".encode()
        + BYTES[:10]
        + f"\r\n--{boundary}--\r\n".encode()
    )
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["ETag"] == f'"{path[1:]}"'


@pytest.mark.parametrize("gap, count", [(GAP, 1), (GAP + 1, 2)])
def test_near_ranges(application: Application, gap: int, count: int) -> None:
    """Ranges closer together than the length of a part's header are merged."""
    answer = call(application, path=put(application, BYTES), HTTP_RANGE=f"bytes=0-0,{gap + 1}-{gap + 1}")
    assert len(parts(answer, len(BYTES))) == count


def test_boundary_is_not_foreseeable(application: Application) -> None:
    """The boundary is random, so no blob can contain it on purpose."""
    path = put(application, BYTES[:1000])
    answers = [call(application, path=path, HTTP_RANGE="bytes=0-1,900-") for _ in range(2)]
    assert answers[0].headers["Content-Type"] != answers[1].headers["Content-Type"]


@pytest.mark.parametrize("count, status", [(MAX_RANGES, 206), (MAX_RANGES + 1, 200)])
def test_many_ranges(application: Application, count: int, status: int) -> None:
    """A request for more than MAX_RANGES parts gets the whole blob."""
    value = "bytes=" + ",".join(f"{i * 1000}-{i * 1000}" for i in range(count))
    answer = call(application, path=put(application, BYTES), HTTP_RANGE=value)
    assert answer.status == status
    assert len(answer.body) == len(BYTES) if status == 200 else len(parts(answer, len(BYTES))) == count


@pytest.mark.parametrize("spec", ["0-", "-299999", "0-299999", "1-299998"])
def test_overlapping_ranges(application: Application, spec: str) -> None:
    """A range repeated a thousand times is sent once."""
    value = "bytes=" + ",".join([spec] * 1000)
    answer = call(application, path=put(application, BYTES), HTTP_RANGE=value)
    assert answer.status == 206
    assert len(answer.body) <= len(BYTES)


@pytest.mark.parametrize("path", ["/", "/files", "/healthz"])
def test_ranges_of_documents(application: Application, path: str) -> None:
    """Range is ignored for everything but blobs."""
    assert call(application, path=path, HTTP_RANGE="bytes=0-0").status == 200


def test_head_ignores_ranges(application: Application) -> None:
    """HEAD ignores Range, which RFC 9110 defines for GET alone."""
    path = put(application, TEN)
    for value in ("bytes=0-0", "bytes=20-"):
        answer = call(application, "HEAD", path, HTTP_RANGE=value)
        assert (answer.status, answer.headers["Content-Length"]) == (200, "10")


@pytest.mark.on_disk
@pytest.mark.parametrize("value", ["bytes=0-9,100000-", "bytes=0-"])
def test_removed_while_sent(application: Application, value: str) -> None:
    """A blob removed during a download of ranges is still sent whole."""
    path = put(application, BYTES)
    status, headers, result = start(application, request(path=path, HTTP_RANGE=value))
    try:
        chunks = iter(result)
        body = next(chunks)
        assert call(application, "DELETE", path).status == 200
        body += b"".join(chunks)
    finally:
        result.close()
    for first, last, content in parts(Answer(status, headers, body), len(BYTES)):
        assert content == BYTES[first : last + 1]


@pytest.mark.on_disk
@pytest.mark.parametrize("value", ["bytes=0-0,1000-", "bytes=5-"])
def test_removed_before_sent(application: Application, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A blob removed between stat and open gets 404."""
    path = put(application, BYTES)
    look = application.store.stat

    def stat(digest: Digest) -> Blob:
        monkeypatch.undo()
        blob = look(digest)
        application.store.remove(digest)
        return blob

    monkeypatch.setattr(application.store, "stat", stat)
    answer = call(application, path=path, HTTP_RANGE=value)
    assert (answer.status, answer.json["code"]) == (404, "blob_not_found")
    assert answer.json["hash"] == hashlib.sha256(BYTES).hexdigest()
