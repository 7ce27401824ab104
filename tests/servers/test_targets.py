"""Request targets in every form, on real servers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.servers import Server, gunicorn, uwsgi, waitress
from tests.support.wire import Connection, message

EVERYTHING = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@pytest.mark.parametrize("start", [gunicorn, uwsgi, waitress], ids=lambda start: start.__name__)
def test_targets(start: Callable[..., Server], tmp_path: Path) -> None:
    """Each form of target is accepted (RFC 9112 section 3.2), and a malformed authority is refused."""
    with start(tmp_path, WSGI_STORE_HOSTS="example.org") as server:
        for method, target, status in [
            ("OPTIONS", "*", 204),
            ("OPTIONS", "/", 204),
            ("OPTIONS", "/no/such/path", 204),
            ("CONNECT", "example.org:80", 405),
            ("GET", "http://example.org/healthz", 200),
            ("GET", "http://evil.example/healthz", 421),
            ("GET", "http://a@b/healthz", 400),
            ("GET", "http://a:80x/healthz", 400),
            ("GET", "http:///healthz", 400),
            ("CONNECT", "a@b:80", 400),
        ]:
            with Connection(server.port) as connection:
                answer = connection.ask(message(method, target))
            assert answer.status == status, (method, target)
            if target == "*" or status == 405:
                assert answer.fields["allow"] == EVERYTHING
            if status >= 400:
                assert json.loads(answer.body)["status"] == status
