"""What a caller may do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wsgi_store.errors import Denied, Unauthenticated

SCOPES = frozenset({"read", "write", "delete", "list", "admin"})


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do, and with what."""

    scopes: frozenset[str]
    name: str | None = None
    """Who it is, for the log; None for nobody known, who is asked to say so (401)."""
    hash: str | None = None
    """The only blob it is for."""
    filename: str | None = None
    """The only file name that blob may be given."""
    max_size: int | None = None
    """The largest upload, in bytes."""
    spend: Callable[[], Callable[[], object] | None] | None = None
    """Called before an upload is published; raises Denied when the grant has been used up.

    What it returns, if anything, is called when the upload is not published after all.
    """
    private: bool = True
    """Whether answers must not be shared with others by a cache."""

    def require(self, scope: str | None, hash_: str | None = None, filename: str | None = None) -> None:
        """Raise Unauthenticated or Denied unless this may be done."""
        if scope is not None and scope not in self.scopes:
            if self.name is None:
                raise Unauthenticated("this needs a token")
            raise Denied(f"this needs the scope {scope}", scope=scope)
        if hash_ is not None and self.hash not in (None, hash_.lower()):
            raise Denied("this link is for another blob")
        if filename is not None and self.filename not in (None, filename):
            raise Denied("this link is for another file name")


EVERYTHING = Grant(SCOPES, name="anyone", private=False)
Authorize = Callable[[Mapping[str, Any]], Grant]
