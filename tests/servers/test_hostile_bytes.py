"""Every byte in every place, oversized requests, and requests that stop halfway."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tests.support.exchanges import form
from tests.support.fuzzing import ANSWER, HELD, HELD_HASH, SECONDS, exchange, judge
from tests.support.servers import Server
from tests.support.wire import chunked, message

pytestmark = pytest.mark.long(70)
EVERY_BYTE = [bytes([value]) for value in range(256)]


def test_requests_that_just_stop(server: Server) -> None:
    """A connection whose request stops halfway is closed after the idle timeout."""
    random = Random(1)
    whole = [message("POST", "/", b"12345"), form("a", b"12345"), message("GET", "/healthz")]
    whole += [message("POST", "/", Transfer_Encoding="chunked") + chunked(b"12345", b"67890")]
    sent = [data[: random.randrange(len(data))] for data in whole for _ in range(30)]
    with ThreadPoolExecutor(len(sent)) as pool:
        begin = time.monotonic()
        for answers in pool.map(lambda data: exchange(server, [data], half_close=False), sent):
            statuses = ANSWER.findall(answers)
            assert all(status in (b"200", b"400", b"408") for status, _ in statuses), answers
        assert time.monotonic() - begin < SECONDS
    judge(server, b"", set())


@pytest.mark.races
@pytest.mark.parametrize(
    "head",
    [
        b"%b / HTTP/1.1\r\nHost: a",
        b"G%bT / HTTP/1.1\r\nHost: a",
        b"GET /%b HTTP/1.1\r\nHost: a",
        b"GET /" + HELD_HASH.encode() + b"/a%bz HTTP/1.1\r\nHost: a",
        b"GET /?hash=%b&filename=%b&after=%b HTTP/1.1\r\nHost: a",
        b"GET /files?%b HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.%b\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a%b",
        b"GET / HTTP/1.1\r\nHost: a\r\nX%bY: z",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b",
        b"GET /" + HELD_HASH.encode() + b" HTTP/1.1\r\nHost: a\r\nRange: bytes=%b\r\nIf-None-Match: %b",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1%b",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: %bchunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=%b\r\nContent-Length: 0",
        b"POST / HTTP/1.1\r\nHost: a\r\nRepr-Digest: %b\r\nContent-Length: 0",
        b"POST /?hash=%b HTTP/1.1\r\nHost: a\r\nContent-Length: 0",
    ],
    ids=repr,
)
def test_every_byte_in_heads(server: Server, head: bytes) -> None:
    """Any byte anywhere in a request's head is accepted or refused."""
    nothing = {hashlib.sha256(b"").hexdigest()}
    for byte in EVERY_BYTE:
        data = head.replace(b"%b", byte) + b"\r\n\r\n"
        assert judge(server, exchange(server, [data]), nothing), data


@pytest.mark.races
def test_every_byte_in_file_names(server: Server) -> None:
    """Any byte in a file name or part name is accepted or refused, quoted or not."""
    stored = {hashlib.sha256(HELD).hexdigest()}
    for byte in EVERY_BYTE:
        quoted = b"%%%02x" % byte[0]
        for name in (byte, quoted):
            body = b'--x\r\nContent-Disposition: form-data; name="%b"; filename="a%bz"\r\n\r\n%b\r\n--x--\r\n'
            data = message(
                "POST", "/", body % (name, name, HELD), Content_Type="multipart/form-data; boundary=x"
            )
            assert judge(server, exchange(server, [data]), stored) in ([200], [400])
        line = b"GET /%b/a%bz HTTP/1.1\r\nHost: a\r\n\r\n" % (HELD_HASH.encode(), quoted)
        assert judge(server, exchange(server, [message("POST", "/", HELD), line]), stored) == [200, 200]


@pytest.mark.parametrize(
    "name", ["Authorization", "Range", "Content-Type", "Repr-Digest", "Expect", "Content-Length"]
)
def test_large_fields(server: Server, name: str) -> None:
    """A header field of 1 MiB gets 431, and such a request line 414."""
    data = f"POST / HTTP/1.1\r\nHost: a\r\n{name}: {'1' * (1 << 20)}\r\n\r\n".encode()
    assert judge(server, exchange(server, [data]), set()) == [431]
    assert judge(server, exchange(server, [data.replace(b" /", b" /" + b"a" * (1 << 20), 1)]), set()) == [414]


@pytest.mark.parametrize("number, status", [(1000, 200), (1001, 400), (20_000, 400)])
def test_many_parts(server: Server, number: int, status: int) -> None:
    """A form may have 1000 parts."""
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + HELD + b"\r\n"
    body = field * (number - 1) + file + b"--x--\r\n"
    data = message("POST", "/", body, Content_Type="multipart/form-data; boundary=x")
    assert judge(server, exchange(server, [data]), {HELD_HASH}) == [status]


@pytest.mark.parametrize("number, status", [(90, 200), (101, 431), (100_000, 431)])
def test_many_fields(server: Server, number: int, status: int) -> None:
    """A request with more than 100 header fields gets 431."""
    data = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * (number - 1) + b"\r\n"
    assert judge(server, exchange(server, [data]), set()) == [status]
