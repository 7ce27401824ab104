"""The handler that tells which of many blobs the store lacks."""

from collections.abc import Iterable

from wsgi_store.digest import Digest
from wsgi_store.errors import BadRequest, ReadOnly
from wsgi_store.web import hash_list
from wsgi_store.web.blobs import OF_PLAIN, prefers_text
from wsgi_store.web.hash_list import Asked
from wsgi_store.web.request import Request
from wsgi_store.web.response import Response, json_response

RENEW = {"true": True, "false": False}


def missing(request: Request) -> Response:
    """Answer which blobs of a list the store lacks; with `?renew=true` the others count as added now.

    A blob of another size than the one in the list is missing. Raises BadRequest, Denied, ReadOnly,
    StoreError, TooLarge and UnsupportedMediaType.
    """
    hashes = [digest.hex for digest in (_not_renewed(request) if _renews(request) else _absent(request))]
    if prefers_text(request.accept):
        return Response("".join(f"{hash_}\n" for hash_ in hashes).encode(), 200, OF_PLAIN)
    return json_response({"missing": hashes})


def _renews(request: Request) -> bool:
    text = request.args.get("renew", "false")
    if text not in RENEW:
        raise BadRequest("renew: expected true or false")
    return RENEW[text]


def _absent(request: Request) -> Iterable[Digest]:
    asked = hash_list.read(request, "read")
    sizes = request.store.sizes(asked.keys())
    for digest, size in asked.items():
        if digest not in sizes or size not in (None, sizes[digest]):
            yield digest


def _not_renewed(request: Request) -> Iterable[Digest]:
    if request.store.read_only:
        raise ReadOnly
    request.grant.require("write")
    asked = hash_list.read(request, "read", "write")
    renewal = request.backend.renewal
    renewed = renewal.renew_all(_renewable(asked)) if renewal is not None else ()
    return [digest for digest in asked if digest not in renewed]


def _renewable(asked: Asked) -> dict[Digest, int]:
    """Return the blobs that can be renewed, with their sizes; raises BadRequest if one has no size."""
    sizes: dict[Digest, int] = {}
    for digest, size in asked.items():
        if size is None:
            raise BadRequest("renew: every hash needs the size of its blob", reason="size")
        # Equal digests by the other algorithms do not prove equal bytes: these take an upload.
        if digest.algorithm.collision_resistant:
            sizes[digest] = size
    return sizes
