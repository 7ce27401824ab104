"""Responses: status, header fields and body."""

import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


Headers = list[tuple[str, str]]


# Some browsers would show JSON that contains text of a client as a page.
NO_SNIFFING = ("X-Content-Type-Options", "nosniff")
# The phrases of RFC 9110, which HTTPStatus has since Python 3.13.
PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    460: "Checksum Mismatch",
}
STATUS_LINES = {status: f"{status} {phrase}" for status, phrase in PHRASES.items()}


# One for all: json.dumps would make an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False).encode


class Response:
    """A response as a WSGI callable (PEP 3333).

    It has the given header fields, and Content-Length if the body is bytes. Raises ValueError for a value
    that is not printable ASCII, so that no text of a client can end a line.
    """

    # Not Werkzeug's, which copies every field and checks it twice: that slows a small GET.
    def __init__(self, body: bytes | Iterable[bytes], status: int, headers: Headers) -> None:
        values = "".join([value for _, value in headers])
        if not (values.isascii() and values.isprintable()):
            raise ValueError(f"header fields that are not printable ASCII: {headers!r}")
        self.status = STATUS_LINES[status]
        self.headers = list(headers)
        if isinstance(body, bytes):
            self.headers.append(("Content-Length", str(len(body))))
            body = [body]
        self.body = body

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response(self.status, self.headers)
        # Handlers never make a body that has to be closed for HEAD.
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self.body

    def close(self) -> None:
        """Close a body that is not sent."""
        if hasattr(self.body, "close"):
            self.body.close()


def to_json(payload: object) -> bytes:
    """Return a JSON document and a line break."""
    return (_encode(payload) + "\n").encode()


def json_response(payload: object, headers: Sequence[tuple[str, str]] = (), status: int = 200) -> Response:
    """Return a JSON document that must not be cached."""
    fields = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), NO_SNIFFING, *headers]
    return Response(to_json(payload), status, fields)
