"""Finds out whether a server speaks https although its URL says http, or the other way round."""

import socket
import ssl

from urllib3 import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as SlowError

# Seconds to wait for the first TLS handshake with a server, and for the answer to a probe.
HANDSHAKE = 3.0


class WrongScheme(Exception):
    """The server does not speak the scheme of its URL."""


def other_scheme(pool: HTTPConnectionPool, cause: BaseException | None) -> str | None:
    """Return the scheme that a server speaks, if `cause` shows that the pool uses the other one."""
    if isinstance(cause, NewConnectionError):
        return None
    if pool.scheme == "http":
        # A TLS server answers plain HTTP at once, with an alert.
        if isinstance(cause, SlowError):
            return None
        return "https" if _speaks_tls(pool) else None
    reason = getattr(cause.args[0], "reason", None) if isinstance(cause, SSLError) else None
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "http"
    # Only a server that speaks TLS names another reason.
    if isinstance(cause, SSLError) and reason:
        return None
    return "http" if _speaks_plainly(pool) else None


def _connect(pool: HTTPConnectionPool) -> socket.socket:
    return socket.create_connection((pool.host.strip("[]"), pool.port or 0), HANDSHAKE)


def _speaks_tls(pool: HTTPConnectionPool) -> bool:
    """Whether a handshake succeeds; certificates do not matter, because nothing is sent afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(pool) as plain, context.wrap_socket(plain, server_hostname=pool.host):
            return True
    except (OSError, ValueError):
        return False


def _speaks_plainly(pool: HTTPConnectionPool) -> bool:
    """Whether the server answers plain HTTP; the request holds no secret."""
    try:
        with _connect(pool) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return plain.recv(5) == b"HTTP/"
    except OSError:
        return False
