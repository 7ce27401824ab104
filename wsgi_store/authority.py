"""Hosts and origins as requests name them (RFC 9110 section 7.2, RFC 6454)."""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

# RFC 3986 section 3.2.2 without the comma, because servers join two Host fields with one.
_NAME = r"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+"
_IPV6 = r"\[(?P<ipv6>[0-9A-Fa-f:.]+)\]"
_LATER = r"\[[Vv][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\]"
_AUTHORITY = re.compile(rf"(?P<host>{_NAME}|{_IPV6}|{_LATER})(?::(?P<port>0*[0-9]{{0,5}}))?")
_ORIGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)")
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65535
# A DNS name has at most 253 characters; a longer text would only fill the cache.
MAX_LENGTH = 512


class Authority(NamedTuple):
    """A host in lower case, an IPv6 address in brackets, and the port if there is one."""

    host: str
    port: int | None


class Origin(NamedTuple):
    """The origin of a page, with the default port of its scheme if it names none."""

    scheme: str
    host: str
    port: int | None


@lru_cache(256)
def parse_authority(text: str) -> Authority:
    """Read a host with an optional port, as in a Host field; raises ValueError."""
    match = _AUTHORITY.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise ValueError("expected a host name or address, and perhaps a port")
    if match["ipv6"]:
        _check_ipv6(match["ipv6"])
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > MAX_PORT:
        raise ValueError(f"the port is above {MAX_PORT}")
    return Authority(match["host"].lower(), port)


def _check_ipv6(text: str) -> None:
    try:
        IPv6Address(text)
    except ValueError:
        raise ValueError("expected an IPv6 address in the brackets") from None


def parse_host(text: str) -> str:
    """Read a host without a port; raises ValueError."""
    host, port = parse_authority(text)
    if port is not None or text.endswith(":") or "*" in host:
        raise ValueError("expected a host without a port, in ASCII")
    return host


@lru_cache(256)
def parse_origin(text: str) -> Origin:
    """Read the value of an Origin field; raises ValueError, also for `null`."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        raise ValueError("expected an origin such as https://app.example.org")
    scheme = match["scheme"].lower()
    host, port = parse_authority(match["authority"])
    if "*" in host:
        raise ValueError("no part of an origin is left open")
    return Origin(scheme, host, DEFAULT_PORTS.get(scheme) if port is None else port)


def authority_of(target: str) -> str | None:
    """Return the authority of a request target in absolute form (RFC 9112 section 3.2.2), else None."""
    if target.startswith("/"):
        return None
    match = _ORIGIN.match(target)
    return match["authority"] if match else None
