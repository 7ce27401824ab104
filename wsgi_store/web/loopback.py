"""Whether the server listens on loopback addresses only."""

import os
import socket
import stat
from contextlib import suppress
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Any

from wsgi_store.web.uwsgi import router_hosts


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether a host name (RFC 6761) or an address, with or without brackets, means this machine."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    # Before 3.13 Python does not recognise `::ffff:127.0.0.1`.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@cache
def on_loopback_only() -> bool:
    """Whether every TCP socket on which this process listens has a loopback address.

    True if the sockets cannot be listed, False if there are none.
    """
    hosts = router_hosts()
    if not hosts:
        try:
            hosts = [name[0] for name in _listeners() if isinstance(name, tuple)]
        except OSError:
            return True
    return bool(hosts) and all(map(is_loopback, hosts))


def _listeners() -> list[Any]:
    """The addresses on which this process listens."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.append(sock.getsockname())
    return found
