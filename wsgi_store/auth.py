"""Who may do what: a token, a signed link or an upload ticket becomes a grant."""

import base64
import hashlib
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from wsgi_store.config import Config
from wsgi_store.errors import Denied, Unauthenticated
from wsgi_store.grant import EVERYTHING, Authorize, Grant
from wsgi_store.tickets import REMEMBERED, Tickets
from wsgi_store.tokens import Tokens

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


class Authorizer:
    """Turns the credentials of a request into a grant, as the settings have it."""

    def __init__(
        self, tokens: Tokens, signer: Signer | None, tickets: Tickets, *, public_read: bool = False
    ) -> None:
        self._tokens = tokens
        self._signer = signer
        self._tickets = tickets
        self._private = not public_read
        self._nobody = Grant(frozenset({"read"}) if public_read else frozenset(), private=self._private)

    def check(self) -> bool:
        """Whether all that is known of tokens counts; raises StoreUnavailable when none can be judged."""
        return self._tokens.check()

    def __call__(self, environ: Mapping[str, Any]) -> Grant:
        field = environ.get("HTTP_AUTHORIZATION")
        if field is not None:
            token = _token(field)
            grant = self._tokens.find(token) if token else None
            if grant is None:
                bearer = field.strip()[:6].lower() == "bearer"
                raise Unauthenticated("this token is not known", "invalid_token" if bearer else None)
            return replace(grant, private=self._private)
        query = environ.get("QUERY_STRING", "")
        if self._signer is not None and ("link=" in query or "ticket=" in query):
            values = parse_qs(query)
            if "link" in values:
                return self._signer.read_link(values["link"][0])
            if "ticket" in values:
                return self._signer.read_ticket(values["ticket"][0], self._tickets)
        return self._nobody


def _token(field: str) -> bytes | None:
    """The token in an Authorization field: Bearer (RFC 6750), or the password of Basic (RFC 7617)."""
    scheme, _, rest = field.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode("latin-1", "replace")  # PEP 3333
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest.strip(), validate=True)
        except ValueError:  # binascii.Error is one too
            return None
        return pair.partition(b":")[2]
    return None


def _finite(expires: float) -> float:
    if not math.isfinite(expires):
        raise ValueError("expires: expected seconds since the epoch")
    return expires


def _check_expiry(expires: float) -> None:
    if time.time() >= expires:
        raise Denied("this link has expired")


def authorizer(config: Config, tickets: str) -> Authorize:
    """What the settings say about access; `tickets` is a directory that notes used tickets.

    Raises ConfigError.
    """
    if config.tokens is None:
        return lambda environ: EVERYTHING
    signer = Signer(list(config.signing_keys)) if config.signing_keys else None
    return Authorizer(Tokens(config.tokens), signer, Tickets(tickets), public_read=config.public_read)
