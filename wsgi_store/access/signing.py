"""Signed links and upload tickets."""

import hashlib
import math
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wsgi_store.access.grant import Grant
from wsgi_store.access.tickets import REMEMBERED, Tickets
from wsgi_store.errors import Denied

if TYPE_CHECKING:
    from itsdangerous import URLSafeSerializer


# Keeps a signature made for one purpose from being taken for another.
LINK_SALT = "wsgi_store.link"
TICKET_SALT = "wsgi_store.ticket"


class Signer:
    """Makes and reads download links and upload tickets.

    The last of `keys` signs, all of them are accepted: a new one is appended, and an old one
    removed once nothing signed by it is needed any more.
    """

    def __init__(self, keys: list[str]) -> None:
        # Imported where there are keys: most services sign nothing.
        from itsdangerous import URLSafeSerializer  # pylint: disable=import-outside-toplevel

        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._links = URLSafeSerializer(keys, salt=LINK_SALT, signer_kwargs=options)
        self._tickets = URLSafeSerializer(keys, salt=TICKET_SALT, signer_kwargs=options)

    def link(self, hash_: str, expires: float, filename: str | None = None) -> str:
        """The value of `link` in the URL of a blob, good until `expires` (seconds since the epoch)."""
        return str(self._links.dumps([hash_.lower(), _finite(expires), filename]))

    def ticket(self, expires: float, max_size: int | None = None, hash_: str | None = None) -> str:
        """The value of `ticket` in the URL of one upload, of `max_size` bytes at most."""
        return str(self._tickets.dumps([secrets.token_hex(16), _finite(expires), max_size, hash_]))

    def read_link(self, text: str) -> Grant:
        """Raises Denied when the link is not genuine or no longer good."""
        hash_, expires, filename = self._load(self._links, text)
        _check_expiry(expires)
        return Grant(frozenset({"read"}), name="link", hash=hash_, filename=filename)

    def read_ticket(self, text: str, used: Tickets) -> Grant:
        """Raises Denied when the ticket is not genuine or no longer good; `used` are those that were."""
        identity, expires, max_size, hash_ = self._load(self._tickets, text)
        _check_expiry(expires)

        def spend() -> Callable[[], None]:
            _check_expiry(expires + REMEMBERED)
            return used.spend(math.ceil(expires), identity)

        return Grant(frozenset({"write"}), name="ticket", hash=hash_, max_size=max_size, spend=spend)

    @staticmethod
    def _load(serializer: "URLSafeSerializer", text: str) -> Any:
        from itsdangerous import BadData  # pylint: disable=import-outside-toplevel

        try:
            return serializer.loads(text)
        except BadData:
            raise Denied("this link is not genuine") from None


def _finite(expires: float) -> float:
    if not math.isfinite(expires):
        raise ValueError("expires: expected seconds since the epoch")
    return expires


def _check_expiry(expires: float) -> None:
    if time.time() >= expires:
        raise Denied("this link has expired")
