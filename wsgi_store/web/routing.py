"""How a request is matched to a route."""

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from werkzeug import exceptions
from werkzeug.routing import BaseConverter, Map, MapAdapter, Rule

from wsgi_store import errors
from wsgi_store.web.request import Request
from wsgi_store.web.response import Headers, Response

# Returns further fields of a response, which may be to a failure.
Fields = Callable[[Request, errors.WSGIStoreError | None], Headers]
# Answers with a failure: of this class, with the id of the request, and caused by this if nobody foresaw it.
Refuse = Callable[[Request, errors.WSGIStoreError, str, Exception | None], Response]


class Custom(NamedTuple):
    """How responses at some paths differ from others, also where these paths have no route."""

    paths: re.Pattern[str]
    fields: Fields | None = None
    refuse: Refuse | None = None


class Route(NamedTuple):
    """A row of the URL table; `scope` is the one a caller needs, None for none."""

    path: str
    method: str
    handler: Callable[..., Response]
    scope: str | None
    continues: bool = False
    """Whether it is about an upload that has begun."""
    custom: Custom | None = None


class Target(NamedTuple):
    """What a request is for."""

    path: str
    arguments: Mapping[str, str] = MappingProxyType({})
    """Further arguments for the handler."""
    also: frozenset[str] = frozenset({"OPTIONS"})
    """Methods that are allowed there beside those of the table."""
    options: Route | None = None
    """Answers to OPTIONS; by default as everywhere."""


# Map.bind needs it, and a worker that has become another user may be unable to read its file.
codecs.lookup("idna")

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


class Routes:
    """The URLs of one application.

    `aim` returns what a request is for; raises NotFound.
    """

    def __init__(
        self, table: Sequence[Route], custom: Sequence[Custom], aim: Callable[[Request], Target]
    ) -> None:
        self.methods = frozenset({"HEAD", "OPTIONS", *(route.method for route in table)})
        self._custom = custom
        self._aim = aim
        # Not `bind`, which loads a codec for the host: the user of the workers may be unable to read it.
        self._map = MapAdapter(_compiled(tuple(table)), "localhost", "/", "", "http", "/", "GET")
        # Matching takes as long as opening a file, and popular paths are requested again and again.
        self._cached = lru_cache(1024)(self._find)

    def match(self, request: Request) -> tuple[Route, dict[str, str]]:
        """Return the route of a request and the arguments for its handler.

        Raises NotFound and MethodNotAllowed.
        """
        method = request.environ["REQUEST_METHOD"]
        if method == "CONNECT":
            raise errors.MethodNotAllowed(allowed=sorted(self.methods))
        target = self._aim(request)
        path, also = target.path, target.also
        if request.environ.get("PATH_INFO") == "*":  # the server as a whole (RFC 9110 section 9.3.7)
            path, also = NOWHERE, self.methods
        if method == "OPTIONS":
            allowed = ", ".join(sorted(also.union(self._map.allowed_methods(path))))
            return target.options or OPTIONS, {"allowed": allowed}
        try:
            find = self._cached if len(path) <= LONGEST_CACHED else self._find
            route, arguments = find(path, method)
        except exceptions.MethodNotAllowed as error:
            allowed_ = also.union(error.valid_methods or ())
            if allowed_ == OF_NAMES:
                raise errors.NotFound(NOTHING) from None
            raise errors.MethodNotAllowed(allowed=sorted(allowed_)) from None
        except exceptions.NotFound:
            raise errors.NotFound(NOTHING) from None
        return route, {**arguments, **target.arguments}

    def custom(self, path: str) -> Custom | None:
        """Return how responses at a path differ from others."""
        return next((custom for custom in self._custom if custom.paths.match(path)), None)

    def _find(self, path: str, method: str) -> tuple[Route, dict[str, str]]:
        # Werkzeug accepts `get` as GET; methods are case-sensitive (RFC 9110 section 9.1).
        route, arguments = self._map.match(path, method if method.isupper() else UNKNOWN)
        return route, dict(arguments)


# Applications with the same table share it: compiling takes longer than opening a store.
@lru_cache(8)
def _compiled(table: tuple[Route, ...]) -> Map:
    # Without the last two a POST would be redirected (308) before its body is read.
    return Map(
        [Rule(route.path, methods=[route.method], endpoint=route) for route in table],
        converters={"hash": HashConverter, "name": NameConverter, "segment": SegmentConverter},
        strict_slashes=False,
        merge_slashes=False,
    )


def _allowed(request: Request, allowed: str) -> Response:  # pylint: disable=unused-argument
    """List the methods allowed at a path; this needs no scope."""
    return Response([], 204, [("Allow", allowed)])


# Answers at every path.
OPTIONS = Route("*", "OPTIONS", _allowed, None)
