"""The gunicorn worker with other protocols and applications."""

import os
import struct
import sys
import time
from pathlib import Path

from tests.support.servers import gunicorn
from tests.support.wire import Connection, message

# The application sends this file, or an empty one.
FILES = """
import os

def app(environ, start_response):
    path = os.devnull if environ["PATH_INFO"] == "/empty" else __file__
    start_response("200 OK", [("Content-Length", str(os.path.getsize(path)))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))
"""


def packet(**variables: str) -> bytes:
    """A request in the uwsgi protocol."""
    texts = [text.encode() for pair in variables.items() for text in pair]
    block = b"".join(struct.pack("<H", len(text)) + text for text in texts)
    return struct.pack("<BHB", 0, len(block), 0) + block


def test_uwsgi_protocol(tmp_path: Path) -> None:
    """A uwsgi request gets one answer, and ends the connection."""
    with gunicorn(tmp_path, "--protocol", "uwsgi") as server:
        request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/healthz", "QUERY_STRING": "", "HTTP_HOST": "a"}
        for option in ("keep-alive", "close"):
            with Connection(server.port) as connection:
                answer = connection.ask(packet(**request, HTTP_CONNECTION=option))
                assert (answer.status, answer.body) == (200, b'{"status": "ok"}\n')
                assert connection.at_end()


def test_file_wrapper(tmp_path: Path) -> None:
    """An answer without a body is sent at once."""
    (tmp_path / "files.py").write_text(FILES, encoding="ascii")
    with (
        gunicorn(tmp_path, "files:app", PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])) as server,
        Connection(server.port) as connection,
    ):
        for request in (message("GET", "/empty"), message("HEAD", "/empty"), message("HEAD", "/files")):
            taken = []
            for _ in range(10):
                begin = time.monotonic()
                assert connection.ask(request).status == 200
                taken.append(time.monotonic() - begin)
            # Delayed by the kernel, each would take 200 ms.
            assert min(taken) < 0.15
        assert connection.ask(message("GET", "/files")).body == FILES.encode()


def test_refusals_are_counted(tmp_path: Path) -> None:
    """Requests that the server rejects are counted in the metrics like those that the service rejects."""
    refused = {
        ("414", "uri_too_long"): message("GET", f"/{'a' * 9000}"),
        ("431", "head_too_large"): message("GET", "/", X="a" * 9000),
        ("417", "expectation_failed"): message("GET", "/", Expect="more"),
        ("400", "bad_request"): b"BAD\r\n\r\n",
    }
    with gunicorn(tmp_path, WSGI_STORE_METRICS="public") as server:
        for (status, _), request in refused.items():
            with Connection(server.port) as connection:
                assert connection.ask(request).status == int(status)
        with Connection(server.port) as connection:
            figures = connection.ask(message("GET", "/metrics")).body.decode()
    for status, code in refused:
        method = "other" if status in ("400", "414") else "GET"
        labels = f'method="{method}",route="other",status="{status}"'
        assert f"wsgi_store_requests_total{{{labels}}} 1.0\n" in figures
        assert f'wsgi_store_failures_total{{code="{code}"}} 1.0\n' in figures
