"""The handler of downloads: who sends a blob, and how."""

import os
import secrets
from contextlib import closing
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from werkzeug.http import http_date
from werkzeug.wsgi import FileWrapper, wrap_file

from wsgi_store.choices import Sendfile
from wsgi_store.digest import Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.contract import Blob, BlobReader
from wsgi_store.web import conditional
from wsgi_store.web.conditional import Range
from wsgi_store.web.digest_fields import format_field, wanted, wanted_most
from wsgi_store.web.media_types import describe
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Headers, Response
from wsgi_store.web.response_body import SEND_SIZE, Parts, Stream, pieces

# Up to this many bytes one read and one write cost less than setting up sendfile(2).
IN_MEMORY = 64 << 10
# The digest names the bytes, so a cached copy never becomes stale; one year is the customary maximum
# (RFC 9111 section 5.2.2.1).
FOREVER = 365 * 24 * 60 * 60
PUBLIC: Headers = [("Cache-Control", f"public, max-age={FOREVER}, immutable")]
PRIVATE: Headers = [
    ("Cache-Control", f"private, max-age={FOREVER}, immutable"),
    ("Vary", "Authorization"),
]
ACCEPT_RANGES = ("Accept-Ranges", "bytes")
CONSTANT: Headers = [
    ACCEPT_RANGES,
    # Uploaded files must never act as part of this site: no sniffing, no scripts, no frames.
    NO_SNIFFING,
    ("Content-Security-Policy", "sandbox; default-src 'none'"),
]
# Conditions that only a server which knows our ETag can evaluate.
NEEDS_ETAG = frozenset({"HTTP_IF_MATCH", "HTTP_IF_RANGE"})


def download(request: Request, hash_: str, filename: str | None = None) -> Response:
    """Answer a GET or HEAD of a blob.

    The file name determines Content-Type and Content-Disposition only. Raises BlobNotFound,
    PreconditionFailed, RangeNotSatisfiable and StoreError.
    """
    environ = request.environ
    digest = request.blob_digest(hash_)
    head = environ["REQUEST_METHOD"] == "HEAD"
    blob = wanted = None
    if head or not environ.keys().isdisjoint(conditional.FIELDS):
        blob = request.store.stat(digest)
        others = request.other_names(blob.names)
        if conditional.not_modified(environ, blob, others):
            return Response([], 304, [_etag(blob), *_caching(request)])
        if head:
            return Response([], 200, [*_headers(request, blob, filename), ("Content-Length", str(blob.size))])
        wanted = conditional.ranges(environ, blob, others)
    if _front_server_can_send(request, wanted):
        blob = blob or request.store.stat(digest)
        if (field := _front_server(request, blob)) is not None:
            headers = _headers(request, blob, filename)
            headers.remove(ACCEPT_RANGES)  # the front server adds its own
            return Response(b"", 200, [*headers, field])
    # An object store has ETags of its own, and sends one range at most.
    if environ.keys().isdisjoint(NEEDS_ETAG) and len(wanted or ()) < 2:
        if (redirect := request.backend.redirects.redirect(digest, filename)) is not None:
            return redirect
    if wanted and len(wanted) > 1:
        return _send_parts(request, digest, blob, wanted, filename)
    part = wanted[0] if wanted else None
    return _send(request, _open(request, digest, blob, part), part, filename)


def _front_server_can_send(request: Request, wanted: list[Range] | None) -> bool:
    """Whether a front server sends blobs, and can answer this request."""
    # nginx does not know our ETag: it would send everything for If-Range, and 412 for If-Match.
    if request.config.sendfile is Sendfile.OFF or not request.environ.keys().isdisjoint(NEEDS_ETAG):
        return False
    # nginx answers 416 to a Range field that is ignored here.
    return bool(wanted) or "HTTP_RANGE" not in request.environ


def _front_server(request: Request, blob: Blob) -> tuple[str, str] | None:
    """Return the header field that makes the front server send the blob, None to send it from here."""
    paths, name = request.backend.paths, blob.names[0]
    # Before the front server opens it, a migration may put a link in the place of a file with an old name:
    # such a file is sent from here, also if the migration has only just begun.
    if paths is None or name.algorithm is not request.store.refresh()[0]:
        return None
    path = paths.local_path(name)
    if request.config.sendfile is Sendfile.X_ACCEL:
        return "X-Accel-Redirect", request.config.accel_location + path
    # Apache and lighttpd unquote the value; other characters are unsafe in a header field.
    return "X-Sendfile", quote(os.fsencode(os.path.join(os.path.abspath(request.config.root), path)))


def _open(request: Request, digest: Digest, blob: Blob | None, part: Range | None) -> BlobReader:
    """Open a blob or part of it; raises StoreUnavailable if it is no longer as `blob` says."""
    if blob is None:
        return request.store.open(digest)
    start, stop = part or (0, blob.size)
    reader = request.store.open(digest, start, stop - start)
    if reader.blob.size != blob.size:
        reader.close()
        raise StoreUnavailable("the blob changed its size")
    return reader


def _send(request: Request, reader: BlobReader, part: Range | None, filename: str | None) -> Response:
    """Send what `reader` reads in the fastest way that the server supports."""
    headers = _headers(request, reader.blob, filename)
    status, length = 200, reader.blob.size
    if part is not None:
        status, length = 206, part.stop - part.start
        headers.append(("Content-Range", part.content_range(reader.blob.size)))
    if length <= IN_MEMORY:
        with closing(reader):
            return Response(b"".join(pieces(reader, length)), status, headers)
    request.allow_time()
    environ = request.environ
    headers.append(("Content-Length", str(length)))
    if not hasattr(reader, "fileno"):
        body: Any = Stream(environ, reader)
    elif part is None or "gunicorn.socket" in environ:
        # gunicorn sends Content-Length bytes from the current offset, so its wrapper also sends ranges.
        body = wrap_file(environ, reader, SEND_SIZE)  # type: ignore[arg-type]
    else:
        # uWSGI's wrapper ignores the offset and sends the whole file.
        body = FileWrapper(reader, SEND_SIZE)  # type: ignore[arg-type]
    return Response(body, status, headers)


def _send_parts(
    request: Request, digest: Digest, blob: Blob | None, wanted: list[Range], filename: str | None
) -> Response:
    """Send several ranges (RFC 9110 section 15.3.7.2)."""
    request.allow_time()
    # One reader for all parts, so that they belong to one blob even if it is removed meanwhile.
    reader = _open(request, digest, blob, None)
    size = reader.blob.size
    headers = _headers(request, reader.blob, filename)
    boundary = secrets.token_hex(16)
    kind = next(value for name, value in headers if name == "Content-Type")
    head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: "
    parts = [(f"{head}{part.content_range(size)}\r\n\r\n".encode(), part) for part in wanted]
    end = f"\r\n--{boundary}--\r\n".encode()
    length = len(end) + sum(len(head) + part.stop - part.start for head, part in parts)
    headers = [field for field in headers if field[0] != "Content-Type"]
    headers.append(("Content-Type", f"multipart/byteranges; boundary={boundary}"))
    headers.append(("Content-Length", str(length)))
    return Response(Parts(request.environ, reader, parts, end), 206, headers)


def _headers(request: Request, blob: Blob, filename: str | None) -> Headers:
    kind, disposition = describe(filename)
    fields = [
        ("Content-Type", kind),
        ("Content-Disposition", disposition),
        *_validators(blob),
        *_caching(request),
        *CONSTANT,
    ]
    if "HTTP_WANT_DIGEST" in request.environ:
        if digest := wanted_most(blob.names, request.listed("HTTP_WANT_DIGEST")):
            fields.append(("Digest", digest))
    if "HTTP_WANT_REPR_DIGEST" in request.environ:
        named = format_field(wanted(blob.names, request.listed("HTTP_WANT_REPR_DIGEST")))
        fields = [field for field in fields if field[0] != "Repr-Digest"]
        fields += [("Repr-Digest", named)] if named else []
    return fields


# Popular blobs are requested again and again.
@lru_cache(1024)
def _validators(blob: Blob) -> Headers:
    digests = format_field(blob.names)
    return [
        _etag(blob),
        ("Last-Modified", http_date(conditional.last_modified(blob))),
        *([("Repr-Digest", digests)] if digests else []),
    ]


def _caching(request: Request) -> Headers:
    return PRIVATE if request.grant.private else PUBLIC


def _etag(blob: Blob) -> tuple[str, str]:
    return "ETag", f'"{blob.digest.hex}"'
