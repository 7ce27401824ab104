"""Each failure as an exception that carries its evidence."""

import re
from collections.abc import Mapping


class WSGIStoreError(Exception):
    """The base of every failure this package names.

    `evidence` holds what a client may see of it beside the message.
    """

    def __init__(self, message: str, **evidence: object) -> None:
        super().__init__(message)
        self.message = message
        self.evidence = evidence


def code(kind: type[WSGIStoreError]) -> str:
    """The stable code of a kind of failure, by which the HTTP API and the command tell it."""
    if kind is WSGIStoreError:
        return "internal_error"
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def _bytes(number: int) -> str:
    return f"{number} byte{'' if number == 1 else 's'}"


class ConfigError(WSGIStoreError):
    """A setting is unknown, malformed or contradicts another; the message names it."""


# What a store says.


class StoreError(WSGIStoreError):
    """The base of what a store raises."""


class BlobNotFound(StoreError):
    """The store holds no blob under this digest."""

    def __init__(self, hash_: str) -> None:
        super().__init__(f"no blob {hash_} in this store", hash=hash_)


class DigestCollision(StoreError):
    """Different bytes with this digest are already held; they were left untouched."""

    def __init__(self, hash_: str) -> None:
        super().__init__(f"a different file with the hash {hash_} is already held", hash=hash_)


class StoreUnavailable(StoreError):
    """The store cannot do this now; trying again later may work."""


class Busy(StoreUnavailable):
    """As many transfers are under way as the server has threads for; trying again later may work."""


class StorageFull(StoreError):
    """There is no room for these bytes."""


class ReadOnly(StoreError):
    """This store is read here, and nothing is written to it."""

    def __init__(self, message: str = "this store is read-only") -> None:
        super().__init__(message)


class WrongStore(StoreError):
    """The directory is not a store of the configured kind; the message says what to do."""


# What is wrong with a request.


class RequestError(WSGIStoreError):
    """The base of what a client did wrong."""


class BadRequest(RequestError):
    """The request cannot be understood."""


class IncompleteBody(RequestError):
    """The body ended early; sizes are in bytes."""

    def __init__(self, message: str = "the body ended early", **evidence: object) -> None:
        super().__init__(message, **evidence)


class RequestTimeout(RequestError):
    """The client sent nothing for too long."""


class LengthRequired(RequestError):
    """The length of the body cannot be known."""


class TooLarge(RequestError):
    """The file is larger than this service takes; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the file is larger than {_bytes(limit)}", limit=limit)


class DigestMismatch(RequestError):
    """The bytes received do not have the digest the client announced."""

    def __init__(
        self,
        expected: object,
        actual: object,
        message: str = "the bytes do not have every announced digest",
    ) -> None:
        super().__init__(message, expected=str(expected), actual=str(actual))


class Unauthenticated(RequestError):
    """The request says not, or not truly, who sends it.

    `known_as` is what RFC 6750 calls the latter, where a Bearer token was sent.
    """

    def __init__(self, message: str, known_as: str | None = None, **evidence: object) -> None:
        super().__init__(message, **evidence)
        self.known_as = known_as


class Denied(RequestError):
    """The caller is known and may not do this."""


class CrossOrigin(RequestError):
    """A page of another site sent this, by the browser of somebody who may not know."""

    def __init__(self, origin: str | None) -> None:
        super().__init__(
            "a page of another site sent this, and WSGI_STORE_CORS_ORIGINS does not allow it",
            **({} if origin is None else {"origin": origin}),
        )


class NotFound(RequestError):
    """Nothing is served under this path."""


class MethodNotAllowed(RequestError):
    """The path is known, the method is not."""

    def __init__(self, allowed: list[str]) -> None:
        super().__init__("this method is not allowed here", allowed=allowed)
        self.allowed = allowed


class Unsupported(RequestError):
    """The request is sent in a way that this server does not know."""


class UriTooLong(RequestError):
    """The first line of the request is longer than the server reads."""


class HeadTooLarge(RequestError):
    """The header fields are larger, or more, than the server reads."""


class ExpectationFailed(RequestError):
    """The request expects what this service does not do (RFC 9110 section 10.1.1)."""


class UnknownHost(RequestError):
    """The request is meant for a host that this service is not known as."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"this service is not known as {host}: WSGI_STORE_HOSTS names the hosts it is known as", host=host
        )


class PreconditionFailed(RequestError):
    """A condition in the request's header fields does not hold (RFC 9110 section 13)."""


class RangeNotSatisfiable(RequestError):
    """No requested range overlaps the blob, whose size is in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no requested range lies within {_bytes(size)}", size=size)
        self.size = size


# What only a client meets.


class Unreachable(WSGIStoreError):
    """Nobody answers there, or the connection broke."""


class UnexpectedAnswer(WSGIStoreError):
    """Whoever answers is no such service, or does not do what it should."""


class MalformedHash(WSGIStoreError):
    """What was given is no hash, or none of the kind that the server names blobs by."""

    def __init__(self, given: str, expected: str) -> None:
        super().__init__(f"malformed hash {given!r}: {expected}")


class UnexpectedDigest(UnexpectedAnswer, DigestMismatch):
    """The server answers an upload with another hash than that of the bytes that were sent."""

    def __init__(self, server: str, expected: object, actual: object) -> None:
        super().__init__(expected, actual, f"{server} answers {actual} to an upload of {expected}")


# Classes, for they stand around every system call: a generator takes four times as long about it.


class mapped:  # pylint: disable=invalid-name  # used like a function
    """Translate foreign exceptions at a seam, by the first row of `table` that fits.

    Their own words are not handed on: they name classes, and what a server or library has inside.
    """

    __slots__ = ("_message", "_table")

    def __init__(self, table: Mapping[type[Exception], type[WSGIStoreError]], message: str) -> None:
        self._table = table
        self._message = message

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for foreign, ours in self._table.items():
                if isinstance(error, foreign):
                    raise ours(self._message) from error
