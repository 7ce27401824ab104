"""The host that a request names, and the hosts that a service accepts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wsgi_store.authority import Authority, authority_of, parse_authority
from wsgi_store.errors import BadRequest, UnknownHost
from wsgi_store.web.loopback import is_loopback, on_loopback_only

Environ = Mapping[str, Any]
# Raises UnknownHost.
HostCheck = Callable[[Environ, Authority], None]


def asked_host(environ: Environ) -> Authority | None:
    """Return the host that a request is for, None if it names none; raises BadRequest."""
    named = environ.get("HTTP_HOST")
    # A host in the request target overrides Host (RFC 9112 section 3.2.2). Only some servers pass it on.
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    instead = (target or None) if environ["REQUEST_METHOD"] == "CONNECT" else authority_of(target)
    try:
        host = parse_authority(named) if named else None
        return host if instead is None else parse_authority(instead)
    except ValueError as error:
        raise BadRequest(f"malformed host: {error}") from None


class KnownHosts:
    """The host names of a service that listens on loopback and needs no token.

    A page of any site can reach it once the site's name resolves to a loopback address (DNS rebinding): the
    browser then takes it for a page of the service, and only Host reveals the other name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower().removesuffix(".") for name in names}

    def __call__(self, environ: Environ, asked: Authority) -> None:
        host = asked.host.removesuffix(".")
        if not (is_loopback(host) or host in self._names) and _came_by_loopback(environ):
            raise UnknownHost(host=host)


def _came_by_loopback(environ: Environ) -> bool:
    # In gunicorn it is the address of the listening socket. For a Unix socket, which has none, it is the host
    # that the client named, and never a loopback address: those were accepted before.
    if "gunicorn.socket" in environ:
        return is_loopback(environ["SERVER_NAME"])
    return on_loopback_only()
