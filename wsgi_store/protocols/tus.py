"""tus 1.0: resumable uploads as tus clients speak them (https://tus.io/protocols/resumable-upload)."""

import base64
import binascii
import re
from typing import TYPE_CHECKING

from werkzeug.http import http_date

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BadRequest,
    DigestMismatch,
    OffsetMismatch,
    UnsupportedMediaType,
    UnsupportedVersion,
    WSGIStoreError,
)
from wsgi_store.uploads.records import Announced
from wsgi_store.web.dialect import Appended, Outcome
from wsgi_store.web.digest_fields import format_field, parse_field
from wsgi_store.web.response import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,checksum,expiration"
MEDIA_TYPE = "application/offset+octet-stream"
ALGORITHMS = [Algorithm.SHA1, Algorithm.MD5, Algorithm.SHA256, Algorithm.SHA512]
NUMBER = re.compile("[0-9]{1,18}")
# A key, and perhaps a value in base64.
PAIR = re.compile(r"[!-+\--~]+(?: [A-Za-z0-9+/]*={0,2})?")


class ChecksumMismatch(DigestMismatch):
    """The bytes of a request do not have their checksum."""

    status = 460


class Tus:
    """The dialect of tus 1.0."""

    def announced(self, environ: "WSGIEnvironment") -> Announced:
        """Read a creation."""
        self._require_version(environ)
        if _has(environ, "CONTENT_LENGTH") and environ["CONTENT_LENGTH"] != "0":
            self._require_media_type(environ)
        length = _number(environ, "Upload-Length")
        defers = environ.get("HTTP_UPLOAD_DEFER_LENGTH")
        if defers not in (None, "1") or (defers is None) == (length is None):
            raise BadRequest("send either Upload-Length or Upload-Defer-Length: 1")
        if "HTTP_UPLOAD_CONCAT" in environ:
            raise BadRequest("Upload-Concat: the extension concatenation is not supported")
        metadata = environ.get("HTTP_UPLOAD_METADATA", "")
        digests = environ.get("HTTP_REPR_DIGEST")
        return Announced(
            length=length,
            expected=tuple(parse_field(digests)) if digests else (),
            name=_name(metadata),
            metadata=metadata,
        )

    def appended(self, environ: "WSGIEnvironment", _: int | None) -> Appended:
        """Read an append, or the body of a creation."""
        self._require_version(environ)
        self._require_media_type(environ)
        offset = _number(environ, "Upload-Offset")
        if offset is None:
            if environ["REQUEST_METHOD"] == "PATCH":
                raise BadRequest("send Upload-Offset")
            offset = 0
        return Appended(offset=offset, length=_number(environ, "Upload-Length"), expected=_checksum(environ))

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
            fields.append(("Repr-Digest", format_field(state.receipt.names)))
        return 200 if asked else 201 if outcome.created else 204, fields

    def fields(self, failure: WSGIStoreError | None) -> Headers:
        """Return the fields of every response."""
        fields = [("Tus-Resumable", VERSION)]
        if isinstance(failure, UnsupportedVersion):
            fields.append(("Tus-Version", VERSION))
        elif isinstance(failure, OffsetMismatch):
            fields.append(("Upload-Offset", str(failure.evidence["expected"])))
        return fields

    def _require_version(self, environ: "WSGIEnvironment") -> None:
        version = environ.get("HTTP_TUS_RESUMABLE")
        if version != VERSION:
            raise UnsupportedVersion(f"Tus-Resumable: expected {VERSION}, not {version}")

    def _require_media_type(self, environ: "WSGIEnvironment") -> None:
        kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if kind != MEDIA_TYPE:
            raise UnsupportedMediaType(f"Content-Type: expected {MEDIA_TYPE}")


def options(max_size: int | None) -> Headers:
    """Return the fields that tell what this server can do."""
    fields = [
        ("Tus-Resumable", VERSION),
        ("Tus-Version", VERSION),
        ("Tus-Extension", EXTENSIONS),
        ("Tus-Checksum-Algorithm", ",".join(one.value for one in ALGORITHMS)),
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


def _has(environ: "WSGIEnvironment", name: str) -> bool:
    return bool(environ.get(name))


def _name(metadata: str) -> str | None:
    """Return the file name in Upload-Metadata; raises BadRequest if the field is malformed."""
    keys = {}
    for pair in metadata.split(",") if metadata else ():
        if not PAIR.fullmatch(pair.strip(" ")):
            raise BadRequest("Upload-Metadata: expected keys and values in base64")
        key, _, value = pair.strip(" ").partition(" ")
        if key in keys:
            raise BadRequest(f"Upload-Metadata: {key} is there twice")
        keys[key] = value
    for key in ("filename", "name"):
        try:
            if key in keys:
                return base64.b64decode(keys[key], validate=True).decode()
        except ValueError:
            raise BadRequest(f"Upload-Metadata: {key} is not UTF-8 in base64") from None
    return None


def _checksum(environ: "WSGIEnvironment") -> tuple[Digest, ...]:
    text = environ.get("HTTP_UPLOAD_CHECKSUM")
    if text is None:
        return ()
    name, _, value = text.partition(" ")
    algorithm = next((one for one in ALGORITHMS if one.value == name), None)
    if algorithm is None:
        raise BadRequest(f"Upload-Checksum: expected one of {', '.join(one.value for one in ALGORITHMS)}")
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != algorithm.size:
        raise BadRequest(f"Upload-Checksum: expected a {name} in base64")
    return (Digest(algorithm, raw),)
