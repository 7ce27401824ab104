"""Questions about many blobs at once: which of them does the server lack?"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from wsgi_store.client.names import checked
from wsgi_store.client.transport import Transport
from wsgi_store.errors import MethodNotAllowed, NotFound, Unsupported

# Blobs that a server takes in one question.
PAGE = 10_000
JSON = {"Content-Type": "application/json"}


def missing(
    transport: Transport, blobs: Iterable[str | tuple[str, int]], *, renew: bool = False
) -> Iterator[str]:
    """Yield the hashes of those that the server lacks; raises MalformedHash and Unsupported."""
    items = iter(blobs)
    while page := list(islice(items, PAGE)):
        asked: dict[str, int | None] = {}
        for item in page:
            hash_, size = (item, None) if isinstance(item, str) else item
            asked[checked(hash_)] = size
        try:
            yield from ask(transport, asked, renew=renew)
        except (MethodNotAllowed, NotFound):
            raise Unsupported(f"{transport.base} does not tell which blobs are missing") from None


def ask(transport: Transport, blobs: Mapping[str, int | None], *, renew: bool) -> list[str]:
    """Ask once for a page of blobs; returns the hashes of those that the server lacks."""
    items = [hash_ if size is None else {"hash": hash_, "size": size} for hash_, size in blobs.items()]
    path = "missing?renew=true" if renew else "missing"
    told = transport.ask("POST", path, json.dumps(items, separators=(",", ":")).encode(), JSON)
    match told.get("missing"):
        case [*hashes] if all(isinstance(hash_, str) and hash_ in blobs for hash_ in hashes):
            return hashes
    raise transport.strange()
