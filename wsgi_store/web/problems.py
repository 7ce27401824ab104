"""Error responses: problem documents (RFC 9457) and their header fields."""

from wsgi_store import errors
from wsgi_store.access.grant import SCOPES
from wsgi_store.logs import logger, trace
from wsgi_store.web.response import NO_SNIFFING, PHRASES, Headers, Response, to_json

# RFC 6750 section 3.
BEARER = 'Bearer realm="wsgi_store"'
RETRY_AFTER = "5"  # seconds; a guess at how soon a disk or a mount is back
# Failures that end as soon as another request does.
SOON = (errors.Busy, errors.UploadLocked)


def problem(
    error: errors.WSGIStoreError,
    identity: str,
    *,
    unforeseen: Exception | None = None,
    by_script: bool = False,
) -> Response:
    """Return an error as application/problem+json (RFC 9457), and log it if it is the server's fault.

    `by_script` says that a script in a browser made the request.
    """
    log(error, identity, unforeseen)
    kind = ("Content-Type", "application/problem+json")
    fields = [kind, ("Cache-Control", "no-store"), NO_SNIFFING, *fields_of(error, by_script)]
    return Response(to_json(told(error)), status_of(error)[0], fields)


def told(error: errors.WSGIStoreError) -> dict[str, object]:
    """Return the members of the problem document."""
    status, code = status_of(error)
    return {
        "title": PHRASES[status],
        "status": status,
        "code": code,
        "detail": error.message,
        **error.evidence,
    }


def log(error: errors.WSGIStoreError, identity: str | None, unforeseen: Exception | None = None) -> None:
    """Log an error if it is the server's fault."""
    status, code = status_of(error)
    if status >= 500 and not isinstance(error, (errors.RequestError, errors.Busy)):
        # The cause may contain paths, which clients must not see.
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        traced = f"\n{trace(unforeseen)}" if unforeseen else ""
        logger.bind(request_id=identity, code=code).error("{}{}{}", error.message, cause, traced)


def fields_of(error: errors.WSGIStoreError, by_script: bool = False) -> Headers:
    """Return the fields that belong to an error in any form."""
    if isinstance(error, errors.MethodNotAllowed):
        return [("Allow", ", ".join(error.allowed))]
    if isinstance(error, errors.RangeNotSatisfiable):
        return [("Content-Range", f"bytes */{error.size}")]
    if isinstance(error, errors.Unauthenticated):
        said = f', error="{error.bearer_error}"' if error.bearer_error else ""
        # For a Basic challenge browsers open a window of their own, over the page that asks for a token.
        basic = [] if said or by_script else [("WWW-Authenticate", 'Basic realm="wsgi_store"')]
        return [("WWW-Authenticate", f"{BEARER}{said}"), *basic]
    if isinstance(error, errors.Denied) and error.evidence.get("scope") in SCOPES:
        said = f'error="insufficient_scope", scope="{error.evidence["scope"]}"'
        return [("WWW-Authenticate", f"{BEARER}, {said}")]
    if isinstance(error, SOON):
        return [("Retry-After", "1")]
    if isinstance(error, errors.StoreUnavailable) or (
        isinstance(error, errors.FilesRefused) and error.status == errors.StoreUnavailable.status
    ):
        return [("Retry-After", RETRY_AFTER)]
    return []


def status_of(error: errors.WSGIStoreError) -> tuple[int, str]:
    """Return the status and the code for a response; errors without a status are internal errors."""
    return (500, errors.WSGIStoreError.code) if error.status is None else (error.status, error.code)
