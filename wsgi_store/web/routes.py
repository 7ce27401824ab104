"""The table of URLs, and how a request is matched to a route."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from werkzeug import exceptions
from werkzeug.routing import BaseConverter, Map, Rule

from wsgi_store import errors
from wsgi_store.web import blobs, links, page, service, uploads
from wsgi_store.web.archive import archive
from wsgi_store.web.download import download
from wsgi_store.web.listing import list_files
from wsgi_store.web.missing import missing
from wsgi_store.web.request import Request
from wsgi_store.web.response import Headers, Response

# Returns further fields of a response, which may be to a failure.
Fields = Callable[[Request, errors.WSGIStoreError | None], Headers]


class Route(NamedTuple):
    """A row of the URL table; `scope` is the one a caller needs, None for none."""

    path: str
    method: str
    handler: Callable[..., Response]
    scope: str | None
    fields: Fields | None = None
    continues: bool = False
    """Whether it is about an upload that has begun."""


URLS = [
    Route("/", "GET", service.index, None),
    Route("/", "POST", blobs.upload, "write"),
    Route("/", "PUT", blobs.upload, "write"),
    Route("/files", "GET", list_files, "list"),
    Route("/missing", "POST", missing, "read"),
    Route("/archive", "POST", archive, "read"),
    Route("/links", "POST", links.create, "link"),
    Route("/healthz", "GET", service.healthy, None),
    Route("/readyz", "GET", service.ready, None),
    Route("/openapi.json", "GET", service.openapi, None),
    Route("/page/<string:version>/<name:name>", "GET", page.file, None),
    Route("/metrics", "GET", service.metrics, "admin"),
    Route("/uploads", "POST", uploads.create, "write", uploads.fields),
    Route("/uploads/<string:id_>", "GET", uploads.show, "write", uploads.fields, True),
    Route("/uploads/<string:id_>", "PATCH", uploads.append, "write", uploads.fields, True),
    Route("/uploads/<string:id_>", "DELETE", uploads.remove, "write", uploads.fields, True),
    Route("/<hash:hash_>", "GET", download, "read"),
    Route("/<hash:hash_>", "PUT", blobs.put, "write"),
    Route("/<hash:hash_>", "DELETE", blobs.delete, "delete"),
    Route("/<hash:hash_>/<name:filename>", "GET", download, "read"),
    Route("/<hash:hash_>/<name:filename>", "PUT", blobs.put, "write"),
    # `curl -T FILE URL/` adds the name of the file.
    Route("/<segment:filename>", "PUT", blobs.upload, "write"),
]
# Answers at every path.
OPTIONS = Route("*", "OPTIONS", service.options, None)
# The files of the page, which can be off.
PAGE = "/page/"
UPLOAD_OPTIONS = Route("/uploads", "OPTIONS", uploads.options, None)
METHODS = {"HEAD", "OPTIONS", *(route.method for route in URLS)}
HASH = re.compile("[0-9a-fA-F]{32,128}")
# A path and a method without a route.
NOWHERE, UNKNOWN = "/-/-", "-"
# The methods of a path that is only a file name, at which there is nothing to read.
OF_NAMES = {"OPTIONS", "PUT"}
NOTHING = "nothing is served under this path"
# Characters of the longest path whose route is cached: long paths must not fill the memory.
LONGEST_CACHED = 512


class HashConverter(BaseConverter):
    """32 to 128 hex digits in either case; the store decides whether it has such hashes."""

    regex = HASH.pattern


class SegmentConverter(BaseConverter):
    """One segment that is not a hash."""

    regex = rf"(?!{HASH.pattern}\Z)[^/]+"
    part_isolating = True


class NameConverter(BaseConverter):
    """Any file name, including slashes and line breaks: it is never used as a path."""

    regex = r"(?s:.+)"
    part_isolating = False


# Without the last two a POST would be redirected (308) before its body is read.
URL_MAP = Map(
    [Rule(route.path, methods=[route.method], endpoint=route) for route in URLS],
    converters={
        "hash": HashConverter,
        "name": NameConverter,
        "segment": SegmentConverter,
    },
    strict_slashes=False,
    merge_slashes=False,
).bind("localhost")


def match(request: Request) -> tuple[Route, dict[str, str]]:
    """Return the route of a request and the arguments for its handler; raises NotFound, MethodNotAllowed."""
    path = request.path
    method = request.environ["REQUEST_METHOD"]
    extra = {}
    also = {"OPTIONS"}
    # `/?hash=H&filename=F` means `/H/F`; in an upload `hash` is a condition.
    if path == "/" and method not in ("POST", "PUT") and "hash" in request.args:
        hash_ = request.args["hash"]
        path = f"/{hash_}" if HASH.fullmatch(hash_) else NOWHERE
        also |= {"POST", "PUT"}
        if method in ("GET", "HEAD") and request.args.get("filename"):
            extra["filename"] = request.args["filename"]
    if path == "/" and method == "POST" and uploads.is_upgrade(request):
        path = "/uploads"
    if not request.config.page and path.startswith(PAGE):
        path = NOWHERE
    if method == "CONNECT":
        raise errors.MethodNotAllowed(allowed=sorted(METHODS))
    if request.environ.get("PATH_INFO") == "*":  # the server as a whole (RFC 9110 section 9.3.7)
        path, also = NOWHERE, METHODS
    if method == "OPTIONS":
        if uploads.OF_UPLOADS.match(path) or (path == "/" and request.config.interim):
            return UPLOAD_OPTIONS, {"allowed": ", ".join(sorted(also.union(URL_MAP.allowed_methods(path))))}
        return OPTIONS, {"allowed": ", ".join(sorted(also.union(URL_MAP.allowed_methods(path))))}
    try:
        find = _find if len(path) <= LONGEST_CACHED else _find.__wrapped__
        route, arguments = find(path, method)
    except exceptions.MethodNotAllowed as error:
        allowed = also.union(error.valid_methods or ())
        if allowed == OF_NAMES:
            raise errors.NotFound(NOTHING) from None
        raise errors.MethodNotAllowed(allowed=sorted(allowed)) from None
    except exceptions.NotFound:
        raise errors.NotFound(NOTHING) from None
    return route, {**arguments, **extra}


def fields_at(path: str) -> Fields | None:
    """Return what adds fields to the responses of a path, even if no route is found there."""
    return uploads.fields if uploads.OF_UPLOADS.match(path) else None


# Matching takes as long as opening a file, and popular paths are requested again and again.
@lru_cache(1024)
def _find(path: str, method: str) -> tuple[Route, dict[str, str]]:
    # Werkzeug accepts `get` as GET; methods are case-sensitive (RFC 9110 section 9.1).
    route, arguments = URL_MAP.match(path, method if method.isupper() else UNKNOWN)
    return route, dict(arguments)
