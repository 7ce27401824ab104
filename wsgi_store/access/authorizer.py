"""Turns the credentials of a request into a grant: a token, a signed link or an upload ticket."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from wsgi_store.access.grant import EVERYTHING, Authorize, Grant
from wsgi_store.access.signing import Signer
from wsgi_store.access.tickets import UsedTickets
from wsgi_store.access.tokens import Tokens
from wsgi_store.config import Config
from wsgi_store.errors import Unauthenticated


class Authorizer:
    """Turns the credentials of a request into a grant."""

    def __init__(
        self, tokens: Tokens, signer: Signer | None, tickets: UsedTickets, *, public_read: bool = False
    ) -> None:
        self._tokens = tokens
        self._signer = signer
        self._tickets = tickets
        self._private = not public_read
        self._nobody = Grant(frozenset({"read"}) if public_read else frozenset(), private=self._private)

    def check(self) -> bool:
        """Return whether the whole token file is valid; raises StoreUnavailable if it is unusable."""
        return self._tokens.check()

    def __call__(self, environ: Mapping[str, Any]) -> Grant:
        field = environ.get("HTTP_AUTHORIZATION")
        if field is not None:
            token = _token(field)
            grant = self._tokens.find(token) if token else None
            if grant is None:
                bearer = field.strip()[:6].lower() == "bearer"
                raise Unauthenticated("unknown token", bearer_error="invalid_token" if bearer else None)
            return replace(grant, private=self._private)
        query = environ.get("QUERY_STRING", "")
        if self._signer is not None and ("link=" in query or "ticket=" in query):
            values = parse_qs(query)
            if "link" in values:
                return self._signer.read_link(values["link"][0])
            if "ticket" in values:
                grant = self._signer.read_ticket(values["ticket"][0], self._tickets)
                return replace(grant, private=self._private)
        return self._nobody


def _token(field: str) -> bytes | None:
    """Return the token in an Authorization field: Bearer (RFC 6750), or the password of Basic (RFC 7617)."""
    scheme, _, rest = field.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode("latin-1", "replace")  # PEP 3333
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest.strip(), validate=True)
        except ValueError:  # the base of binascii.Error
            return None
        return pair.partition(b":")[2]
    return None


def authorizer(config: Config, signer: Signer | None, tickets: str) -> Authorize:
    """Return what authorizes requests by the settings; `tickets` is the directory for used tickets.

    Raises ConfigError.
    """
    if config.tokens is None:
        return lambda environ: EVERYTHING
    return Authorizer(Tokens(config.tokens), signer, UsedTickets(tickets), public_read=config.public_read)
