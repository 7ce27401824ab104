"""A blob to upload and download, ranges of it to request, and parsers for the answers."""

import hashlib
import json
import re
from collections.abc import Iterator
from random import Random

from tests.support.wire import Answer, message

DATA = Random(1).randbytes(3_000_007)
HASH = hashlib.sha256(DATA).hexdigest()
SIZE = len(DATA)
# The Range field and the slices of the blob that it requests, in the order they are sent.
RANGES = {
    "one byte": ("bytes=0-0", [(0, 1)]),
    "small": ("bytes=10-1009", [(10, 1010)]),
    "small at the end": ("bytes=3000000-4000000", [(3_000_000, SIZE)]),
    "large": ("bytes=1000-2000999", [(1000, 2_001_000)]),
    "large and odd": ("bytes=65537-999998", [(65_537, 999_999)]),
    "suffix": ("bytes=-500", [(SIZE - 500, SIZE)]),
    "large suffix": ("bytes=-1000000", [(SIZE - 1_000_000, SIZE)]),
    "open": ("bytes=2999000-", [(2_999_000, SIZE)]),
    "large and open": ("bytes=1-", [(1, SIZE)]),
    "all": ("bytes=0-", [(0, SIZE)]),
    "several": ("bytes=0-0,100000-1299999,-5", [(0, 1), (100_000, 1_300_000), (SIZE - 5, SIZE)]),
}


def told(answer: Answer) -> tuple[str, int, bool]:
    """The hash, the size and the `created` of an answer to an upload."""
    assert answer.status == 200, answer
    payload = json.loads(answer.body)
    return payload["hash"], payload["size"], payload["created"]


def form(name: str, data: bytes) -> bytes:
    """The upload of a form with one file, as a browser sends it."""
    head = f'--xyz\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + b"\r\n--xyz--\r\n"
    return message("POST", "/", body, Content_Type="multipart/form-data; boundary=xyz")


def parts(answer: Answer) -> Iterator[tuple[int, int, bytes]]:
    """The parts of a 206 as start, stop and bytes, single or multipart/byteranges."""
    kind = answer.fields["content-type"]
    if not kind.startswith("multipart/byteranges"):
        yield *_slice(answer.fields["content-range"]), answer.body
        return
    boundary = kind.partition("boundary=")[2].encode()
    empty, *found, end = (b"\r\n" + answer.body.removeprefix(b"\r\n")).split(b"\r\n--" + boundary)
    assert (empty, end) == (b"", b"--\r\n")
    for part in found:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        field = re.search(r"(?im)^content-range: *(.*?)\r?$", head.decode())
        assert field is not None, head
        yield *_slice(field[1]), body


def _slice(content_range: str) -> tuple[int, int]:
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range)
    assert match is not None and int(match[3]) == SIZE, content_range
    return int(match[1]), int(match[2]) + 1
