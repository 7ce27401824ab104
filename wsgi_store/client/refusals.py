"""Answers of a server that refuse a request, as the exceptions that the server raised."""

from typing import Any

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from wsgi_store import errors
from wsgi_store.errors import StoreUnavailable, UnexpectedAnswer, Unreachable, WSGIStoreError

# Members of a problem (RFC 9457) that are not evidence; the last one is set from the header field alone.
NO_EVIDENCE = {"type", "title", "status", "code", "detail", "instance", "retry_after"}
# For answers without a code: those of a proxy or of another service.
BY_STATUS: dict[int, type[WSGIStoreError]] = {
    401: errors.Unauthenticated,
    403: errors.Denied,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    408: errors.RequestTimeout,
    413: errors.TooLarge,
    416: errors.RangeNotSatisfiable,
    501: errors.Unsupported,
    502: Unreachable,
    503: StoreUnavailable,
    504: Unreachable,
    507: errors.StorageFull,
}


def refusal(base: str, answer: BaseHTTPResponse, told: dict[str, Any]) -> WSGIStoreError:
    """Return the failure that an answer reports; `told` is its problem (RFC 9457), {} without one."""
    failure = reported(told)
    if failure is None:
        kind = BY_STATUS.get(answer.status, errors.BadRequest if answer.status < 500 else WSGIStoreError)
        message = f"{base} answered {answer.status} {answer.reason or ''}".rstrip()
        if 300 <= answer.status < 400:
            kind = UnexpectedAnswer
            # A query may hold a signature, which must not be printed.
            location = answer.headers.get("Location", "").partition("?")[0]
            message += f", to {location}: only downloads follow redirections"
        failure = kind(message, **_evidence(told))
    if (asked := _seconds(answer.headers.get("Retry-After"))) is not None:
        failure.evidence["retry_after"] = asked
    return failure


def reported(told: dict[str, Any]) -> WSGIStoreError | None:
    """Return the failure that a problem (RFC 9457) tells by its code; None if it has none that is known."""
    kind = errors.BY_CODE.get(str(told.get("code")))
    return None if kind is None else kind(str(told.get("detail")), **_evidence(told))


def _evidence(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in NO_EVIDENCE}


def _seconds(retry_after: str | None) -> float | None:
    """The time a Retry-After field asks for (RFC 9110 section 10.2.3); None where it asks for none."""
    try:
        return None if retry_after is None else float(Retry().parse_retry_after(retry_after))
    except (InvalidHeader, ValueError, OverflowError):
        return None
