"""A response: status, header fields, body."""

import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


Headers = list[tuple[str, str]]


# Some browsers take JSON that has a client's words in it for a page.
NO_SNIFFING = ("X-Content-Type-Options", "nosniff")
# Those of RFC 9110, which HTTPStatus has from Python 3.13 on.
PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
STATUS_LINES = {status: f"{status} {phrase}" for status, phrase in PHRASES.items()}


# Made once: json.dumps would make one for each answer.
_encode = json.JSONEncoder(ensure_ascii=False).encode


class Response:
    """An answer as a WSGI callable (PEP 3333), with just the header fields it was given.

    Of a body in bytes the length is said, too. Raises ValueError where a value is not printable
    ASCII, as those of this service are: nothing that a client sent can end a line.
    """

    # Werkzeug's copies and looks at every field twice: a GET of 4 KiB took 1.2 times as long.
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
        # Only for a GET is a body made that has to be closed.
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self.body

    def close(self) -> None:
        """Give a body up that is not sent."""
        if hasattr(self.body, "close"):
            self.body.close()


def to_json(payload: object) -> bytes:
    """A JSON document and a line break."""
    return (_encode(payload) + "\n").encode()


def json_response(payload: object, headers: Sequence[tuple[str, str]] = (), status: int = 200) -> Response:
    """A JSON document that is true only now."""
    fields = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), NO_SNIFFING, *headers]
    return Response(to_json(payload), status, fields)
