"""The list of hashes in the body of a request about many blobs."""

import json
from typing import Any, TypeAlias

from werkzeug.http import parse_options_header

from wsgi_store.digest import Digest
from wsgi_store.errors import BadRequest, UnsupportedMediaType
from wsgi_store.web.body import read_whole
from wsgi_store.web.request import Request

# Hashes of one request, and bytes of its body.
MOST = 10_000
LONGEST = 2 << 20
MAX_SIZE = (1 << 63) - 1
LONGEST_HASH = 128
MEMBERS = {"hash", "size"}

# Of a blob to which a list gives two sizes: none has it.
NO_SIZE = -1

Asked: TypeAlias = dict[Digest, int | None]
"""The blobs that are asked for, each with its size in bytes if that is given, in their order."""


def read(request: Request, *scopes: str) -> Asked:
    """Read the list, each of whose blobs the caller needs these scopes for.

    Raises BadRequest, Denied, LengthRequired, TooLarge and UnsupportedMediaType.
    """
    kind = parse_options_header(request.environ.get("CONTENT_TYPE"))[0].lower()
    if kind not in READERS:
        raise UnsupportedMediaType("Content-Type: expected application/json or text/plain")
    request.allow_time()
    hashes, sizes = READERS[kind](read_whole(request.environ, LONGEST))
    if len(hashes) > MOST:
        raise _too_many()
    digests = request.digests(hashes)
    if request.grant.hash is not None:
        for digest in digests:
            for scope in scopes:
                request.grant.require(scope, digest.hex)
    asked: Asked = {}
    for digest, size in zip(digests, sizes, strict=True):
        known = asked.setdefault(digest, size)
        if size not in (None, known):
            asked[digest] = size if known is None else NO_SIZE
    return asked


def _from_json(data: bytes) -> tuple[list[str], list[int | None]]:
    # Each item has at most two members. Parsed, a longer list would need much more memory than its text.
    if data.count(b",") >= 2 * MOST:
        raise _too_many()
    try:
        items = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(items, list):
        raise BadRequest("expected a JSON list of hashes")
    hashes: list[str] = []
    sizes: list[int | None] = []
    for number, item in enumerate(items, start=1):
        size = None
        if isinstance(item, dict):
            if not item.keys() <= MEMBERS:
                raise BadRequest(f"item {number}: unknown member")
            size = item.get("size")
            item = item.get("hash")
        hashes.append(_hash(item, f"item {number}"))
        # JSON has one kind of number: 5.0 is a whole one.
        if isinstance(size, float) and size.is_integer():
            size = int(size)
        # To Python a bool is an int.
        if size is not None and (
            not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE
        ):
            raise BadRequest(f"item {number}: size: expected a whole number from 0 to {MAX_SIZE}")
        sizes.append(size)
    return hashes, sizes


def _from_text(data: bytes) -> tuple[list[str], list[int | None]]:
    if data.count(b"\n") > MOST:
        raise _too_many()
    try:
        lines = data.decode("ascii").removesuffix("\n").split("\n") if data else []
    except ValueError:
        raise BadRequest("the body is not ASCII") from None
    hashes: list[str] = []
    sizes: list[int | None] = []
    for number, line in enumerate(lines, start=1):
        hash_, *rest = line.split() or [""]
        hashes.append(_hash(hash_, f"line {number}"))
        sizes.append(_size(rest, number) if rest else None)
    return hashes, sizes


def _hash(hash_: Any, place: str) -> str:
    if not isinstance(hash_, str) or not 0 < len(hash_) <= LONGEST_HASH:
        raise BadRequest(f"{place}: expected a hash")
    return hash_


def _size(rest: list[str], number: int) -> int:
    text = rest[0]
    if len(rest) > 1 or not (text.isdigit() and len(text) < 20 and int(text) <= MAX_SIZE):
        raise BadRequest(f"line {number}: expected a hash, or a hash and a size from 0 to {MAX_SIZE}")
    return int(text)


def _too_many() -> BadRequest:
    return BadRequest(f"expected at most {MOST} hashes", limit=MOST)


READERS = {"application/json": _from_json, "text/plain": _from_text}
