"""Resumable Uploads for HTTP, as the IETF drafts it (draft-ietf-httpbis-resumable-upload).

Interop version 8, and 5 and 6, which clients in use speak.
"""

import re
import time
from typing import TYPE_CHECKING

from wsgi_store.errors import (
    BadRequest,
    InconsistentLength,
    OffsetMismatch,
    UnsupportedMediaType,
    WSGIStoreError,
)
from wsgi_store.uploads.records import Announced
from wsgi_store.web.dialect import Appended, Outcome
from wsgi_store.web.digest_fields import format_field, parse_field
from wsgi_store.web.response import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MEDIA_TYPE = "application/partial-upload"
# RFC 9651 section 3.3.1 and 3.3.6; parameters are ignored.
INTEGER = re.compile(r"([0-9]{1,15})(?:;.*)?")
BOOLEAN = re.compile(r"\?([01])(?:;.*)?")
PROBLEMS = "https://iana.org/assignments/http-problem-types#"


class Draft:
    """The dialect of the IETF's draft."""

    def require_version(self, environ: "WSGIEnvironment") -> None:
        """Accept every version: the fields of one that is not known are ignored."""

    def announced(self, environ: "WSGIEnvironment") -> Announced:
        """Read a creation."""
        length = _length(environ, 0, _content_length(environ))
        digests = environ.get("HTTP_REPR_DIGEST")
        return Announced(length=length, expected=tuple(parse_field(digests)) if digests else ())

    def appended(self, environ: "WSGIEnvironment", length: int | None) -> Appended:
        """Read an append, or the body of a creation."""
        offset = 0
        if environ["REQUEST_METHOD"] == "PATCH":
            if _interop(environ) != 5 and _media_type(environ) != MEDIA_TYPE:
                raise UnsupportedMediaType(f"Content-Type: expected {MEDIA_TYPE}")
            told = _integer(environ, "UPLOAD_OFFSET")
            if told is None:
                raise BadRequest("send Upload-Offset")
            offset = told
        complete = _complete(environ)
        if complete is None:
            raise BadRequest("send Upload-Complete: ?1 or ?0")
        digests = environ.get("HTTP_CONTENT_DIGEST")
        return Appended(
            offset=offset,
            length=_length(environ, offset, length),
            complete=complete,
            expected=tuple(parse_field(digests)) if digests else (),
        )

    def answer(self, environ: "WSGIEnvironment", outcome: Outcome) -> tuple[int, Headers]:
        """Return the status and the fields of a response."""
        state, receipt = outcome.state, outcome.state.receipt
        head = environ["REQUEST_METHOD"] == "HEAD"
        fields = [
            ("Upload-Offset", str(state.offset)),
            ("Upload-Complete", "?0" if receipt is None else "?1"),
        ]
        if head and state.length is not None:
            fields.append(("Upload-Length", str(state.length)))
        if receipt is not None and outcome.content_location is not None:
            fields.append(("Content-Location", outcome.content_location))
            fields.append(("Repr-Digest", format_field(receipt.names)))
            return 204 if head else 200, fields
        fields.append(("Upload-Limit", limits(environ, outcome.max_size, state.expires)))
        if outcome.created:
            fields.append(("Location", outcome.location))
        return 201 if outcome.created else 204, fields

    def translated(self, failure: WSGIStoreError) -> WSGIStoreError:
        """Return a failure as the draft tells it."""
        return failure

    def fields(self, failure: WSGIStoreError | None) -> Headers:
        """Return the fields of every response."""
        if isinstance(failure, OffsetMismatch):
            return [("Upload-Offset", str(failure.evidence["expected"])), ("Upload-Complete", "?0")]
        return [] if failure is None else [("Upload-Complete", "?0")]


def limits(environ: "WSGIEnvironment", max_size: int | None, expires: float | None = None) -> str:
    """Return the limits of uploads, or of one that expires then."""
    told = {}
    if max_size is not None:
        told["max-size"] = max_size
    if expires is not None:
        told["max-age" if _interop(environ) in (None, 7, 8) else "expires"] = max(
            0, int(expires - time.time())
        )
    return ", ".join(f"{key}={value}" for key, value in told.items()) or "min-size=0"


def _interop(environ: "WSGIEnvironment") -> int | None:
    return _integer(environ, "UPLOAD_DRAFT_INTEROP_VERSION")


def _integer(environ: "WSGIEnvironment", name: str) -> int | None:
    """Return the value of a field; other values make the field be ignored, as the draft says."""
    match = INTEGER.fullmatch(environ.get(f"HTTP_{name}", "").strip())
    return int(match[1]) if match else None


def _complete(environ: "WSGIEnvironment") -> bool | None:
    match = BOOLEAN.fullmatch(environ.get("HTTP_UPLOAD_COMPLETE", "").strip())
    return match[1] == "1" if match else None


def _content_length(environ: "WSGIEnvironment") -> int | None:
    text = environ.get("CONTENT_LENGTH") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _media_type(environ: "WSGIEnvironment") -> str:
    kind: str = environ.get("CONTENT_TYPE", "")
    return kind.partition(";")[0].strip().lower()


def _length(environ: "WSGIEnvironment", offset: int, body: int | None) -> int | None:
    """Return the length of the whole file, which a request can tell in two ways."""
    told = _integer(environ, "UPLOAD_LENGTH")
    derived = None if body is None or not _complete(environ) else offset + body
    if None not in (told, derived) and told != derived:
        raise InconsistentLength("Upload-Length and Content-Length disagree", expected=told, provided=derived)
    return derived if told is None else told
