"""Whether a server that is asked by TLS speaks none, or the other way round."""

import socket
import ssl

from urllib3 import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as SlowError

# Seconds for which the first handshake of a server, or an answer to a question of the other kind, is
# waited for.
HANDSHAKE = 3.0


class WrongScheme(Exception):
    """The URL of a server names the scheme that it does not speak."""


def other_scheme(pool: HTTPConnectionPool, cause: BaseException | None) -> str | None:
    """The scheme that a server speaks, where it is not that by which it could not be asked."""
    if isinstance(cause, NewConnectionError):
        return None
    if pool.scheme == "http":
        # To what is no handshake a server of TLS does not keep still.
        if isinstance(cause, SlowError):
            return None
        return "https" if _speaks_tls(pool) else None
    reason = getattr(cause.args[0], "reason", None) if isinstance(cause, SSLError) else None
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "http"
    # What a server says of a handshake shows that it knows what that is.
    return None if isinstance(cause, SSLError) and reason else ("http" if _speaks_plainly(pool) else None)


def _connect(pool: HTTPConnectionPool) -> socket.socket:
    return socket.create_connection((pool.host.strip("[]"), pool.port or 0), HANDSHAKE)


def _speaks_tls(pool: HTTPConnectionPool) -> bool:
    """Whether a handshake succeeds, with whomever: nothing is sent after it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(pool) as plain, context.wrap_socket(plain, server_hostname=pool.host):
            return True
    except (OSError, ValueError):
        return False


def _speaks_plainly(pool: HTTPConnectionPool) -> bool:
    """Whether it answers a request that is not encrypted, and holds no secret."""
    try:
        with _connect(pool) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return plain.recv(5) == b"HTTP/"
    except OSError:
        return False
