"""DVC 3: blobs by md5 at the paths of its cache, /dvc/files/md5/ab/cdef… (dvc-http)."""

import re

from wsgi_store.choices import Protocol
from wsgi_store.digest import Algorithm
from wsgi_store.errors import NotFound
from wsgi_store.protocols.algorithms import require, require_at_start
from wsgi_store.web import blobs
from wsgi_store.web.backend import Backend
from wsgi_store.web.download import download
from wsgi_store.web.request import Request
from wsgi_store.web.response import Response
from wsgi_store.web.routing import Custom, Route

# A folder is a list of files, in JSON, whose md5 comes before the suffix.
REST = re.compile(r"([0-9a-f]{30})(?:\.dir)?")
SHARD = re.compile("[0-9a-f]{2}")


def routes(backend: Backend) -> tuple[list[Route], list[Custom]]:
    """Return the routes of this protocol; raises ConfigError if the store cannot have such blobs."""
    require_at_start(backend, Protocol.DVC, Algorithm.MD5)
    path = "/dvc/files/md5/<string:shard>/<string:rest>"
    table = [
        Route(path, "GET", get, "read"),
        Route(path, "POST", put, "write"),
        Route(path, "PUT", put, "write"),
    ]
    for method in ("GET", "POST", "PUT"):
        table.append(Route("/dvc/<name:path>", method, nowhere, None))
    return table, []


def get(request: Request, shard: str, rest: str) -> Response:
    """Send a blob, most of which the client may leave unread."""
    return download(request, _hash(request, "read", shard, rest))


def put(request: Request, shard: str, rest: str) -> Response:
    """Store the body if it has this md5; raises DigestCollision if another blob has it already."""
    return blobs.put(request, _hash(request, "write", shard, rest))


def nowhere(request: Request, path: str) -> Response:  # pylint: disable=unused-argument
    """Refuse the paths of older versions, whose md5 is that of other bytes."""
    raise NotFound("only files/md5/ is served here, the cache of DVC 3")


def _hash(request: Request, scope: str, shard: str, rest: str) -> str:
    match = REST.fullmatch(rest)
    if match is None or not SHARD.fullmatch(shard):
        raise NotFound("expected a path of DVC 3, such as files/md5/ab/cdef…")
    hash_ = shard + match[1]
    request.grant.require(scope, hash_)
    require(request.store, Algorithm.MD5)
    return hash_
