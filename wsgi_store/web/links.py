"""The handler that signs links and upload tickets for callers with the scope `link`."""

import json
import re
import time
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from werkzeug.http import parse_options_header

from wsgi_store.access.signing import Signer
from wsgi_store.errors import BadRequest, NotFound, ReadOnly, UnsupportedMediaType
from wsgi_store.web.body import read_whole
from wsgi_store.web.request import Request
from wsgi_store.web.response import Response, json_response

LONGEST = 64 << 10
DAY = 86400.0
# Bytes: quoted and signed, a file name has to fit into a request line of 8190 bytes.
LONGEST_NAME = 1024
MAX_SIZE = (1 << 63) - 1
SURROGATE = re.compile("[\ud800-\udfff]")
# Members of a request, with their types.
KINDS: dict[str, tuple[type, ...]] = {
    "hash": (str,),
    "filename": (str,),
    "ticket": (bool,),
    "max_size": (int,),
    "expires_in": (int, float),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be signed."""

    hash: str | None = None
    filename: str | None = None
    ticket: bool = False
    max_size: int | None = None
    expires_in: float | None = None

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a JSON object; raises BadRequest."""
        try:
            members = json.loads(data)
        except (ValueError, RecursionError):
            raise BadRequest("the body is not JSON") from None
        if not isinstance(members, dict):
            raise BadRequest("expected a JSON object")
        for name, value in members.items():
            _check(name, value)
        return cls(**{name: value for name, value in members.items() if value is not None})


def _check(name: str, value: Any) -> None:
    kinds = KINDS.get(name)
    if kinds is None:
        raise BadRequest(f"{name[:40]!a}: unknown member")
    # Escapes in JSON can make half of a surrogate pair, which UTF-8 cannot.
    if isinstance(value, str) and not value.isascii() and SURROGATE.search(value):
        raise BadRequest(f"{name}: expected Unicode text")
    # To Python a bool is an int.
    if value is not None and (
        not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
    ):
        raise BadRequest(f"{name}: expected {' or '.join(NAMES[kind] for kind in kinds)}")


NAMES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


def create(request: Request) -> Response:
    """Sign a link to a blob, or a ticket for one upload, that gives no more rights than its maker has.

    Raises NotFound without signing keys, BadRequest, BlobNotFound, Denied, ReadOnly, TooLarge and
    UnsupportedMediaType.
    """
    signer = request.backend.signer
    if signer is None:
        raise NotFound("nothing is signed here; see WSGI_STORE_SIGNING_KEYS")
    wanted = Wanted.read(_body(request))
    longest = request.config.link_expires
    seconds = min(DAY, longest) if wanted.expires_in is None else wanted.expires_in
    if not 0 < seconds <= longest:
        raise BadRequest(f"expires_in: must be greater than 0 and at most {longest:g} s", limit=longest)
    expires = int(time.time() + seconds)
    sign = _ticket if wanted.ticket else _link
    return json_response({**sign(request, signer, wanted, expires), "expires": expires})


def _body(request: Request) -> bytes:
    # Any page may make a browser send a form, but JSON only after the service has permitted it.
    if parse_options_header(request.environ.get("CONTENT_TYPE"))[0].lower() != "application/json":
        raise UnsupportedMediaType("Content-Type: expected application/json")
    request.allow_time()
    return read_whole(request.environ, LONGEST)


def _link(request: Request, signer: Signer, wanted: Wanted, expires: int) -> dict[str, object]:
    if wanted.hash is None:
        raise BadRequest("send the hash of a blob, or ticket: true")
    if wanted.max_size is not None:
        raise BadRequest("max_size: only tickets have a largest size")
    name = wanted.filename or None
    if name in (".", ".."):
        raise BadRequest("filename: clients would remove this segment from the URL")
    if name is not None and len(name.encode()) > LONGEST_NAME:
        raise BadRequest(f"filename: expected at most {LONGEST_NAME} bytes", limit=LONGEST_NAME)
    request.grant.require("read", wanted.hash, name)
    # Whoever gets a link to a blob that is not there could do nothing.
    blob = request.store.stat(request.digest(wanted.hash, "hash"))
    request.exchange.hash = blob.digest.hex
    path = "" if name is None else "/" + quote(name)
    signed = signer.link(wanted.hash, expires, name)
    return {"url": f"{request.mount}/{wanted.hash.lower()}{path}?link={signed}", "link": signed}


def _ticket(request: Request, signer: Signer, wanted: Wanted, expires: int) -> dict[str, object]:
    if wanted.filename is not None:
        raise BadRequest("filename: only links have a file name")
    if wanted.max_size is not None and not 0 <= wanted.max_size <= MAX_SIZE:
        raise BadRequest(f"max_size: expected a number from 0 to {MAX_SIZE}")
    if request.store.read_only:
        raise ReadOnly
    grant = request.grant
    grant.require("write", wanted.hash)
    if wanted.hash is not None:
        request.digest(wanted.hash, "hash")
    sizes = [size for size in (wanted.max_size, grant.max_size) if size is not None]
    signed = signer.ticket(expires, min(sizes, default=None), wanted.hash or grant.hash)
    return {"url": f"{request.mount}/?ticket={signed}", "ticket": signed}
