"""The failures of this package, each with its code, its HTTP status and its evidence."""

import errno
from collections.abc import Iterator, Mapping, Sequence


class WSGIStoreError(Exception):
    """The base of all failures of this package: a message for people, evidence for programs.

    The server that raises a failure and the client that receives it construct it alike: the message
    first, evidence by keyword. `evidence` becomes the extension members of the problem document
    (RFC 9457 section 3.2); None is left out.
    """

    code: str = "internal_error"
    """The stable name of the failure in answers, logs, metrics and the command's JSON."""
    status: int | None = 500
    """The HTTP status of the answer; None if no server answers with this failure."""

    def __init_subclass__(cls, *, code: str | None = None, status: int | None = None) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code, cls.status = code, status
            if status is not None:
                BY_CODE[code] = cls

    def __init__(self, message: str, /, **evidence: object) -> None:
        super().__init__(message)
        self.message = message
        self.evidence = {name: value for name, value in evidence.items() if value is not None}


BY_CODE: dict[str, type[WSGIStoreError]] = {WSGIStoreError.code: WSGIStoreError}
"""The classes that a server answers with; the definitions below fill it."""


def _bytes(number: int | None) -> str:
    return f"{number} byte{'' if number == 1 else 's'}"


class ConfigError(WSGIStoreError, code="config_error"):
    """A setting is unknown, malformed or contradicts another; the message names it."""


# Raised by stores.


class StoreError(WSGIStoreError):
    """The base of the failures of a store."""


class BlobNotFound(StoreError, code="blob_not_found", status=404):
    """The store has no blob with this hash."""

    # pylint: disable-next=redefined-builtin  # called as in the answer
    def __init__(self, message: str | None = None, /, *, hash: str | None = None, **evidence: object) -> None:
        super().__init__(message or f"no blob {hash} in this store", hash=hash, **evidence)
        self.hash = hash


class DigestCollision(StoreError, code="digest_collision", status=409):
    """The store has a different file with the same digest, and left it untouched."""

    # pylint: disable-next=redefined-builtin  # called as in the answer
    def __init__(self, message: str | None = None, /, *, hash: str | None = None, **evidence: object) -> None:
        message = message or f"the store already has a different file with the hash {hash}"
        super().__init__(message, hash=hash, **evidence)
        self.hash = hash


class StoreUnavailable(StoreError, code="store_unavailable", status=503):
    """The store cannot do this now; trying again later may work."""


class Busy(StoreUnavailable, code="busy", status=503):
    """The server has no free thread; trying again later may work."""


class StorageFull(StoreError, code="storage_full", status=507):
    """The store has no room for the file."""

    errnos = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
    """How system calls report it (errno(3)): no space, no quota, beyond RLIMIT_FSIZE."""


class ReadOnly(StoreError, code="read_only", status=403):
    """The store is opened for reading only."""

    def __init__(self, message: str = "this store is read-only", /, **evidence: object) -> None:
        super().__init__(message, **evidence)


class WrongStore(StoreError, code="wrong_store"):
    """The directory or bucket is not a store of the configured kind; the message says what to do."""


# Raised for requests.


class RequestError(WSGIStoreError):
    """The base of the failures that a request causes."""


class BadRequest(RequestError, code="bad_request", status=400):
    """The server cannot understand the request."""


class IncompleteBody(RequestError, code="incomplete_body", status=400):
    """The body ended early; `expected` and `actual` are in bytes."""

    def __init__(self, message: str = "the body ended early", /, **evidence: object) -> None:
        super().__init__(message, **evidence)


class RequestTimeout(RequestError, code="request_timeout", status=408):
    """The client sent nothing for too long."""


class LengthRequired(RequestError, code="length_required", status=411):
    """The server cannot know the length of the body (RFC 9110 section 15.5.12)."""


class TooLarge(RequestError, code="too_large", status=413):
    """The file is larger than the server accepts; `limit` is in bytes."""

    def __init__(
        self, message: str | None = None, /, *, limit: int | None = None, **evidence: object
    ) -> None:
        super().__init__(message or f"the file is larger than {_bytes(limit)}", limit=limit, **evidence)
        self.limit = limit


class UnsupportedMediaType(RequestError, code="unsupported_media_type", status=415):
    """The body is a form where only the file itself can be stored."""


class DigestMismatch(RequestError, code="digest_mismatch", status=422):
    """The bytes do not have the digest that was announced; `expected` and `actual` are digests."""

    def __init__(
        self,
        message: str = "the bytes do not match an announced digest",
        /,
        *,
        expected: object = None,
        actual: object = None,
        **evidence: object,
    ) -> None:
        self.expected = None if expected is None else str(expected)
        self.actual = None if actual is None else str(actual)
        super().__init__(message, expected=self.expected, actual=self.actual, **evidence)


class FilesRefused(RequestError, code="files_refused", status=422):
    """Some files of a form are not stored; `files` tells of each file what the answer to it alone would.

    A file that is not stored has a problem (RFC 9457) as its `error`. The status is the highest of theirs.
    """

    def __init__(
        self,
        message: str = "at least one file of the form is not stored; see `files`",
        /,
        *,
        files: Sequence[Mapping[str, object]] | None = None,
        **evidence: object,
    ) -> None:
        files = [] if files is None else files  # a list, as the client gets it
        super().__init__(message, files=files, **evidence)
        self.files = files
        self.status = max(_statuses(files), default=self.status)


def _statuses(files: object) -> Iterator[int]:
    # A client gets them from a server, which may tell anything.
    for file in files if isinstance(files, Sequence) else ():
        match file:
            case {"error": {"status": int() as status}}:
                yield status


class ChecksumMismatch(DigestMismatch, code="checksum_mismatch", status=422):
    """The bytes of one request lack their digest; the upload has `offset` bytes, as before the request."""


class Unauthenticated(RequestError, code="unauthenticated", status=401):
    """The request carries no credentials, or unknown ones.

    `bearer_error` is what RFC 6750 section 3.1 calls that where a Bearer token was sent.
    """

    def __init__(self, message: str, /, *, bearer_error: str | None = None, **evidence: object) -> None:
        super().__init__(message, **evidence)
        self.bearer_error = bearer_error


class Denied(RequestError, code="denied", status=403):
    """The caller is known and lacks a permission."""


class CrossOrigin(RequestError, code="cross_origin", status=403):
    """A browser sent this for a page of another origin (RFC 6454); `origin` is that of the page."""

    def __init__(
        self,
        message: str = "a page of another origin sent this, and WSGI_STORE_CORS_ORIGINS does not list it",
        /,
        *,
        origin: str | None = None,
        **evidence: object,
    ) -> None:
        super().__init__(message, origin=origin, **evidence)
        self.origin = origin


class UnsupportedVersion(RequestError, code="unsupported_version", status=412):
    """The client speaks a version of a protocol that this server does not know."""


class UploadNotFound(RequestError, code="upload_not_found", status=404):
    """There is no upload with this id, or it has expired."""

    def __init__(self, message: str = "no such upload, or it has expired", /, **evidence: object) -> None:
        super().__init__(message, **evidence)


class TooManyUploads(RequestError, code="too_many_uploads", status=429):
    """The caller has as many unfinished uploads, or bytes of them, as it may have."""


class UploadLocked(RequestError, code="upload_locked", status=423):
    """Another request is using the upload; trying again later may work."""


class OffsetMismatch(RequestError, code="offset_mismatch", status=409):
    """The bytes do not begin where the upload ends; `expected` and `provided` are offsets in bytes."""

    def __init__(
        self, message: str = "the bytes must begin where the upload ends", /, **evidence: object
    ) -> None:
        super().__init__(message, **evidence)


class InconsistentLength(RequestError, code="inconsistent_length", status=400):
    """The request contradicts the length that was announced for the upload."""


class NotFound(RequestError, code="not_found", status=404):
    """Nothing is served under this path."""


class MethodNotAllowed(RequestError, code="method_not_allowed", status=405):
    """The path does not support this method; `allowed` are those that it does."""

    def __init__(
        self,
        message: str = "this method is not allowed here",
        /,
        *,
        allowed: Sequence[str] = (),
        **evidence: object,
    ) -> None:
        super().__init__(message, allowed=allowed, **evidence)
        self.allowed = allowed


class Unsupported(RequestError, code="unsupported", status=501):
    """The request uses a feature of HTTP that this server lacks."""


class UriTooLong(RequestError, code="uri_too_long", status=414):
    """The request line is longer than the server reads."""


class HeadTooLarge(RequestError, code="head_too_large", status=431):
    """The header fields are longer, or more, than the server reads (RFC 6585 section 5)."""


class ExpectationFailed(RequestError, code="expectation_failed", status=417):
    """The server does not support what the Expect field asks for (RFC 9110 section 10.1.1)."""


class UnknownHost(RequestError, code="unknown_host", status=421):
    """The request names a host that is not one of this server's."""

    def __init__(self, message: str | None = None, /, *, host: str | None = None, **evidence: object) -> None:
        message = message or f"{host} is not a host of this service; WSGI_STORE_HOSTS lists its hosts"
        super().__init__(message, host=host, **evidence)
        self.host = host


class PreconditionFailed(RequestError, code="precondition_failed", status=412):
    """A condition in the header fields of the request is false (RFC 9110 section 13)."""


class RangeNotSatisfiable(RequestError, code="range_not_satisfiable", status=416):
    """No requested range overlaps the blob; `size` is that of the blob, in bytes."""

    def __init__(self, message: str | None = None, /, *, size: int | None = None, **evidence: object) -> None:
        message = message or f"no requested range overlaps a blob of {_bytes(size)}"
        super().__init__(message, size=size, **evidence)
        self.size = size


# Raised by the client only.


class Unreachable(WSGIStoreError, code="unreachable"):
    """The server does not answer, or the connection broke."""


class UnexpectedAnswer(WSGIStoreError, code="unexpected_answer"):
    """The server is not a wsgi_store, or its answer is wrong."""


class MalformedHash(WSGIStoreError, code="malformed_hash"):
    """The argument is not a hash, or not one by an algorithm of the server."""


class MalformedTree(WSGIStoreError, code="malformed_tree"):
    """The blob is no tree, or describes what no folder has; `line` is the number of the wrong line."""


class OutwardLink(WSGIStoreError, code="outward_link"):
    """A symbolic link of a tree leads out of the directory that it is restored to; `target` is where to."""


class UnexpectedDigest(UnexpectedAnswer, DigestMismatch, code="unexpected_digest"):
    """The server answered an upload with a digest that the sent bytes lack, or that cannot be compared."""
