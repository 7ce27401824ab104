"""Where a server is, which way leads there, and who asks: its URL, the environment, ~/.netrc."""

import netrc
import os
import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager, make_headers
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from wsgi_store.errors import ConfigError

# An answer as it comes, to be read in pieces; the host may be a proxy's.
RAW: Any = {
    "redirect": False,
    "assert_same_host": False,
    "preload_content": False,
    "decode_content": False,
}
NO_LATIN = "user name and password: expected characters of latin-1"


def parse(url: str) -> Url:
    """The parts of a server's URL; raises ConfigError, without the URL: a password may be in it."""
    try:
        place = parse_url(url)
    except LocationParseError:
        place = Url()
    if not re.match("https?://", url) or not place.host or place.query or place.fragment:
        raise ConfigError("the URL of the server: expected http://host:port/prefix, or https://")
    return place


def base(place: Url) -> str:
    """A server's URL without credentials and final slash."""
    return Url(place.scheme, host=place.host, port=place.port, path=place.path).url.rstrip("/")


def connect(place: Url, **options: Any) -> tuple[HTTPConnectionPool, dict[str, str] | None]:
    """A pool of connections to a server, of the options of urllib3.

    With it, for a proxy that is to be asked for whole URLs (RFC 9112 section 3.2.2), the fields
    that it is told; None where there is none or only a tunnel goes through it. Raises ConfigError.
    """
    if place.scheme == "https":
        # With a context of its own urllib3 would load the certificates for every connection.
        options["ssl_context"] = ssl.create_default_context()
    host = place.host or ""
    proxy = proxy_to(place)
    if proxy is not None:
        told = {}
        if proxy.auth:
            try:
                told = make_headers(proxy_basic_auth=unquote(proxy.auth))
            except UnicodeEncodeError:
                raise ConfigError(f"{place.scheme}_proxy: {NO_LATIN}") from None
        pool = ProxyManager(proxy.url, proxy_headers=told, **options).connection_from_host(
            host, place.port, place.scheme
        )
        return pool, told if place.scheme == "http" else None
    if place.scheme == "https":
        return HTTPSConnectionPool(host, place.port, **options), None
    return HTTPConnectionPool(host, place.port, **options), None


def proxy_to(place: Url) -> Url | None:
    """The proxy that the environment names for a server (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), if any."""
    named = getproxies().get(place.scheme or "")
    if not named or proxy_bypass(place.netloc or ""):
        return None
    try:
        # curl takes a name without a scheme as well.
        proxy = parse_url(named if "://" in named else f"http://{named}")
    except LocationParseError:
        proxy = Url()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise ConfigError(f"{place.scheme}_proxy: expected http://host:port")
    return proxy


def credentials(place: Url, token: str | None) -> dict[str, str]:
    """The field that says who sends: a token, else who the URL names, else who ~/.netrc does."""
    if token is not None:
        if not re.fullmatch("[!-~]+", token):
            raise ConfigError("the token: expected printable ASCII characters without spaces")
        return {"Authorization": f"Bearer {token}"}
    pair = unquote(place.auth) if place.auth else _netrc(place.host or "")
    try:
        return make_headers(basic_auth=pair) if pair else {}
    except UnicodeEncodeError:
        raise ConfigError(NO_LATIN) from None


def _netrc(host: str) -> str | None:
    named = os.environ.get("NETRC")
    try:
        path = Path(named or "~/.netrc").expanduser()
    except RuntimeError:  # there is no home directory
        if named:
            raise ConfigError(f"cannot read {named}: there is no home directory") from None
        return None
    try:
        found = netrc.netrc(path).authenticators(host.strip("[]"))
    except FileNotFoundError:
        return None
    except netrc.NetrcParseError as error:
        # Its message may show a password.
        refusal = f"{path}, line {error.lineno}: not understood"
    except (OSError, UnicodeDecodeError) as error:
        if not named and isinstance(error, OSError):
            return None  # one that nobody asked for, where somebody else's home is the home
        refusal = f"cannot read {path}: {getattr(error, 'strerror', 'no text')}"
    else:
        return f"{found[0]}:{found[2]}" if found else None
    raise ConfigError(refusal)
