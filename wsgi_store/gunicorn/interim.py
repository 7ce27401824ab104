"""Interim responses: what a client is told while its request is still arriving (RFC 9110 section 15.2)."""

import socket
from contextlib import suppress
from typing import Any

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Of the IETF's draft (draft-ietf-httpbis-resumable-upload).
RESUMPTION = "HTTP/1.1 104 Upload Resumption Supported\r\n"


def send_resumption(sock: socket.socket, fields: list[tuple[str, str]]) -> None:
    """Send 104 Upload Resumption Supported, if there are any fields."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    if lines:
        # A client that is gone is noticed when its body is read.
        with suppress(OSError):
            sock.sendall(f"{RESUMPTION}{lines}\r\n".encode("latin-1"))


class Continue:
    """A body reader that sends 100 Continue when the application first reads the body.

    gunicorn sends it before it calls the application, which may reject the request without reading the
    body (RFC 9110 section 10.1.1). The client may then send the body or not, so the connection must end.
    """

    def __init__(self, request: Any, sock: socket.socket) -> None:
        self._request = request
        self._reader = request.body.reader
        self._must_close = request.must_close
        self._sock = sock
        request.must_close = True

    def ask(self) -> None:
        """Ask for the body, and leave the rest to the reader that this one stands for."""
        self._request.body.reader = self._reader
        self._request.must_close = self._must_close
        self._sock.sendall(CONTINUE)

    def read(self, size: int) -> bytes:
        """Ask for the body and read up to `size` bytes; called once."""
        self.ask()
        data: bytes = self._reader.read(size)
        return data
