"""Requests that pages of other sites make a browser send: cross-origin checks and CORS."""

from collections.abc import Iterable

from wsgi_store.authority import DEFAULT_PORTS, Authority, parse_origin
from wsgi_store.errors import CrossOrigin
from wsgi_store.web.hosts import Environ

# Schemes of credentials that only a script adds.
BY_SCRIPTS = frozenset({"bearer", "nostr"})
# Methods that change nothing (RFC 9110 section 9.2.1).
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Values of Sec-Fetch-Site for a page of this service, and for an address typed in or a bookmark.
OWN = frozenset({"same-origin", "none"})


# Response fields that a page may read, beside those that every page may read.
EXPOSED = (
    "Accept-Patch, Accept-Ranges, Allow, Content-Disposition, Content-Location, Content-Range, ETag, "
    "Location, Repr-Digest, Retry-After, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, "
    "Tus-Resumable, Tus-Version, Upload-Complete, Upload-Defer-Length, Upload-Draft-Interop-Version, "
    "Upload-Expires, Upload-Length, Upload-Limit, Upload-Metadata, Upload-Offset, Vary, "
    "WWW-Authenticate, X-Reason, X-Request-ID"
)
# Request fields that a page may send; `*` does not include Authorization (Fetch standard, section 3.3).
# Nor does it mean anything in requests with credentials, and older browsers do not know it.
TAKEN = (
    "Authorization, Content-Digest, Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Range, "
    "If-Unmodified-Since, Range, Repr-Digest, Tus-Resumable, Upload-Checksum, Upload-Complete, "
    "Upload-Defer-Length, Upload-Draft-Interop-Version, Upload-Length, Upload-Metadata, Upload-Offset, "
    "Want-Repr-Digest, X-HTTP-Method-Override, X-Request-ID, *"
)
# Seconds that a browser may cache a preflight response; Chromium caps it at two hours.
MAX_AGE = "7200"


class Origins:
    """The sites whose pages may use this service like its own pages."""

    def __init__(self, names: Iterable[str]) -> None:
        self._all = "*" in names
        self._known = {parse_origin(name) for name in names if name != "*"}

    def check(self, environ: Environ, asked: Authority | None) -> None:
        """Raise CrossOrigin if a page of another site makes a browser send a request that may change data."""
        site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
        if site in OWN or (site is None and (origin is None or _is_same(origin, asked))):
            return
        # `*` does not cover credentials that a browser adds by itself: a password or a cookie.
        everyone = self._all and not _is_ambient(environ)
        if origin is None or not (everyone or self._knows(origin)):
            raise CrossOrigin(origin=origin)

    def admit(self, environ: Environ, headers: list[tuple[str, str]], methods: Iterable[str]) -> None:
        """Add the CORS fields that let a browser show the response to the page that sent the request."""
        origin = environ.get("HTTP_ORIGIN")
        # Also if the request has no Origin: a cache may give the response to a page.
        if self._all:
            origin = "*"
        else:
            _vary_by_origin(headers)
            if origin is None or not self._knows(origin):
                return
        headers.append(("Access-Control-Allow-Origin", origin))
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            headers.append(("Access-Control-Expose-Headers", EXPOSED))
            return
        headers += [
            ("Access-Control-Allow-Methods", ", ".join(sorted(methods))),
            ("Access-Control-Allow-Headers", TAKEN),
            ("Access-Control-Max-Age", MAX_AGE),
        ]
        # A page on the public network asks for a private one; naming its site permits that.
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
    """Whether a request has credentials that a browser may have added by itself."""
    scheme = environ.get("HTTP_AUTHORIZATION", "bearer").strip().partition(" ")[0].lower()
    return "HTTP_COOKIE" in environ or scheme not in BY_SCRIPTS


def _is_same(origin: str, asked: Authority | None) -> bool:
    """Whether an origin has the host and port of the request; behind a TLS proxy the scheme is unknown."""
    try:
        scheme, host, port = parse_origin(origin)
    except ValueError:
        return False
    if asked is None or scheme not in DEFAULT_PORTS:
        return False
    return asked.host == host and port == (DEFAULT_PORTS[scheme] if asked.port is None else asked.port)
