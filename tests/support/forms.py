"""Forms as clients send them."""

import io
import os
from typing import Any

from tests.support.calling import Answer, call, held
from wsgi_store.web.application import Application

HELLO = b"hello\n"
HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
# As a server marks it that raises an exception when such a body is truncated.
CHUNKED: dict[str, Any] = {
    "HTTP_TRANSFER_ENCODING": "chunked",
    "wsgi.input_terminated": True,
    "SERVER_SOFTWARE": "gunicorn/27.0.1",
}


def part(disposition: str | bytes, content: bytes = b"", more: bytes = b"") -> bytes:
    """A part of a form without its boundary."""
    if isinstance(disposition, str):
        disposition = disposition.encode()
    return b"Content-Disposition: form-data; " + disposition + b"\r\n" + more + b"\r\n" + content


FILE = part('name="file"; filename="a.txt"', HELLO, b"Content-Type: text/plain\r\n")
FIELD = part('name="field"', b"value")
EMPTY = part('name="other"; filename=""', b"", b"Content-Type: application/octet-stream\r\n")
NAMELESS = part('name="file"; filename=""', HELLO)


def form(*parts: bytes, boundary: str = "B") -> bytes:
    """A complete form."""
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + one + b"\r\n" for one in parts) + line + b"--\r\n"


def post(application: Application, body: bytes | io.BytesIO, boundary: str = "B", **fields: Any) -> Answer:
    """Send a form."""
    kind = f'multipart/form-data; boundary="{boundary}"'
    return call(application, "POST", body=body, **{"CONTENT_TYPE": kind, **fields})


def check_refused(application: Application, answer: Answer, code: str = "bad_request") -> None:
    """Check that a form was refused and nothing stored."""
    assert (answer.status, answer.json["code"]) == (400, code)
    assert not held(application)
    assert not os.listdir(application.store.staging_directory)
