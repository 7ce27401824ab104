"""What pages of other sites may have a browser do here: whom a request is meant for, and who sends it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wsgi_store.authority import DEFAULT_PORTS, Authority, authority_of, parse_authority, parse_origin
from wsgi_store.errors import BadRequest, CrossOrigin, UnknownHost
from wsgi_store.web.loopback import is_loopback, on_loopback_only

Environ = Mapping[str, Any]
# Raises UnknownHost.
HostCheck = Callable[[Environ, Authority], None]

# What asks and changes nothing (RFC 9110 section 9.2.1).
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# A page of this service, or nobody's page: an address typed in, a bookmark (Fetch Metadata).
OWN = frozenset({"same-origin", "none"})


def asked_host(environ: Environ) -> Authority | None:
    """The host a request is meant for, None where it names none; raises BadRequest."""
    named = environ.get("HTTP_HOST")
    # Only some servers tell it. Where it names a host, Host does not count (RFC 9112 section 3.2.2).
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    instead = (target or None) if environ["REQUEST_METHOD"] == "CONNECT" else authority_of(target)
    try:
        host = parse_authority(named) if named else None
        return host if instead is None else parse_authority(instead)
    except ValueError as error:
        raise BadRequest(f"malformed host: {error}") from None


# What a page may read of an answer beside the fields that every page may.
EXPOSED = (
    "Accept-Ranges, Allow, Content-Disposition, Content-Range, ETag, Location, Repr-Digest, Retry-After, "
    "Vary, WWW-Authenticate, X-Request-ID"
)
# `*` stands for all others but Authorization (Fetch standard, section 3.3).
TAKEN = (
    "Authorization, Content-Digest, Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Range, "
    "If-Unmodified-Since, Range, Repr-Digest, X-Request-ID, *"
)
# Seconds that a browser may keep the answer: more than these, two hours, Chromium does not.
MAX_AGE = "7200"


class KnownHosts:
    """The host names of a service that only this machine reaches and that asks for no tokens.

    A page of any site reaches it once the name of that site is resolved to a loopback address (DNS
    rebinding): to the browser it is then a page of the service, and only Host tells otherwise.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower().removesuffix(".") for name in names}

    def __call__(self, environ: Environ, asked: Authority) -> None:
        host = asked.host.removesuffix(".")
        if not (is_loopback(host) or host in self._names) and _came_by_loopback(environ):
            raise UnknownHost(host=host)


def _came_by_loopback(environ: Environ) -> bool:
    # gunicorn names the listening socket's own address. Unix sockets have none: there it is what the
    # client has called the host, and no loopback address, for those are known.
    if "gunicorn.socket" in environ:
        return is_loopback(environ["SERVER_NAME"])
    return on_loopback_only()


class Origins:
    """The sites whose pages may use this service as its own may."""

    def __init__(self, names: Iterable[str]) -> None:
        self._all = "*" in names
        self._known = {parse_origin(name) for name in names if name != "*"}

    def check(self, environ: Environ, asked: Authority | None) -> None:
        """Raise CrossOrigin where a page of another site has the browser send what may change something."""
        site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
        if site in OWN or (site is None and (origin is None or _is_same(origin, asked))):
            return
        # Whoever says `*` trusts no site with what a browser adds by itself: a password, a cookie.
        everyone = self._all and not _is_ambient(environ)
        if origin is None or not (everyone or self._knows(origin)):
            raise CrossOrigin(origin=origin)

    def admit(self, environ: Environ, headers: list[tuple[str, str]], methods: Iterable[str]) -> None:
        """Let the browser show an answer to the page that asked, if it may see it (CORS)."""
        origin = environ.get("HTTP_ORIGIN")
        if not self._all:
            # Also of the answer to a request without: a cache must not give it to a page.
            _vary_by_origin(headers)
        if origin is None or not (self._all or self._knows(origin)):
            return
        headers.append(("Access-Control-Allow-Origin", "*" if self._all else origin))
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            headers.append(("Access-Control-Expose-Headers", EXPOSED))
            return
        headers += [
            ("Access-Control-Allow-Methods", ", ".join(sorted(methods))),
            ("Access-Control-Allow-Headers", TAKEN),
            ("Access-Control-Max-Age", MAX_AGE),
        ]
        # From the public network to a private one: whoever named the site has it so.
        if environ.get("HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK") == "true":
            headers.append(("Access-Control-Allow-Private-Network", "true"))

    def _knows(self, origin: str) -> bool:
        try:
            return parse_origin(origin) in self._known
        except ValueError:  # `null`, among others
            return False


def _vary_by_origin(headers: list[tuple[str, str]]) -> None:
    for place, (name, value) in enumerate(headers):
        if name == "Vary":
            headers[place] = name, f"{value}, Origin"
            return
    headers.append(("Vary", "Origin"))


def _is_ambient(environ: Environ) -> bool:
    """Whether a request has credentials that a browser may have added unasked."""
    field = environ.get("HTTP_AUTHORIZATION", "bearer")
    return "HTTP_COOKIE" in environ or not field.strip().lower().startswith("bearer")


def _is_same(origin: str, asked: Authority | None) -> bool:
    """Whether a page is of the host and port asked for: behind TLS proxies nobody knows the scheme."""
    try:
        scheme, host, port = parse_origin(origin)
    except ValueError:
        return False
    if asked is None or scheme not in DEFAULT_PORTS:
        return False
    return asked.host == host and port == (DEFAULT_PORTS[scheme] if asked.port is None else asked.port)
