"""tus 1.0: resumable uploads as tus clients speak them (https://tus.io/protocols/resumable-upload)."""

import base64
import re
from typing import TYPE_CHECKING

from werkzeug.http import http_date

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BadRequest,
    ChecksumMismatch,
    OffsetMismatch,
    UnsupportedMediaType,
    UnsupportedVersion,
    WSGIStoreError,
)
from wsgi_store.uploads.records import FileInfo
from wsgi_store.web.dialect import AppendInfo, Outcome
from wsgi_store.web.digest_fields import digests_of, format_field
from wsgi_store.web.response import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,checksum,expiration"
MEDIA_TYPE = "application/offset+octet-stream"
ALGORITHMS = {one.value: one for one in (Algorithm.SHA1, Algorithm.MD5, Algorithm.SHA256, Algorithm.SHA512)}
NUMBER = re.compile("[0-9]{1,18}")
# A key, which has no spaces or commas, and perhaps a value.
PAIR = re.compile(r"([!-+\--~]+)(?: ([A-Za-z0-9+/=]*))?")


class Mismatch(ChecksumMismatch):
    """ChecksumMismatch with the status that the extension checksum gives it."""

    status = 460


class Tus:
    """The dialect of tus 1.0."""

    def require_version(self, environ: "WSGIEnvironment") -> None:
        """Raise UnsupportedVersion unless the client speaks version 1.0.0."""
        if environ.get("HTTP_TUS_RESUMABLE") != VERSION:
            raise UnsupportedVersion(f"send Tus-Resumable: {VERSION}")

    def announced(self, environ: "WSGIEnvironment") -> FileInfo:
        """Read a creation."""
        if "HTTP_UPLOAD_CONCAT" in environ:
            raise BadRequest("Upload-Concat: the extension concatenation is not supported")
        length = _number(environ, "Upload-Length")
        deferred = environ.get("HTTP_UPLOAD_DEFER_LENGTH")
        if deferred not in (None, "1") or (deferred is None) == (length is None):
            raise BadRequest("send either Upload-Length or Upload-Defer-Length: 1")
        metadata = environ.get("HTTP_UPLOAD_METADATA", "")
        return FileInfo(
            length=length,
            expected=digests_of(environ, "Repr-Digest"),
            name=_name(metadata),
            metadata=metadata,
        )

    def appended(self, environ: "WSGIEnvironment", _: int | None) -> AppendInfo:
        """Read an append, or the body of a creation."""
        is_creation = environ["REQUEST_METHOD"] == "POST"
        kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if kind != MEDIA_TYPE:
            raise UnsupportedMediaType(f"Content-Type: expected {MEDIA_TYPE}")
        offset = 0 if is_creation else _number(environ, "Upload-Offset")
        if offset is None:
            raise BadRequest("send Upload-Offset")
        length = None if is_creation else _number(environ, "Upload-Length")
        return AppendInfo(
            offset=offset,
            length=length,
            expected=_checksum(environ),
            announced=digests_of(environ, "Repr-Digest"),
        )

    def answer(self, environ: "WSGIEnvironment", outcome: Outcome) -> tuple[int, Headers]:
        """Return the status and the fields of a response."""
        state = outcome.state
        fields = [("Upload-Offset", str(state.offset))]
        if outcome.created:
            fields.append(("Location", outcome.location))
        asked = environ["REQUEST_METHOD"] == "HEAD"
        if asked and state.length is None:
            fields.append(("Upload-Defer-Length", "1"))
        elif asked:
            fields.append(("Upload-Length", str(state.length)))
        if asked and outcome.metadata:
            fields.append(("Upload-Metadata", outcome.metadata))
        if state.receipt is None or outcome.content_location is None:
            fields.append(("Upload-Expires", http_date(state.expires)))
        else:
            fields.append(("Content-Location", outcome.content_location))
            if digests := format_field(state.receipt.names):
                fields.append(("Repr-Digest", digests))
        return 200 if asked else 201 if outcome.created else 204, fields

    def interim(self, _: int, __: Outcome | None = None) -> Headers:
        """Return nothing: tus has no interim responses."""
        return []

    def translated(self, failure: WSGIStoreError) -> WSGIStoreError:
        """Return a failure with the status that tus defines."""
        if isinstance(failure, ChecksumMismatch):
            return Mismatch(failure.message, **failure.evidence)
        return failure

    def fields(self, failure: WSGIStoreError | None) -> Headers:
        """Return the fields of every response."""
        fields = [("Tus-Resumable", VERSION)]
        if isinstance(failure, UnsupportedVersion):
            fields.append(("Tus-Version", VERSION))
        elif isinstance(failure, OffsetMismatch):
            fields.append(("Upload-Offset", str(failure.evidence["expected"])))
        elif isinstance(failure, ChecksumMismatch):
            fields.append(("Upload-Offset", str(failure.evidence["offset"])))
        return fields


def options(max_size: int | None) -> Headers:
    """Return the fields that tell what this server can do."""
    fields = [
        ("Tus-Resumable", VERSION),
        ("Tus-Version", VERSION),
        ("Tus-Extension", EXTENSIONS),
        ("Tus-Checksum-Algorithm", ",".join(ALGORITHMS)),
    ]
    if max_size is not None:
        fields.append(("Tus-Max-Size", str(max_size)))
    return fields


def _number(environ: "WSGIEnvironment", name: str) -> int | None:
    text = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
    if text is None:
        return None
    if not NUMBER.fullmatch(text):
        raise BadRequest(f"{name}: expected a number of bytes")
    return int(text)


def _name(metadata: str) -> str | None:
    """Return the file name in Upload-Metadata; raises BadRequest if the field is malformed."""
    values: dict[str, bytes] = {}
    for pair in metadata.split(",") if metadata else ():
        match = PAIR.fullmatch(pair.strip(" "))
        if match is None:
            raise BadRequest("Upload-Metadata: expected keys and values in base64")
        key, value = match[1], match[2] or ""
        if key in values:
            raise BadRequest(f"Upload-Metadata: the key {key} is there twice")
        try:
            values[key] = base64.b64decode(value, validate=True)
        except ValueError:
            raise BadRequest(f"Upload-Metadata: the value of {key} is not base64") from None
    for key in ("filename", "name"):
        if name := values.get(key, b"").decode(errors="replace"):
            return name
    return None


def _checksum(environ: "WSGIEnvironment") -> tuple[Digest, ...]:
    text = environ.get("HTTP_UPLOAD_CHECKSUM")
    if text is None:
        return ()
    name, _, value = text.partition(" ")
    algorithm = ALGORITHMS.get(name)
    if algorithm is None:
        raise BadRequest(f"Upload-Checksum: expected one of {', '.join(ALGORITHMS)}")
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != algorithm.size:
        raise BadRequest(f"Upload-Checksum: expected a {name} in base64")
    return (Digest(algorithm, raw),)
