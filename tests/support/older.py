"""The service as it was before it took several files in a form, and lists of hashes."""

import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wsgi_store.wsgi import application as served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Refuse what version 0.1 refused, and leave the rest to the present service."""
    if environ["PATH_INFO"] == "/missing":
        return _refused(start_response, "404 Not Found", "not_found", "nothing is served under this path")
    if environ.get("CONTENT_TYPE", "").startswith("multipart/form-data"):
        body = environ["wsgi.input"].read()
        files = body.count(b"; filename=")
        if files != 1:
            told = "a form must have exactly one file part"
            return _refused(start_response, "400 Bad Request", "bad_request", told, files=files)
        environ["wsgi.input"] = io.BytesIO(body)
    return served(environ, start_response)


def _refused(
    start_response: "StartResponse", status: str, code: str, detail: str, **evidence: object
) -> list[bytes]:
    problem = {"title": code, "status": int(status[:3]), "code": code, "detail": detail, **evidence}
    body = json.dumps(problem).encode()
    fields = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    start_response(status, fields)
    return [body]
