"""What gunicorn refuses by itself, answered as the application answers."""

import secrets
import socket
import sys
from contextlib import suppress
from typing import Any

from gunicorn.http import errors as parsing
from gunicorn.util import http_date
from gunicorn.workers import gthread

from wsgi_store import errors
from wsgi_store.gunicorn.request import refusal_of
from wsgi_store.logs import Seldom
from wsgi_store.web.problems import problem

# These, though parsing errors too, the application brought about.
OWN_FAULTS = (parsing.InvalidResponseHeader, parsing.InvalidResponseHeaderName)


class Refusing(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's thread worker as far as it refuses requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refused = Seldom()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what cannot be parsed as the application answers; nothing of it is logged."""
        if not isinstance(exc, parsing.ParseException) or isinstance(exc, OWN_FAULTS):
            super().handle_error(req, client, addr, exc)
        else:
            self.refuse(client, addr, refusal_of(exc), req.method if req else getattr(exc, "method", None))

    def refuse(
        self, client: socket.socket, addr: Any, refusal: errors.WSGIStoreError, method: str | None
    ) -> None:
        """Answer a request that does not get to the application, and log it unless there are many."""
        identity = secrets.token_hex(8)
        origin = addr[0] if addr else "a Unix socket"
        self.refused.warn(f"refused a request from {origin}: {refusal.message}", request_id=identity)
        response = problem(refusal, identity)
        # It is loaded where something is counted.
        if metrics := sys.modules.get("wsgi_store.metrics.prometheus"):
            metrics.count(method or "-", None, response.status, 0.0, refusal.code)
        fields = [
            *response.headers,
            ("Date", http_date()),
            ("Connection", "close"),
            ("X-Request-ID", identity),
        ]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        body = b"" if method == "HEAD" else b"".join(response.body)
        # It fits into a socket, unless this client did not read what it was sent before.
        with suppress(OSError):
            client.settimeout(0)
            client.sendall(f"HTTP/1.1 {response.status}\r\n{head}\r\n".encode() + body)
