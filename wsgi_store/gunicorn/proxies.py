"""Trusted proxies, and the address of the client behind them."""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from gunicorn.http import message

# An address in X-Forwarded-For, to which some proxies add the port.
FORWARDED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+)")


class TrustedProxies:
    """The proxies that may say on whose behalf they ask: gunicorn's `forwarded_allow_ips`."""

    def __init__(self, settings: Any) -> None:
        self._allowed = settings.forwarded_allow_ips
        self._networks = settings.forwarded_allow_networks()
        # gunicorn parses the address again for each request, which takes as long as reading its head.
        self._is_allowed = lru_cache(1024)(self._look_up)

    def _look_up(self, address: str) -> bool:
        # pylint: disable-next=protected-access
        return bool(message._ip_in_allow_list(address, self._allowed, self._networks))

    def include(self, address: str) -> bool:
        """Whether a peer with this address is trusted; an empty one is that of a Unix socket."""
        return not address or self._is_allowed(address)

    def client_address(self, environ: dict[str, Any]) -> str:
        """Return the address of the client: the last hop that is not a trusted proxy."""
        address = str(environ.get("REMOTE_ADDR", ""))
        # From the last hop to the first: clients can forge everything before the first trusted proxy.
        for hop in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            if not self.include(address) or (match := FORWARDED.fullmatch(hop.strip())) is None:
                break
            try:
                address = str(ip_address(match[1] or match[2] or match[3]))
            except ValueError:
                break
            if "*" in self._allowed:
                break  # the number of proxies is unknown: only the nearest one is believed
        return address
