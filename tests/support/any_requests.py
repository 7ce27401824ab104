"""Random requests, from almost valid to nonsense, and what a peer makes of them."""

import hashlib

import h11
from hypothesis import strategies as st

from tests.support.fuzzing import HELD_HASH
from tests.support.wire import chunked, message

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


def changed(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Replace some bytes by others."""
    for place, length, by in changes:
        start = int(place * len(data))
        data = data[:start] + by + data[start + length :]
    return data


def uploads(data: bytes) -> list[str]:
    """The hashes of the complete uploads in the data, as h11 parses it."""
    found = []
    while data:
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        # h11 refuses the empty line that a server should ignore before a request (RFC 9112 section 2.2).
        reader.receive_data(data.removeprefix(b"\r\n"))
        reader.receive_data(b"")
        try:
            if not isinstance(request := reader.next_event(), h11.Request):
                break
            body = b""
            while isinstance(event := reader.next_event(), h11.Data):
                body += event.data
            if not isinstance(event, h11.EndOfMessage):
                break
            if request.method in (b"POST", b"PUT"):
                found.append(hashlib.sha256(body).hexdigest())
            reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            reader.send(h11.EndOfMessage())
            reader.start_next_cycle()
        except (h11.RemoteProtocolError, h11.LocalProtocolError):
            break  # this is no request, or the connection is unusable after it
        data, _ = reader.trailing_data
    return found
