"""What the application and the server tell each other about one request and its response."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# The only key that this package adds to an environ.
KEY = "wsgi_store.exchange"


@dataclass(slots=True)
class Exchange:
    """One request and its response, shared by the application and the server in the environ."""

    request_id: str | None = None
    user: str | None = None
    """The caller's name: that of a token, or the kind of a signed URL."""
    hash: str | None = None
    """The primary name of the blob that was stored or removed; the path has the one that was asked for."""
    size: int | None = None
    """The size of that blob in bytes, or of all those of a form."""
    files: int | None = None
    """How many files of a form with several were stored."""
    own_worker: bool = False
    """Whether this package's gunicorn worker serves the request.

    It counts the bytes it sends, and logs the request and a response that breaks off.
    """
    interim: Callable[[list[tuple[str, str]]], None] | None = None
    """Sends an interim response with status 104 and these fields; None where that cannot be done."""
    count_sent: Callable[[int], None] | None = None
    """Counts bytes of response bodies in the metrics; None when metrics are off."""
    logged: bool = False
    """Whether the request is in the access log."""


def exchange_of(environ: "WSGIEnvironment") -> Exchange:
    """Return the exchange in `environ`; a new one is put there first if it has none."""
    exchange: Exchange | None = environ.get(KEY)
    if exchange is None:
        exchange = environ[KEY] = Exchange()
    return exchange
