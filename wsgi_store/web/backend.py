"""What the requests of one application share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wsgi_store.access.grant import Authorize
from wsgi_store.access.signing import Signer
from wsgi_store.config import Config
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import LocalPaths, Pieces, Renewal
from wsgi_store.store.contract import Store
from wsgi_store.uploads.room import Room
from wsgi_store.uploads.uploads import Uploads
from wsgi_store.web.dialect import Dialects
from wsgi_store.web.hashes import Hashes
from wsgi_store.web.redirects import Redirects


class Metrics(Protocol):
    """Counts requests and renders the totals for Prometheus."""

    def count(self, method: str, route: str | None, status: str, seconds: float, failure: str | None) -> None:
        """Count a response; `failure` is the code of an error."""

    def count_asked(self, algorithm: str, number: int) -> None:
        """Count hashes in a request, by their algorithm."""

    def count_sent(self, count: float) -> None:
        """Count bytes of a response body."""

    def count_upload(self, event: str) -> None:
        """Count what became of an upload that can be continued."""

    def render(self, store: Store, staging: Staging, room: Room, accept: str) -> tuple[bytes, str]:
        """Return the totals and their media type, chosen by an Accept field."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The settings of an application and what it was assembled from."""

    config: Config
    store: Store
    staging: Staging
    authorize: Authorize
    redirects: Redirects
    hashes: Hashes
    uploads: Uploads
    dialects: Dialects
    paths: LocalPaths | None = None
    """The store, if a front server can read its files."""
    renewal: Renewal | None = None
    """The store, if it can renew blobs."""
    pieces: Pieces | None = None
    """The store, if it tells the hashes of a blob's pieces."""
    metrics: Metrics | None = None
    """None when WSGI_STORE_METRICS is off."""
    signer: Signer | None = None
    """What signs links and tickets, if callers may have some."""
    descriptions: tuple[Path, ...] = ()
    """What is served beside this API: documents to be joined with its description (OpenAPI)."""
