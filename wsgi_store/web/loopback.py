"""Whether the server that this process is part of listens on this machine's own addresses only."""

import os
import socket
import stat
import sys
from contextlib import suppress
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Any


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether a name or address, IPv6 perhaps in brackets, is this machine for itself (RFC 6761)."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    # `::ffff:127.0.0.1`, which Python does not look into before 3.13.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@cache
def on_loopback_only() -> bool:
    """Whether all TCP sockets on which this process listens have loopback addresses; asked once.

    True where that cannot be found out, False where there are none.
    """
    hosts = _routers()
    if not hosts:
        try:
            hosts = [name[0] for name in _listeners() if isinstance(name, tuple)]
        except OSError:
            return True
    return bool(hosts) and all(map(is_loopback, hosts))


def _routers() -> list[str]:
    """The hosts on which routers of uWSGI listen, which are processes of their own."""
    uwsgi: Any = sys.modules.get("uwsgi")
    hosts = []
    for option in ("http", "https", "https2"):
        value = uwsgi.opt.get(option, []) if uwsgi else []
        for text in value if isinstance(value, list) else [value]:
            address = os.fsdecode(text).partition(",")[0]
            hosts.append(address.rpartition(":")[0])
    return hosts


def _listeners() -> list[Any]:
    """The addresses of the sockets on which this process listens."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.append(sock.getsockname())
    return found
