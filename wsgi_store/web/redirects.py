"""Redirects of downloads to the object store."""

import time
from collections.abc import Callable
from functools import lru_cache, partial

from wsgi_store.choices import Redirect
from wsgi_store.digest import Digest
from wsgi_store.logs import logger
from wsgi_store.store.abilities import SignedURLs
from wsgi_store.store.contract import Store
from wsgi_store.web.media_types import describe
from wsgi_store.web.response import Response

# WSGI_STORE_REDIRECT=large redirects downloads of more bytes than this.
REDIRECTED_ABOVE = 1 << 20
# Seconds that a signed URL is valid. Clients may keep the redirect for half of that, so that there is always
# time left to begin the download.
SIGNED_FOR = 600
CACHING = ("Cache-Control", f"private, max-age={SIGNED_FOR // 2}")
# Seconds for which a signed URL is given again without asking the object store.
CACHED_FOR = 60


class Redirects:
    """Sends clients to signed URLs of the blobs in one store, where the settings say so.

    URLs are cached: otherwise each redirect would ask the object store whether the blob exists. After a
    deletion a cached URL leads to a 404 of the object store, as does one that a client has kept.
    """

    def __init__(self, kind: Redirect, store: Store) -> None:
        self._locate: Callable[..., str | None] | None = None
        if kind is not Redirect.NEVER and isinstance(store, SignedURLs):
            above = REDIRECTED_ABOVE if kind is Redirect.LARGE else -1
            self._locate = lru_cache(1024)(partial(_locate, store, store.url, above))

    def redirect(self, digest: Digest, filename: str | None) -> Response | None:
        """Return a redirect to the blob, None to send it from here; raises BlobNotFound."""
        if self._locate is None:
            return None
        url = self._locate(digest, filename, int(time.monotonic()) // CACHED_FOR)
        return None if url is None else Response(b"", 307, [("Location", url), CACHING])


def _locate(
    store: Store, url: Callable[..., str | None], above: int, digest: Digest, filename: str | None, _: int
) -> str | None:
    blob = store.stat(digest)
    name = blob.names[0]
    # A migration may move a blob with an old name at any time.
    if blob.size <= above or name.algorithm is not store.algorithm:
        return None
    signed = url(name, SIGNED_FOR, *describe(filename))
    if signed is None:
        logger.warning("No keys to sign URLs with: {} is downloaded from this server", digest.hex)
    return signed
