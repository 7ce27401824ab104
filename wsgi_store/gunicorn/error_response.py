"""Responses to requests that never reach the application, in the form of the application's own."""

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn.util import http_date

from wsgi_store import errors
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config
from wsgi_store.logs import Seldom
from wsgi_store.web.problems import problem


class ErrorResponder:
    """Answers, logs and counts requests that never reach the application; used by all threads."""

    def __init__(self, config: Config) -> None:
        self._log = Seldom()
        self._count: Callable[..., object] | None = None
        if config.metrics is not MetricsAccess.OFF:
            # Imported late: its library comes with an extra.
            from wsgi_store.metrics.prometheus import count  # pylint: disable=import-outside-toplevel

            self._count = count

    def respond(
        self, client: socket.socket, address: Any, error: errors.WSGIStoreError, method: str | None
    ) -> None:
        """Send `error` to the client; never waits for it."""
        identity = secrets.token_hex(8)
        origin = address[0] if address else "a Unix socket"
        self._log.warn(f"refused a request from {origin}: {error.message}", request_id=identity)
        response = problem(error, identity)
        if self._count is not None:
            self._count(method or "-", None, response.status, 0.0, error.code)
        fields = [
            *response.headers,
            ("Date", http_date()),
            ("Connection", "close"),
            ("X-Request-ID", identity),
        ]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        body = b"" if method == "HEAD" else b"".join(response.body)
        # It fits into the send buffer unless the client has left earlier answers unread.
        with suppress(OSError):
            client.settimeout(0)
            client.sendall(f"HTTP/1.1 {response.status}\r\n{head}\r\n".encode() + body)

    def look(self) -> None:
        """Log how many messages were left out; call this regularly."""
        self._log.catch_up()
