"""Error responses: problem documents (RFC 9457) and their header fields."""

from wsgi_store import errors
from wsgi_store.access.grant import SCOPES
from wsgi_store.logs import logger, trace
from wsgi_store.web.response import NO_SNIFFING, PHRASES, Response, to_json

# RFC 6750 section 3.
BEARER = 'Bearer realm="wsgi_store"'
RETRY_AFTER = "5"  # seconds; a guess at how soon a disk or a mount is back
# Failures that end as soon as another request does.
SOON = (errors.Busy, errors.UploadLocked)


def problem(error: errors.WSGIStoreError, identity: str, *, unforeseen: Exception | None = None) -> Response:
    """Return an error as application/problem+json (RFC 9457), and log it if it is the server's fault."""
    status, code = status_of(error)
    if status >= 500 and not isinstance(error, (errors.RequestError, errors.Busy)):
        # The cause may contain paths, which clients must not see.
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        traced = f"\n{trace(unforeseen)}" if unforeseen else ""
        logger.bind(request_id=identity, code=code).error("{}{}{}", error.message, cause, traced)
    body = {
        "title": PHRASES[status],
        "status": status,
        "code": code,
        "detail": error.message,
        **error.evidence,
    }
    headers = [("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"), NO_SNIFFING]
    if isinstance(error, errors.MethodNotAllowed):
        headers.append(("Allow", ", ".join(error.allowed)))
    elif isinstance(error, errors.RangeNotSatisfiable):
        headers.append(("Content-Range", f"bytes */{error.size}"))
    elif isinstance(error, errors.Unauthenticated):
        said = f', error="{error.bearer_error}"' if error.bearer_error else ""
        headers += [("WWW-Authenticate", f"{BEARER}{said}"), ("WWW-Authenticate", 'Basic realm="wsgi_store"')]
    elif isinstance(error, errors.Denied) and error.evidence.get("scope") in SCOPES:
        said = f'error="insufficient_scope", scope="{error.evidence["scope"]}"'
        headers.append(("WWW-Authenticate", f"{BEARER}, {said}"))
    elif isinstance(error, SOON):
        headers.append(("Retry-After", "1"))
    elif isinstance(error, errors.StoreUnavailable):
        headers.append(("Retry-After", RETRY_AFTER))
    return Response(to_json(body), status, headers)


def status_of(error: errors.WSGIStoreError) -> tuple[int, str]:
    """Return the status and the code for a response; errors without a status are internal errors."""
    kind = errors.WSGIStoreError if error.status is None else type(error)
    return kind.status or 500, kind.code
