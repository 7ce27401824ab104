"""The upper bound for a WSGI callable on this server: it discards uploads and sends files by sendfile."""

import os
import re
from collections.abc import Iterable
from typing import Any

ROOT = os.environ["WSGI_STORE_ROOT"]
BLOCK = 1 << 20
SMALL = 64 << 10
RANGE = re.compile(r"bytes=(\d+)-(\d+)")

# Small files are read once, and then served from memory.
small: dict[str, bytes] = {}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Drain a POST; answer GET, HEAD, ranges and conditions with as little parsing as possible."""
    method = environ["REQUEST_METHOD"]
    if method == "POST":
        read = environ["wsgi.input"].read
        while read(BLOCK):
            pass
        start_response("200 OK", [("Content-Length", "3")])
        return [b"ok\n"]
    if "HTTP_IF_NONE_MATCH" in environ:
        start_response("304 Not Modified", [("ETag", environ["HTTP_IF_NONE_MATCH"])])
        return []
    path = environ["PATH_INFO"]
    if path in small:
        return _small(small[path], method, start_response)
    file = open(ROOT + path, "rb", buffering=0)  # pylint: disable=consider-using-with  # closed by the server
    size = os.fstat(file.fileno()).st_size
    if size <= SMALL:
        with file:
            small[path] = file.read()
        return _small(small[path], method, start_response)
    status, length = "200 OK", size
    headers = [("Content-Type", "application/octet-stream")]
    if match := RANGE.fullmatch(environ.get("HTTP_RANGE", "")):
        first, last = int(match[1]), int(match[2])
        file.seek(first)
        status, length = "206 Partial Content", last + 1 - first
        headers.append(("Content-Range", f"bytes {first}-{last}/{size}"))
    start_response(status, [*headers, ("Content-Length", str(length))])
    body: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 1 << 18)
    return body


def _small(body: bytes, method: str, start_response: Any) -> Iterable[bytes]:
    headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))]
    start_response("200 OK", [*headers, ("ETag", '"small"')])
    return [] if method == "HEAD" else [body]
