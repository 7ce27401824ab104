"""Failures as answers: their status and stable code, as problem documents (RFC 9457)."""

from wsgi_store import errors
from wsgi_store.access.grant import SCOPES
from wsgi_store.logs import logger, trace
from wsgi_store.web.response import NO_SNIFFING, PHRASES, Response, to_json

STATUS: dict[type[errors.WSGIStoreError], tuple[int, str]] = {
    errors.BadRequest: (400, "bad_request"),
    errors.IncompleteBody: (400, "incomplete_body"),
    errors.Unauthenticated: (401, "unauthenticated"),
    errors.Denied: (403, "denied"),
    errors.ReadOnly: (403, "read_only"),
    errors.CrossOrigin: (403, "cross_origin"),
    errors.NotFound: (404, "not_found"),
    errors.BlobNotFound: (404, "blob_not_found"),
    errors.MethodNotAllowed: (405, "method_not_allowed"),
    errors.RequestTimeout: (408, "request_timeout"),
    errors.DigestCollision: (409, "digest_collision"),
    errors.LengthRequired: (411, "length_required"),
    errors.PreconditionFailed: (412, "precondition_failed"),
    errors.TooLarge: (413, "too_large"),
    errors.UriTooLong: (414, "uri_too_long"),
    errors.RangeNotSatisfiable: (416, "range_not_satisfiable"),
    errors.ExpectationFailed: (417, "expectation_failed"),
    errors.UnknownHost: (421, "unknown_host"),
    errors.DigestMismatch: (422, "digest_mismatch"),
    errors.HeadTooLarge: (431, "head_too_large"),
    errors.Unsupported: (501, "unsupported"),
    errors.Busy: (503, "busy"),
    errors.StoreUnavailable: (503, "store_unavailable"),
    errors.StorageFull: (507, "storage_full"),
    errors.WSGIStoreError: (500, "internal_error"),
}
# RFC 6750 section 3.
BEARER = 'Bearer realm="wsgi_store"'
RETRY_AFTER = "5"  # seconds: a guess at how soon a disk or a mount comes back


def problem(error: errors.WSGIStoreError, identity: str, *, unforeseen: Exception | None = None) -> Response:
    """A failure as application/problem+json (RFC 9457); the server's own are logged."""
    status, code = status_of(error)
    if status >= 500 and not isinstance(error, (errors.RequestError, errors.Busy)):
        # The cause names paths: they are the operator's business, not the client's.
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
        said = f', error="{error.known_as}"' if error.known_as else ""
        headers += [("WWW-Authenticate", f"{BEARER}{said}"), ("WWW-Authenticate", 'Basic realm="wsgi_store"')]
    elif isinstance(error, errors.Denied) and error.evidence.get("scope") in SCOPES:
        said = f'error="insufficient_scope", scope="{error.evidence["scope"]}"'
        headers.append(("WWW-Authenticate", f"{BEARER}, {said}"))
    elif isinstance(error, errors.StoreUnavailable):
        headers.append(("Retry-After", "1" if isinstance(error, errors.Busy) else RETRY_AFTER))
    return Response(to_json(body), status, headers)


def status_of(error: errors.WSGIStoreError) -> tuple[int, str]:
    """The status and the stable code of a failure."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
