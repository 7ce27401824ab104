"""What a caller may do."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from wsgi_store.errors import Denied, Unauthenticated

SCOPES = frozenset({"read", "write", "delete", "list", "link", "admin"})


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do, and its limits."""

    scopes: frozenset[str]
    name: str | None = None
    """The caller's name, for the log; None for an unknown caller, who gets 401 instead of 403."""
    hash: str | None = None
    """The only blob that the caller may read or upload."""
    filename: str | None = None
    """The only file name under which the caller may download it."""
    max_size: int | None = None
    """The largest upload in bytes."""
    identity: str | None = None
    """What tells callers of the same name apart: that of a ticket."""
    ticket: AbstractContextManager[object] | None = None
    """Entered around the publication of an upload; raises Denied if the grant is used up.

    Its caller has one unfinished upload at a time."""
    begin_by: float | None = None
    """When its uploads have to have begun, in seconds since the epoch."""
    end_by: float | None = None
    """When they have to be complete."""
    private: bool = True
    """Whether caches must not share responses between users."""

    @property
    def owner(self) -> str:
        """Whose uploads they are: those of one caller."""
        return repr((self.name, self.identity))

    def require(
        self,
        scope: str | None,
        hash_: str | None = None,
        filename: str | None = None,
        *,
        continues: bool = False,
    ) -> None:
        """Raise Unauthenticated or Denied unless the caller may do this.

        `continues` says that this is about an upload that has begun.
        """
        if scope is not None and scope not in self.scopes:
            if self.name is None:
                raise Unauthenticated("this needs a token")
            raise Denied(f"this needs the scope {scope}", scope=scope)
        if scope == "write" and not continues and self.begin_by is not None:
            if time.time() >= self.begin_by:
                raise Denied("this ticket has expired", reason="expired")
        if hash_ is not None and self.hash is not None and not self._is_for(scope, hash_.lower()):
            kind = "ticket" if scope == "write" else "link"
            raise Denied(f"this {kind} is for another blob", reason="hash")
        if filename is not None and self.filename not in (None, filename):
            raise Denied("this link is for another file name", reason="filename")

    @property
    def may_read(self) -> bool:
        """Whether the caller may read what it names, perhaps because everybody may."""
        return "read" in self.scopes or not self.private

    def _is_for(self, scope: str | None, hash_: str) -> bool:
        own = (self.hash or "").lower()
        # An upload has to have both hashes, and only its bytes can tell when they are of two algorithms.
        return hash_ == own or (scope == "write" and len(hash_) != len(own))


EVERYTHING = Grant(SCOPES, name="anyone", private=False)
Authorize = Callable[[Mapping[str, Any]], Grant]
