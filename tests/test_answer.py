"""The worker of gunicorn with other protocols and applications than the shipped ones."""

import struct
from pathlib import Path

from servers import gunicorn
from wire import Connection


def packet(**variables: str) -> bytes:
    """A request in uWSGI's own protocol."""
    texts = [text.encode() for pair in variables.items() for text in pair]
    block = b"".join(struct.pack("<H", len(text)) + text for text in texts)
    return struct.pack("<BHB", 0, len(block), 0) + block


def test_uwsgi_protocol(tmp_path: Path) -> None:
    """A request in uWSGI's own protocol is answered once, and ends the connection."""
    with gunicorn(tmp_path, "--protocol", "uwsgi") as server:
        request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/healthz", "QUERY_STRING": "", "HTTP_HOST": "a"}
        for option in ("keep-alive", "close"):
            with Connection(server.port) as connection:
                answer = connection.ask(packet(**request, HTTP_CONNECTION=option))
                assert (answer.status, answer.body) == (200, b'{"status": "ok"}\n')
                assert connection.at_end()
