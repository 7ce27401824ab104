"""Resumable Uploads for HTTP, as the IETF drafts it (draft-ietf-httpbis-resumable-upload).

Interop version 8, and 5 and 6, which clients in use speak.
"""

import re
import time
from typing import TYPE_CHECKING

from werkzeug.http import parse_options_header

from wsgi_store.errors import (
    BadRequest,
    ChecksumMismatch,
    DigestMismatch,
    InconsistentLength,
    LengthRequired,
    OffsetMismatch,
    TooLarge,
    UnsupportedMediaType,
    UploadLocked,
    WSGIStoreError,
)
from wsgi_store.uploads.records import FileInfo
from wsgi_store.web.dialect import AppendInfo, Outcome
from wsgi_store.web.digest_fields import digests_of, format_field
from wsgi_store.web.response import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MEDIA_TYPE = "application/partial-upload"
VERSIONS = (5, 6, 8)
# The latest one, which a client speaks that names none.
LATEST = 8
# RFC 9651 sections 3.1.2, 3.3.1 and 3.3.6; parameters are ignored.
PARAMETERS = (
    r"(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:"
    r"-?[0-9]{1,12}\.[0-9]{1,3}|[@]?-?[0-9]{1,15}|\?[01]|:[A-Za-z0-9+/=]*:|%?\"(?:[^\"\\]|\\[\"\\])*\""
    r"|[A-Za-z*][!#$%&'*+.^_`|~:/A-Za-z0-9-]*))?)*"
)
INTEGER = re.compile(f"(-?[0-9]{{1,15}}){PARAMETERS}")
BOOLEAN = re.compile(rf"\?([01]){PARAMETERS}")
PROBLEMS = "https://iana.org/assignments/http-problem-types#"


class LockedConflict(UploadLocked):
    """UploadLocked with the status of a conflict."""

    status = 409


class Completed(OffsetMismatch):
    """OffsetMismatch with the status that versions before 7 demand once the file is stored."""

    status = 400


class Draft:
    """The dialect of the IETF's draft."""

    def __init__(self, environ: "WSGIEnvironment") -> None:
        told = _integer(environ, "UPLOAD_DRAFT_INTEROP_VERSION")
        self._version = LATEST if told is None else told
        self._echo = [] if told not in VERSIONS else [("Upload-Draft-Interop-Version", str(told))]

    def require_version(self, environ: "WSGIEnvironment") -> None:
        """Raise BadRequest unless the client speaks a version that is known, with fields that it allows."""
        if self._version not in VERSIONS:
            raise BadRequest("Upload-Draft-Interop-Version: expected 5, 6 or 8", versions=VERSIONS)
        method = environ["REQUEST_METHOD"]
        if self._version < 7 and method in ("GET", "HEAD", "DELETE"):
            names = ["Upload-Offset", "Upload-Complete"]
            if self._version == 6 and method != "DELETE":
                names.append("Upload-Length")
            for name in names:
                if f"HTTP_{name.upper().replace('-', '_')}" in environ:
                    raise BadRequest(f"{name}: not allowed in a {method}")

    def announced(self, environ: "WSGIEnvironment") -> FileInfo:
        """Read a creation."""
        if _complete(environ) is None:
            raise BadRequest("send Upload-Complete: ?1 or ?0")
        body = _content_length(environ)
        if _complete(environ) and body is None and "HTTP_TRANSFER_ENCODING" not in environ:
            raise LengthRequired("send Content-Length: 0 if the file is empty")
        length = _length(environ, 0, body)
        _, told = parse_options_header(environ.get("HTTP_CONTENT_DISPOSITION", ""))
        return FileInfo(
            length=length,
            expected=digests_of(environ, "Repr-Digest"),
            name=told.get("filename") or None,
        )

    def appended(self, environ: "WSGIEnvironment", length: int | None) -> AppendInfo:
        """Read an append, or the body of a creation."""
        offset = 0
        if environ["REQUEST_METHOD"] == "PATCH":
            if self._version > 5 and _media_type(environ) != MEDIA_TYPE:
                raise UnsupportedMediaType(f"Content-Type: expected {MEDIA_TYPE}")
            told = _integer(environ, "UPLOAD_OFFSET")
            if told is None:
                raise BadRequest("send Upload-Offset")
            offset = told
        complete = _complete(environ)
        if complete is None:
            raise BadRequest("send Upload-Complete: ?1 or ?0")
        return AppendInfo(
            offset=offset,
            length=_length(environ, offset, length),
            complete=complete,
            expected=digests_of(environ, "Content-Digest"),
            announced=digests_of(environ, "Repr-Digest"),
        )

    def answer(self, environ: "WSGIEnvironment", outcome: Outcome) -> tuple[int, Headers]:
        """Return the status and the fields of a response."""
        state, receipt = outcome.state, outcome.state.receipt
        method = environ["REQUEST_METHOD"]
        fields = [
            ("Upload-Offset", str(state.offset)),
            ("Upload-Complete", "?0" if receipt is None else "?1"),
            ("Upload-Limit", self._limits(outcome)),
        ]
        # Since version 7 the response to a creation with a whole file comes from the resource itself.
        if outcome.created and (receipt is None or self._version < 7):
            fields.append(("Location", outcome.location))
        if method in ("GET", "HEAD") and state.length is not None:
            fields.append(("Upload-Length", str(state.length)))
        if method == "GET":
            return 200, fields
        if receipt is not None and outcome.content_location is not None:
            fields.append(("Content-Location", outcome.content_location))
            if digests := format_field(receipt.names):
                fields.append(("Repr-Digest", digests))
            return 204 if method == "HEAD" else 200, fields
        if method == "HEAD":
            return 204, fields
        return 201 if outcome.created or self._version < 7 else 204, fields

    def interim(self, offset: int, created: Outcome | None = None) -> Headers:
        """Return the fields of an interim response (104); none if the client does not name its version."""
        if not self._echo:
            return []
        if created is not None:
            return [*self._echo, ("Location", created.location), ("Upload-Limit", self._limits(created))]
        return [*self._echo, ("Upload-Offset", str(offset))]

    def translated(self, failure: WSGIStoreError) -> WSGIStoreError:
        """Return a failure with the status and the members that the draft defines."""
        evidence = dict(failure.evidence)
        if isinstance(failure, UploadLocked):
            return LockedConflict(failure.message, **evidence)
        if evidence.pop("stored", False) and self._version < 7:
            problem = f"{PROBLEMS}completed-upload"
            return Completed(failure.message, type=problem, title="upload is already completed")
        if isinstance(failure, OffsetMismatch):
            evidence["expected-offset"] = evidence["expected"]
            evidence["provided-offset"] = evidence["provided"]
            return OffsetMismatch(
                failure.message,
                type=f"{PROBLEMS}mismatching-upload-offset",
                title="offset from request does not match offset of resource",
                **evidence,
            )
        if isinstance(failure, InconsistentLength):
            return InconsistentLength(
                failure.message,
                type=f"{PROBLEMS}inconsistent-upload-length",
                title="inconsistent length values for upload",
                **evidence,
            )
        return failure

    def fields(self, failure: WSGIStoreError | None) -> Headers:
        """Return the fields of every response."""
        fields = [*self._echo]
        if failure is None:
            return fields
        # Only a wrong digest of the whole file ends the upload.
        ended = isinstance(failure, DigestMismatch) and not isinstance(failure, ChecksumMismatch)
        fields.append(("Upload-Complete", "?1" if ended else "?0"))
        offset = failure.evidence.get("expected-offset", failure.evidence.get("offset"))
        if offset is not None:
            fields.append(("Upload-Offset", str(offset)))
        if isinstance(failure, TooLarge):
            fields.append(("Upload-Limit", f"max-size={failure.evidence['limit']}"))
        elif isinstance(failure, UnsupportedMediaType):
            fields.append(("Accept-Patch", MEDIA_TYPE))
        return fields

    def _limits(self, outcome: Outcome) -> str:
        told = []
        if outcome.max_size is not None:
            told.append(f"max-size={outcome.max_size}")
        # The key had another name before version 7.
        key = "expires" if self._version < 7 else "max-age"
        told.append(f"{key}={max(0, int(outcome.state.expires - time.time()))}")
        return ", ".join(told)


def limits(max_size: int | None) -> str:
    """Return the limits of every upload."""
    return "min-size=0" if max_size is None else f"max-size={max_size}"


def _integer(environ: "WSGIEnvironment", name: str) -> int | None:
    """Return the value of a field; other values make the field be ignored, as the draft says."""
    match = INTEGER.fullmatch(environ.get(f"HTTP_{name}", "").strip(" "))
    value = int(match[1]) if match else -1
    return None if value < 0 else value


def _complete(environ: "WSGIEnvironment") -> bool | None:
    match = BOOLEAN.fullmatch(environ.get("HTTP_UPLOAD_COMPLETE", "").strip(" "))
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
