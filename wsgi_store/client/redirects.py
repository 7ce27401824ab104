"""Redirected downloads; a server cannot redirect a client to a network more private than its own."""

import enum
import socket
import ssl
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Url, parse_url

from wsgi_store.client.connection import RAW, proxy_to
from wsgi_store.errors import ConfigError


class Network(enum.Enum):
    """A kind of network, from public to private."""

    PUBLIC = "public"
    PRIVATE = "private"
    LINK = "link-local"  # here cloud machines get their secrets
    LOOPBACK = "loopback"


# For the network that a server is in, the networks that it may redirect to.
ADMITTED = {
    Network.PUBLIC: {Network.PUBLIC},
    Network.PRIVATE: {Network.PUBLIC, Network.PRIVATE},
    Network.LINK: {Network.PUBLIC, Network.PRIVATE, Network.LINK},
    Network.LOOPBACK: {Network.PUBLIC, Network.PRIVATE, Network.LOOPBACK},
}
# IPv6 addresses whose last 32 bits are an IPv4 address: NAT64 (RFC 6052), and the older IPv4-compatible ones.
EMBEDDING = [IPv6Network("64:ff9b::/96"), IPv6Network("::/96")]


def network(text: str) -> Network | None:
    """Return the network of an address; None for multicast and broadcast."""
    address = _embedded(ip_address(text.partition("%")[0]))
    if address.is_multicast or address == IPv4Address("255.255.255.255"):
        return None
    # Linux connects 0.0.0.0 and :: to this machine.
    if address.is_loopback or address.is_unspecified:
        return Network.LOOPBACK
    if address.is_link_local:
        return Network.LINK
    is_site = isinstance(address, IPv6Address) and address.is_site_local
    return Network.PUBLIC if address.is_global and not is_site else Network.PRIVATE


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return address
    if any(address in block for block in EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def follow(
    location: str, scheme: str, peer: str | None, agent: str, options: dict[str, Any]
) -> BaseHTTPResponse | None:
    """Follow a redirection once, without credentials; return None if it leads to no file.

    `scheme` and `peer` are those of the server that redirects; a server without a known address,
    behind a proxy, counts as public. Through a proxy nothing is followed, because the proxy
    resolves names itself.
    """
    try:
        place = parse_url(location)
        # A client that asked by TLS expects an encrypted answer.
        if place.scheme not in ("https", scheme) or not place.host or proxy_to(place) is not None:
            return None
        found = _addresses(place)
    except (HTTPError, ConfigError, OSError, UnicodeError):
        return None
    near = network(peer) if peer else Network.PUBLIC
    for address in found:
        # Connect to the address that was checked: a second lookup of the name may return another one.
        if network(address) in ADMITTED.get(near or Network.PUBLIC, ()):
            answer = _ask(place, address, agent, options)
            if answer is not None:
                return answer
    return None


def _addresses(place: Url) -> list[str]:
    port = place.port or {"http": 80, "https": 443}[place.scheme or ""]
    host = (place.host or "").strip("[]")
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _ask(place: Url, address: str, agent: str, options: dict[str, Any]) -> BaseHTTPResponse | None:
    pool: HTTPConnectionPool
    if place.scheme == "https":
        options = {**options, "ssl_context": ssl.create_default_context()}
        pool = HTTPSConnectionPool(
            address, place.port, server_hostname=(place.host or "").strip("[]"), **options
        )
    else:
        pool = HTTPConnectionPool(address, place.port, **options)
    fields = {"User-Agent": agent, "Host": place.netloc or ""}
    try:
        answer = pool.urlopen("GET", place.request_uri, headers=fields, **RAW)
    except HTTPError:
        return None
    if answer.status == 200 and answer.length_remaining is not None:
        return answer
    answer.close()
    return None
