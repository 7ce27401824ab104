"""gunicorn's parser and ours read the uploads that h11 reads, and no others."""

import hashlib
import socket

from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.any_requests import CHANGE, REQUEST, RIGHT, changed, uploads
from tests.support.wire import message
from wsgi_store.config import Config as ServiceConfig
from wsgi_store.gunicorn.parse_errors import Rejected
from wsgi_store.gunicorn.request import Request
from wsgi_store.gunicorn.settings import Settings

SETTINGS = Settings(Config(), ServiceConfig())
EMPTY_LINE = (0.0, 0, b"\r\n")


def read(data: bytes) -> list[str]:
    """The hashes of the complete uploads that come before the first fault."""
    found = []
    client, server = socket.socketpair()
    with client, server:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        parser = RequestParser(SETTINGS, server, ("127.0.0.1", 1))
        parser.mesg_class = Request
        try:
            for request in parser:
                body = request.body.read()
                if not request.body.is_whole():
                    break
                if request.method in ("POST", "PUT"):
                    found.append(hashlib.sha256(body).hexdigest())
        except (Rejected, ParseException, OSError):
            pass
    return found


def check(data: bytes) -> None:
    """Whatever is read before the first fault is what h11 reads."""
    found = read(data)
    assert found == uploads(data)[: len(found)]


@given(st.lists(REQUEST, min_size=1, max_size=3).map(b"".join))
def test_any_request(data: bytes) -> None:
    """No upload is read that h11 does not read."""
    check(data)


@given(st.lists(RIGHT, min_size=1, max_size=3).map(b"".join), st.lists(CHANGE, max_size=3))
@example(message("POST", "/", b"after an empty line"), [EMPTY_LINE])
@example(message("POST", "/", b"after two empty lines"), [EMPTY_LINE, EMPTY_LINE])
def test_changed_uploads(right: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    """Valid uploads are read; changed ones only if h11 reads them, too."""
    data = changed(right, changes)
    check(data)
    if not changes:
        assert read(data) == uploads(data) != []


def test_an_empty_line() -> None:
    """One empty line before a request is ignored (RFC 9112 section 2.2)."""
    request = message("POST", "/", b"whole")
    assert len(read(b"\r\n" + request + b"\r\n" + request)) == 2
    assert not read(b"\r\n\r\n" + request)
