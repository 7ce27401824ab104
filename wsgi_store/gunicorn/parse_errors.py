"""gunicorn's parsing errors as errors of this service."""

from gunicorn.http import errors as parsing

from wsgi_store import errors

# The errors of gunicorn's parser, each with the error and the message that the client gets.
ERRORS: dict[type[Exception], tuple[type[errors.WSGIStoreError], str]] = {
    parsing.LimitRequestLine: (errors.UriTooLong, "the request line is too long"),
    parsing.LimitRequestHeaders: (errors.HeadTooLarge, "a header field is too long, or there are too many"),
    parsing.ExpectationFailed: (errors.ExpectationFailed, "Expect: only 100-continue is supported"),
    parsing.UnsupportedTransferCoding: (
        errors.Unsupported,
        "Transfer-Encoding: only chunked is supported",
    ),
    parsing.ForbiddenProxyRequest: (errors.Denied, "this address may not use the PROXY protocol"),
    parsing.ConfigurationProblem: (errors.NotFound, "nothing is served under this path"),
    parsing.InvalidRequestLine: (errors.BadRequest, "malformed request line"),
    parsing.InvalidRequestMethod: (errors.BadRequest, "malformed method"),
    parsing.InvalidHTTPVersion: (errors.BadRequest, "expected HTTP/1.0 or HTTP/1.1"),
    parsing.InvalidHeaderName: (errors.BadRequest, "malformed header field name"),
    parsing.ObsoleteFolding: (errors.BadRequest, "a header field continues on the next line"),
    parsing.InvalidSchemeHeaders: (errors.BadRequest, "header fields name different schemes"),
    parsing.InvalidProxyLine: (errors.BadRequest, "malformed PROXY protocol"),
    parsing.InvalidProxyHeader: (errors.BadRequest, "malformed PROXY protocol"),
}
# Fields that may come once and that decide how a request is read.
SINGLE = {"HOST", "CONTENT-LENGTH", "CONTENT-TYPE", "TRANSFER-ENCODING"}


class Rejected(parsing.ParseException):  # type: ignore[misc]  # gunicorn has no type hints
    """A request that the server rejects before the application sees it."""

    def __init__(self, error: errors.WSGIStoreError, method: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.method = method


def service_error(error: Exception) -> errors.WSGIStoreError:
    """Return the error of this service for one of gunicorn's parser."""
    if isinstance(error, Rejected):
        return error.error
    if isinstance(error, parsing.InvalidHeader) and error.hdr in SINGLE:
        return errors.BadRequest(f"malformed, repeated or contradictory {error.hdr.title()}")
    kind, message = ERRORS.get(type(error), (errors.BadRequest, "malformed header field"))
    return kind(message)
