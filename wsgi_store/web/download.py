"""A blob as the body of a response."""

import os
import secrets
import time
from contextlib import closing
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from werkzeug.http import http_date
from werkzeug.wsgi import FileWrapper, wrap_file

from wsgi_store.config import Redirect, Sendfile
from wsgi_store.digest import Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.abilities import LocalPaths, SignedURLs
from wsgi_store.store.contract import Blob, BlobReader, Store
from wsgi_store.web import conditional
from wsgi_store.web.conditional import Range
from wsgi_store.web.digest_fields import format_field
from wsgi_store.web.media_types import describe
from wsgi_store.web.request import Request, kept
from wsgi_store.web.response import NO_SNIFFING, Headers, Response
from wsgi_store.web.stream import BLOCK, Parts, Stream, pieces

# Up to here one read and one write are faster than setting sendfile(2) up.
SMALL = 64 << 10
# The digest names the bytes, so a cached copy never goes stale;
# one year is the customary ceiling (RFC 9111 section 5.2.2.1).
FOREVER = 365 * 24 * 60 * 60
PUBLIC: Headers = [("Cache-Control", f"public, max-age={FOREVER}, immutable")]
PRIVATE: Headers = [
    ("Cache-Control", f"private, max-age={FOREVER}, immutable"),
    ("Vary", "Authorization"),
]
# Seconds that a URL at the object store is valid, and that clients may keep the redirection to it:
# whoever follows it late still has as long as this to begin.
SIGNED_FOR = 600
REDIRECTION = ("Cache-Control", f"private, max-age={SIGNED_FOR // 2}")
# Seconds that a redirection is answered again without asking the object store.
LOCATED_FOR = 60
# Blobs of more bytes are those that WSGI_STORE_REDIRECT=large sends elsewhere.
LARGE = 1 << 20
ACCEPT_RANGES = ("Accept-Ranges", "bytes")
CONSTANT: Headers = [
    ACCEPT_RANGES,
    # What others uploaded must never act as this site: no guessing, no scripts, no frames.
    NO_SNIFFING,
    ("Content-Security-Policy", "sandbox; default-src 'none'"),
]
# Fields that only who knows the ETag can answer.
OWN_ETAG = frozenset({"HTTP_IF_MATCH", "HTTP_IF_RANGE"})


def send_blob(request: Request, digest: Digest, filename: str | None) -> Response:
    """Answer a GET or HEAD of a blob.

    The file name shapes Content-Type and Content-Disposition only. Raises BlobNotFound,
    PreconditionFailed, RangeNotSatisfiable and StoreError.
    """
    environ = request.environ
    get = environ["REQUEST_METHOD"] == "GET"
    accel = _accel(request, digest) if get else None
    if get and not accel and environ.keys().isdisjoint(conditional.FIELDS):
        if (url := _elsewhere(request, digest, filename)) is not None:
            return Response(b"", 307, [("Location", url), REDIRECTION])
        reader = request.store.open(digest)
        headers = _headers(request, reader.blob, filename)
        return _send(request, reader, Range(0, reader.blob.size), 200, headers)
    blob = request.store.stat(digest)
    if conditional.not_modified(environ, blob):
        return Response([], 304, [_etag(blob), *_caching(request.grant.private)])
    headers = _headers(request, blob, filename)
    if not get:
        return Response([], 200, [*headers, ("Content-Length", str(blob.size))])
    wanted = conditional.ranges(environ, blob)
    # A range that is ignored here is one that nginx would refuse.
    if accel and (wanted or "HTTP_RANGE" not in environ):
        # The server in front says itself that it takes ranges.
        headers.remove(ACCEPT_RANGES)
        return Response(b"", 200, [*headers, accel])
    # An object store has ETags of its own, and answers one range at most.
    if OWN_ETAG.isdisjoint(environ) and len(wanted or ()) < 2:
        if (url := _elsewhere(request, digest, filename)) is not None:
            return Response(b"", 307, [("Location", url), REDIRECTION])
    return _send_wanted(request, blob, wanted, headers)


def _send_wanted(request: Request, blob: Blob, wanted: list[Range] | None, headers: Headers) -> Response:
    """Send the whole blob, a part of it, or several."""
    if wanted is None:
        whole = Range(0, blob.size)
        return _send(request, _open(request, blob, whole), whole, 200, headers)
    if len(wanted) == 1:
        (part,) = wanted
        headers.append(("Content-Range", part.content_range(blob.size)))
        return _send(request, _open(request, blob, part), part, 206, headers)
    return _send_parts(request, blob, wanted, headers)


def _open(request: Request, blob: Blob, part: Range) -> BlobReader:
    """Open part of a blob; raises StoreUnavailable when it is no longer what was promised of it."""
    reader = request.store.open(blob.digest, part.start, part.stop - part.start)
    if reader.blob.size != blob.size:
        reader.close()
        raise StoreUnavailable("the blob changed its size")
    return reader


def _accel(request: Request, digest: Digest) -> tuple[str, str] | None:
    """The header field by which the server in front sends the blob, None to send it here."""
    kind = request.config.sendfile
    # nginx knows no ETag of ours: it would send the whole for If-Range, and 412 for If-Match.
    if kind is Sendfile.OFF or not OWN_ETAG.isdisjoint(request.environ):
        return None
    if not isinstance(request.store, LocalPaths):
        return None
    path = request.store.local_path(digest)
    if kind is Sendfile.X_ACCEL:
        return "X-Accel-Redirect", request.config.accel_location + path
    # Apache and lighttpd unquote it; a header field holds no other characters safely.
    return "X-Sendfile", quote(os.fsencode(os.path.join(os.path.abspath(request.config.root), path)))


def _elsewhere(request: Request, digest: Digest, filename: str | None) -> str | None:
    """Where the client is to get the blob, None to send it here; raises BlobNotFound."""
    kind = request.config.redirect
    if kind is Redirect.NEVER:
        return None
    above = LARGE if kind is Redirect.LARGE else -1
    minute = int(time.monotonic()) // LOCATED_FOR
    # A protocol does not say so, but a store can be looked up: by which one it is.
    return _located(request.store, digest, filename, above, minute)  # type: ignore[arg-type]


# Without it each redirection asks the object store whether the blob is there. What is answered from
# here after a deletion leads to the object store's 404, as does what a client kept for itself.
@lru_cache(1024)
def _located(store: Store, digest: Digest, filename: str | None, above: int, _: int) -> str | None:
    if not isinstance(store, SignedURLs) or store.stat(digest).size <= above:
        return None
    return store.url(digest, SIGNED_FOR, *describe(filename))


def _send(request: Request, reader: BlobReader, part: Range, status: int, headers: Headers) -> Response:
    """Send what `reader` is open on, by the fastest way that this server does right."""
    length = part.stop - part.start
    if length <= SMALL:
        with closing(reader):
            return Response(b"".join(pieces(reader, length)), status, headers)
    request.allow_time()
    environ = request.environ
    headers.append(("Content-Length", str(length)))
    if not hasattr(reader, "fileno"):
        body: Any = Stream(environ, reader)
    elif "gunicorn.socket" in environ:
        # gunicorn sends Content-Length bytes from the descriptor's offset, ranges too.
        body = wrap_file(environ, reader, BLOCK)  # type: ignore[arg-type]
    elif status == 200:
        body = wrap_file(environ, reader, BLOCK)  # type: ignore[arg-type]
    else:
        # uWSGI's wrapper sends the whole file whatever the offset: it may not see ranges.
        body = FileWrapper(reader, BLOCK)  # type: ignore[arg-type]
    return Response(body, status, headers)


def _send_parts(request: Request, blob: Blob, wanted: list[Range], headers: Headers) -> Response:
    """Send several ranges (RFC 9110 section 15.3.7.2)."""
    request.allow_time()
    boundary = secrets.token_hex(16)
    kind = next(value for name, value in headers if name == "Content-Type")
    head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: "
    parts = [(f"{head}{part.content_range(blob.size)}\r\n\r\n".encode(), part) for part in wanted]
    end = f"\r\n--{boundary}--\r\n".encode()
    length = len(end) + sum(len(head) + part.stop - part.start for head, part in parts)
    headers = [field for field in headers if field[0] != "Content-Type"]
    headers.append(("Content-Type", f"multipart/byteranges; boundary={boundary}"))
    headers.append(("Content-Length", str(length)))
    # One reader for all: they stay parts of the same blob, though it is removed meanwhile.
    body = Parts(request.environ, _open(request, blob, Range(0, blob.size)), parts, end)
    return Response(body, 206, headers)


def _headers(request: Request, blob: Blob, filename: str | None) -> Headers:
    described = kept(_described, filename or "")
    return list(described(blob, filename, request.grant.private))


# Of blobs in use; the same few are asked for again and again.
@lru_cache(1024)
def _described(blob: Blob, filename: str | None, private: bool) -> Headers:
    kind, disposition = describe(filename)
    digest = format_field(blob.digest)
    return [
        ("Content-Type", kind),
        ("Content-Disposition", disposition),
        _etag(blob),
        ("Last-Modified", http_date(conditional.last_modified(blob))),
        *([("Repr-Digest", digest)] if digest else []),
        *_caching(private),
        *CONSTANT,
    ]


def _caching(private: bool) -> Headers:
    return PRIVATE if private else PUBLIC


def _etag(blob: Blob) -> tuple[str, str]:
    return "ETag", f'"{blob.digest.hex}"'
