"""Requests about resumable uploads."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

from tests.support.calling import Answer, call
from wsgi_store.web.application import Application

TUS = "application/offset+octet-stream"


def tus(
    application: Application,
    method: str,
    path: str = "/uploads",
    body: bytes | io.BytesIO | None = None,
    **fields: Any,
) -> Answer:
    """Send a request as a client of tus does; None leaves a field out."""
    environ: dict[str, Any] = {"HTTP_TUS_RESUMABLE": "1.0.0"}
    if body is not None:
        environ["CONTENT_TYPE"] = TUS
    if isinstance(body, bytes):
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in fields.items():
        is_field = not name.startswith(("wsgi", "CONTENT_", "QUERY_", "SERVER_", "SCRIPT_"))
        environ[f"HTTP_{name}" if is_field else name] = str(value) if isinstance(value, int) else value
    return call(application, method, path, body=b"" if body is None else body, **environ)


def created(application: Application, **fields: Any) -> str:
    """Create an upload by tus, and return its path."""
    answer = tus(application, "POST", CONTENT_LENGTH="0", **fields)
    assert answer.status == 201, answer
    path: str = answer.headers["Location"]
    return path


def offset(application: Application, path: str) -> int:
    """Ask how many bytes an upload has."""
    answer = tus(application, "HEAD", path)
    assert answer.status == 200
    return int(answer.headers["Upload-Offset"])


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    """The value of Upload-Checksum."""
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def folders(application: Application) -> list[Path]:
    """The directories of all uploads."""
    return list(Path(application.config.root, ".uploads").glob("[0-9a-f]*/[0-9a-f]*"))
