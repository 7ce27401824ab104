"""The handler that lists blobs."""

import re
from collections.abc import Iterable
from itertools import takewhile

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BadRequest
from wsgi_store.store.abilities import Names
from wsgi_store.store.contract import Blob, Store
from wsgi_store.web.blobs import names_of, url_of
from wsgi_store.web.conditional import last_modified
from wsgi_store.web.request import Request
from wsgi_store.web.response import Response, json_response

PAGE = 100
MAX_PAGE = 1000
HEX = re.compile("[0-9a-f]*")


def list_files(request: Request) -> Response:
    """List a page of blobs, in the order of their hashes by the algorithm of `after`."""
    request.allow_time()
    text = request.args.get("limit", str(PAGE))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit: expected a number from 1 to {MAX_PAGE}", limit=MAX_PAGE)
    after = None
    if "after" in request.args:
        after = request.digest(request.args["after"], "after")
    prefix = request.args.get("prefix", "").lower()
    files: list[dict[str, object]] = []
    following = None
    for blob in _blobs(request.store, after, prefix):
        if len(files) == limit:
            kept = f"&prefix={prefix}" if prefix else ""
            following = f"{request.mount}/files?after={files[-1]['hash']}&limit={limit}{kept}"
            break
        hash_ = blob.digest.hex
        files.append(
            {
                "hash": hash_,
                "names": names_of(blob.names),
                "size": blob.size,
                "modified": last_modified(blob),
                "url": url_of(request, hash_),
            }
        )
    return json_response({"files": files, "next": following})


def _blobs(store: Store, after: Digest | None, prefix: str) -> Iterable[Blob]:
    """Return the blobs after `after` whose hashes begin with `prefix`, without a look at those before.

    Raises BadRequest if no hash can begin so.
    """
    if not prefix:
        return store.iterate(after)
    algorithm = _listed(store) if after is None else after.algorithm
    digits = 2 * algorithm.size
    if len(prefix) > digits or not HEX.fullmatch(prefix):
        raise BadRequest(f"prefix: expected at most {digits} hex digits", limit=digits)
    if after is None or after.hex < prefix:
        after = _before(algorithm, prefix)
    elif not after.hex.startswith(prefix):
        return ()
    return takewhile(lambda blob: blob.digest.hex.startswith(prefix), store.iterate(after, algorithm))


def _listed(store: Store) -> Algorithm:
    """Return the algorithm by which a list goes from its beginning."""
    return store.marker().listed if isinstance(store, Names) else store.algorithm


def _before(algorithm: Algorithm, prefix: str) -> Digest | None:
    """Return the last digest before those that begin with `prefix`, None if they are the first."""
    first = int(prefix.ljust(2 * algorithm.size, "0"), 16)
    return Digest(algorithm, (first - 1).to_bytes(algorithm.size, "big")) if first else None
