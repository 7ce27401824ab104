"""Connections to a server, direct or through the proxy that the environment names."""

import ssl
from typing import Any
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError, ProtocolError
from urllib3.exceptions import TimeoutError as SlowError
from urllib3.util import Url, parse_url
from urllib3.util.wait import wait_for_read

from wsgi_store.client.address import NOT_LATIN
from wsgi_store.errors import ConfigError

# Options of a request whose answer is read in pieces. The host may be that of a proxy.
RAW: Any = {
    "redirect": False,
    "assert_same_host": False,
    "preload_content": False,
    "decode_content": False,
}
# Bytes of a body that are sent together with the head: to copy more would only take time and memory.
FIRST = 64 << 10


class _SecureConnection(HTTPSConnection):
    """A TLS connection that remembers the address of its server."""

    peer = ""

    def connect(self) -> None:
        """Open the connection."""
        super().connect()  # pylint: disable=no-member  # not a class where Python lacks TLS
        if self.proxy is None:
            self.peer = self.sock.getpeername()[0]


class _Connection(HTTPConnection):
    """A connection that sends few segments, and stops sending a body once the server has answered."""

    peer = ""
    _cut = False
    _head: bytes | None = None

    def connect(self) -> None:
        """Open the connection."""
        super().connect()
        if self.proxy is None:
            self.peer = self.sock.getpeername()[0]
        self._cut = False

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request."""
        self._head = b""
        super().request(*args, **options)
        if self._head:
            super().send(self._head)
        self._head = None

    def send(self, data: Any) -> None:
        """Send a part of a request; on BrokenPipeError urllib3 stops sending and reads the answer."""
        if self._head == b"":
            # The head waits for the first bytes of the body, because each segment wakes the server.
            self._head = data
            return
        if self._head:
            head, self._head = self._head, None
            super().send(head + data[:FIRST])
            if len(data) <= FIRST:
                return
            data = memoryview(data)[FIRST:]
        elif self.sock is not None and wait_for_read(self.sock, 0):
            # A server that answers before the end of the request refuses it.
            self._cut = True
            raise BrokenPipeError
        super().send(data)

    @property
    def is_connected(self) -> bool:
        """Whether the connection can carry another request: not after half a body."""
        return super().is_connected and not self._cut


def pool_to(place: Url, **options: Any) -> tuple[HTTPConnectionPool, dict[str, str] | None]:
    """Return a pool of connections to a server; `options` are those of urllib3's pools.

    The second value is for a proxy that must be asked for whole URLs (RFC 9112 section 3.2.2): the
    header fields for the proxy. It is None without a proxy, and for a tunnel through one. Raises
    ConfigError.
    """
    if place.scheme == "https":
        # Without a shared context urllib3 loads the certificates for every connection.
        options["ssl_context"] = ssl.create_default_context()
    host = place.host or ""
    proxy = proxy_to(place)
    fields = None
    if proxy is not None:
        try:
            told = make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy.auth else {}
        except UnicodeEncodeError:
            raise ConfigError(f"{place.scheme}_proxy: {NOT_LATIN}") from None
        pool = ProxyManager(proxy.url, proxy_headers=told, **options).connection_from_host(
            host, place.port, place.scheme
        )
        fields = told if place.scheme == "http" else None
    elif place.scheme == "https":
        pool = HTTPSConnectionPool(host, place.port, **options)
    else:
        pool = HTTPConnectionPool(host, place.port, **options)
    pool.ConnectionCls = _Connection if pool.scheme == "http" else _SecureConnection
    return pool, fields


def proxy_to(place: Url) -> Url | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for a server; raises ConfigError."""
    named = getproxies().get(place.scheme or "")
    if not named or proxy_bypass(place.netloc or ""):
        return None
    try:
        # Like curl, accept a name without a scheme.
        proxy = parse_url(named if "://" in named else f"http://{named}")
    except LocationParseError:
        proxy = Url()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise ConfigError(f"{place.scheme}_proxy: expected http://host:port")
    return proxy


def reason(error: HTTPError) -> str:
    """Describe a failure of urllib3 for people."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, SlowError):
        return "no answer in time"
    return str(error.args[0] if isinstance(error, ProtocolError) else error)
