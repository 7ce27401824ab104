"""Raw requests fuzz a real server: no failure, no hang, and only complete uploads stored."""

import hashlib

import h11
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.exchanges import form
from tests.support.fuzzing import HELD_HASH, exchange, judge
from tests.support.servers import Server
from tests.support.wire import chunked, message


def uploads(data: bytes) -> set[str]:
    """The hashes of the complete uploads in the data, as h11 parses it."""
    found = set()
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    try:
        reader.receive_data(data)
        reader.receive_data(b"")
        while isinstance(request := reader.next_event(), h11.Request):
            body = b""
            while isinstance(event := reader.next_event(), h11.Data):
                body += event.data
            if not isinstance(event, h11.EndOfMessage):
                break
            if request.method in (b"POST", b"PUT"):
                found.add(hashlib.sha256(body).hexdigest())
            reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            reader.send(h11.EndOfMessage())
            reader.start_next_cycle()
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        pass  # the rest is no request, or the connection is unusable
    return found


NUMBERS = st.sampled_from(
    ["0", "3", "5", "7", "-1", "+5", "5_0", "0x5", "05", "5,5", "", " ", "9" * 30, "\xb2"]
)
LENGTH = (NUMBERS | st.integers(0, 3_000_000).map(str)).map("Content-Length: ".__add__)
CODING = st.sampled_from(
    ["chunked", "Chunked", "chunked, chunked", "gzip, chunked", "identity", "x", "", "chunked;a=b"]
).map("Transfer-Encoding: ".__add__)
KNOWN = [
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: upgrade, http2-settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
    "Content-Type: multipart/form-data; boundary=xyz",
    "Content-Type: multipart/form-data; boundary=",
    "Content-Type: multipart/form-data; boundary*=utf-8''%zz",
    "Range: bytes=0-0,-1,2-",
    "Range: bytes=" + "9" * 40 + "-",
    "Content-Range: bytes 0-4/5",
    "If-None-Match: *",
    'If-None-Match: "',
    "If-Modified-Since: Sat, 99 Foo 99999 99:99:99",
    "If-Range: W/",
    "Repr-Digest: md5=:",
    "Content-Digest: sha-256=:////:, md5",
    "Authorization: Basic =",
    "Authorization: Bearer \xff",
    "Accept: text/plain;q=nan, */*;q=9e999",
    "X-Request-ID: \x7f",
    "Script-Name: /x",
    "Script_Name: /x",
    "X-Forwarded-Proto: https",
    "Forwarded: for=[",
    "Host: b",
    "Host: \xe4:99999999",
    " folded",
    "no colon",
]
FIELD = LENGTH | CODING | st.sampled_from(KNOWN) | st.text(st.characters(max_codepoint=255), max_size=40)
METHOD = st.sampled_from(["POST", "PUT"]) | st.sampled_from(
    ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PRI"]
)
TARGET = st.sampled_from(
    [
        "/",
        "/",
        "/",
        f"/{HELD_HASH}/%00%ff%",
        f"/?hash={HELD_HASH}&filename=%c3%28",
        "/files?limit=-1&after=%ff",
    ]
    + [
        f"/?hash={'0' * 64}",
        f"/{'0' * 64}",
        f"/{HELD_HASH}",
        "/a%0a.txt",
        "/?link=a.b.c&ticket=%",
        "*",
        "//",
        "http://[::1/",
        "x:1",
        "/%2e%2e/..%2f",
        "/\xff",
    ]
) | st.text(st.characters(max_codepoint=255), max_size=30)
VERSION = st.just("HTTP/1.1") | st.sampled_from(
    ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1 ", ""]
)
CHUNK = st.builds(
    lambda size, data, end: f"{size}\r\n".encode("latin-1") + data + end,
    st.sampled_from(
        ["0", "3", "5", "-5", "+5", "0x5", "5 ", "5;a=b", "f" * 16, "ffffffff", "", "zz", "\xb2"]
    ),
    st.binary(max_size=6),
    st.sampled_from([b"\r\n", b"\n", b"", b"\r\n0\r\n\r\n"]),
)
BODY = st.binary(max_size=40) | st.lists(CHUNK, max_size=4).map(b"".join)
REQUEST = st.builds(
    lambda method, target, version, fields, end, body: (
        "\r\n".join([f"{method} {target} {version}", "Host: a", *fields]).encode("latin-1") + end + body
    ),
    METHOD,
    TARGET,
    VERSION,
    st.lists(FIELD, max_size=4),
    st.sampled_from([b"\r\n\r\n"] * 6 + [b"\n\n", b"\r\n", b"\r\n\n", b""]),
    BODY,
)
# Valid uploads, to be changed.
WAY = st.sampled_from([("POST", "/"), ("PUT", "/"), ("PUT", "/a%0a.txt")])
RIGHT = st.builds(lambda way, data: message(*way, data), WAY, st.binary(max_size=30)) | st.builds(
    lambda way, chunks: message(*way, Transfer_Encoding="chunked") + chunked(*chunks),
    WAY,
    st.lists(st.binary(min_size=1, max_size=9), max_size=4),
)
CHANGE = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 2), st.binary(max_size=2))
FUZZ = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def changed(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Replace some bytes by others."""
    for place, length, by in changes:
        start = int(place * len(data))
        data = data[:start] + by + data[start + length :]
    return data


def cut(data: bytes, places: list[float]) -> list[bytes]:
    """Split bytes into pieces."""
    ends = sorted(int(place * len(data)) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


CUTS = st.lists(st.floats(0, 1), max_size=4)
PAUSE = st.sampled_from([0, 0, 0.002])


@FUZZ
@given(st.lists(REQUEST, min_size=1, max_size=3).map(b"".join), CUTS, PAUSE)
def test_any_request(server: Server, data: bytes, cuts: list[float], pause: float) -> None:
    """Pipelined requests, from almost valid to nonsense, never break the service."""
    judge(server, exchange(server, cut(data, cuts), pause), uploads(data))


@FUZZ
@given(st.lists(RIGHT, min_size=1, max_size=2).map(b"".join), st.lists(CHANGE, max_size=3), CUTS, PAUSE)
@example(message("POST", "/", b"whole"), [], [], 0)
def test_changed_uploads(
    server: Server, right: bytes, changes: list[tuple[float, int, bytes]], cuts: list[float], pause: float
) -> None:
    """Valid uploads are stored; changed ones only if h11 reads a complete upload, too."""
    data = changed(right, changes)
    statuses = judge(server, exchange(server, cut(data, cuts), pause), uploads(data))
    if not changes:
        assert set(statuses) == {200}


@FUZZ
@given(st.binary(max_size=50), st.floats(0, 1, exclude_max=True), CUTS, st.booleans())
def test_cut_forms(server: Server, content: bytes, place: float, cuts: list[float], honest: bool) -> None:
    """A form cut before its last boundary stores nothing, whatever its Content-Length."""
    head, end, body = form("a", content).partition(b"\r\n\r\n")
    part = body[: int(place * len(body.rstrip()))]
    if honest:
        head = head.replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(part))
    assert judge(server, exchange(server, cut(head + end + part, cuts)), set()) == [400]


@FUZZ
@given(st.binary(max_size=50), st.lists(CHANGE, min_size=1, max_size=3))
def test_changed_forms(server: Server, content: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    """A changed form is stored or refused."""
    data = form("a", content)
    head, end, body = data.partition(b"\r\n\r\n")
    length = len(body)
    body = changed(body, changes)
    head = head.replace(b"Content-Length: %d" % length, b"Content-Length: %d" % len(body))
    assert judge(server, exchange(server, [head + end + body]))[0] in (200, 400)
