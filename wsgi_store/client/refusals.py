"""What a server refuses, as the exceptions that it began as."""

from typing import Any

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from wsgi_store import errors
from wsgi_store.errors import StoreUnavailable, UnexpectedAnswer, Unreachable, WSGIStoreError

# All else in a problem (RFC 9457) is evidence; the last one stands for a header field.
NO_EVIDENCE = {"type", "title", "status", "code", "detail", "instance", "retry_after"}
_KINDS: tuple[type[WSGIStoreError], ...] = (
    WSGIStoreError,
    errors.Busy,
    *errors.StoreError.__subclasses__(),
    *errors.RequestError.__subclasses__(),
)
CODES = {errors.code(kind): kind for kind in _KINDS}
# For answers that are no problems of this service: those of a proxy, or of another service.
BY_STATUS: dict[int, type[WSGIStoreError]] = {
    401: errors.Unauthenticated,
    403: errors.Denied,
    404: errors.NotFound,
    408: errors.RequestTimeout,
    413: errors.TooLarge,
    416: errors.RangeNotSatisfiable,
    502: Unreachable,
    503: StoreUnavailable,
    504: Unreachable,
    507: errors.StorageFull,
}


def refusal(base: str, answer: BaseHTTPResponse, told: dict[str, Any]) -> WSGIStoreError:
    """The failure an answer tells; `told` is its problem (RFC 9457), {} when it is none."""
    kind = CODES.get(str(told.get("code")))
    message = str(told.get("detail"))
    if kind is None:
        kind = BY_STATUS.get(answer.status, errors.BadRequest if answer.status < 500 else WSGIStoreError)
        message = f"{base} answered {answer.status} {answer.reason or ''}".rstrip()
        if 300 <= answer.status < 400:
            kind = UnexpectedAnswer
            # What stands behind ? may be a signature, for which all that is needed is to know it.
            location = answer.headers.get("Location", "").partition("?")[0]
            message += f", to {location}: only downloads follow redirections"
    evidence = {name: value for name, value in told.items() if name not in NO_EVIDENCE}
    if (asked := _seconds(answer.headers.get("Retry-After"))) is not None:
        evidence["retry_after"] = asked
    # Each kind is made in a way of its own, of which nothing is left to know but the outcome.
    error = kind.__new__(kind, message)
    error.__dict__.update(evidence, message=message, evidence=evidence)
    return error


def _seconds(retry_after: str | None) -> float | None:
    """The time a Retry-After field asks for (RFC 9110 section 10.2.3); None where it asks for none."""
    try:
        return None if retry_after is None else float(Retry().parse_retry_after(retry_after))
    except (InvalidHeader, ValueError, OverflowError):
        return None
