"""Signed download links and upload tickets."""

import hashlib
import math
import secrets
import time
from typing import TYPE_CHECKING, Any

from wsgi_store.access.grant import Grant
from wsgi_store.access.tickets import Ticket, UsedTickets
from wsgi_store.errors import Denied

if TYPE_CHECKING:
    from itsdangerous import URLSafeSerializer


# A signature made for one purpose is invalid for another.
LINK_SALT = "wsgi_store.link"
TICKET_SALT = "wsgi_store.ticket"


class Signer:
    """Signs and reads download links and upload tickets.

    The last of `keys` signs, and all of them are accepted: append a new key, and remove an old one once
    everything signed by it has expired.
    """

    def __init__(self, keys: list[str]) -> None:
        # Imported only where there are keys: most servers sign nothing.
        from itsdangerous import URLSafeSerializer  # pylint: disable=import-outside-toplevel

        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._links = URLSafeSerializer(keys, salt=LINK_SALT, signer_kwargs=options)
        self._tickets = URLSafeSerializer(keys, salt=TICKET_SALT, signer_kwargs=options)

    def link(self, hash_: str, expires: float, filename: str | None = None) -> str:
        """Return the parameter `link` for the URL of a blob.

        It is valid until `expires` (seconds since the epoch), and with `filename` for that name only.
        Raises ValueError if `expires` is not finite.
        """
        return str(self._links.dumps([hash_.lower(), _finite(expires), filename]))

    def ticket(self, expires: float, max_size: int | None = None, hash_: str | None = None) -> str:
        """Return the parameter `ticket` for the URL of one upload.

        The upload must begin before `expires` (seconds since the epoch). It may have `max_size` bytes at
        most, and must have the hash `hash_`. Raises ValueError if `expires` is not finite.
        """
        return str(self._tickets.dumps([secrets.token_hex(16), _finite(expires), max_size, hash_]))

    def read_link(self, text: str) -> Grant:
        """Return the grant of a link; raises Denied if it is forged or expired."""
        hash_, expires, filename = self._load(self._links, text)
        _check_expiry(expires, "link")
        return Grant(frozenset({"read"}), name="link", hash=hash_, filename=filename)

    def read_ticket(self, text: str, used: UsedTickets) -> Grant:
        """Return the grant of a ticket, which notes its use in `used`; raises Denied if it is forged.

        After it expires, the grant lets no upload begin; raises Denied if none may end either.
        """
        identity, expires, max_size, hash_ = self._load(self._tickets, text)
        ticket = Ticket(used, identity, math.ceil(expires))
        _check_expiry(ticket.end_by, "ticket")
        return Grant(
            frozenset({"write"}),
            name="ticket",
            hash=hash_,
            max_size=max_size,
            identity=identity,
            ticket=ticket,
            begin_by=expires,
            end_by=ticket.end_by,
        )

    @staticmethod
    def _load(serializer: "URLSafeSerializer", text: str) -> Any:
        from itsdangerous import BadData  # pylint: disable=import-outside-toplevel

        try:
            return serializer.loads(text)
        except BadData:
            raise Denied("invalid signature", reason="signature") from None


def _finite(expires: float) -> float:
    if not math.isfinite(expires):
        raise ValueError("expires: expected seconds since the epoch")
    return expires


def _check_expiry(expires: float, kind: str) -> None:
    if time.time() >= expires:
        raise Denied(f"this {kind} has expired", reason="expired")
