"""Where a server may send a download: to no network that is nearer to this machine than its own."""

import enum
import socket
import ssl
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Url, parse_url

from wsgi_store.client.address import RAW, proxy_to
from wsgi_store.errors import ConfigError


class Network(enum.Enum):
    """What kind of network an address belongs to."""

    PUBLIC = "public"
    PRIVATE = "private"
    LINK = "link-local"  # where clouds tell a machine its secrets
    LOOPBACK = "loopback"


# Where a server may send a client, by where it is itself.
ADMITTED = {
    Network.PUBLIC: {Network.PUBLIC},
    Network.PRIVATE: {Network.PUBLIC, Network.PRIVATE},
    Network.LINK: {Network.PUBLIC, Network.PRIVATE, Network.LINK},
    Network.LOOPBACK: {Network.PUBLIC, Network.PRIVATE, Network.LOOPBACK},
}
# Addresses of IPv6 that lead to one of IPv4, in their last bits: NAT64, and what came before it.
EMBEDDING = [IPv6Network("64:ff9b::/96"), IPv6Network("::/96")]


def network(text: str) -> Network | None:
    """What an address belongs to; None for one that nobody alone has."""
    address = _embedded(ip_address(text.partition("%")[0]))
    if address.is_multicast or address == IPv4Address("255.255.255.255"):
        return None
    # To connect to no address is to connect to this machine.
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
    """Ask once where a server redirects to, without credentials; None where no file is sent there.

    The server was asked by `scheme` at the address `peer`, None for one behind a proxy, which is
    treated as a public one. Through a proxy nothing is followed: it looks names up itself.
    """
    try:
        place = parse_url(location)
        # Who asked by TLS gets no answer that others can read.
        if place.scheme not in ("https", scheme) or not place.host or proxy_to(place) is not None:
            return None
        found = _addresses(place)
    except (HTTPError, ConfigError, OSError, UnicodeError):
        return None
    near = network(peer) if peer else Network.PUBLIC
    for address in found:
        # The address is looked at and connected to: the name may have another one a moment later.
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
