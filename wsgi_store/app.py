"""The WSGI application: its URLs, and how it is put together."""

import os
import random
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from werkzeug import exceptions
from werkzeug.http import http_date
from werkzeug.routing import BaseConverter, Map, Rule

from wsgi_store import errors, files, service
from wsgi_store.accesslog import NOTE, AccessLog, Note
from wsgi_store.auth import authorizer
from wsgi_store.browsers import SAFE, HostCheck, Origins, asked_host
from wsgi_store.config import Config, MetricsAccess
from wsgi_store.grant import Authorize
from wsgi_store.problems import problem, status_of
from wsgi_store.receiving import Request, Source, kept, pieces
from wsgi_store.sending import Response
from wsgi_store.staging import Receipt, Staging
from wsgi_store.stores import open_store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Route(NamedTuple):
    """A row of the URL table; `scope` is the right a caller needs."""

    path: str
    method: str
    handler: Callable[..., Response]
    scope: str | None


URLS = [
    Route("/", "GET", service.index, None),
    Route("/", "POST", files.upload, "write"),
    Route("/files", "GET", files.list_files, "list"),
    Route("/healthz", "GET", service.healthy, None),
    Route("/readyz", "GET", service.ready, None),
    Route("/openapi.json", "GET", service.openapi, None),
    Route("/metrics", "GET", service.metrics, "admin"),
    Route("/<hash:hash_>", "GET", files.download, "read"),
    Route("/<hash:hash_>", "DELETE", files.delete, "delete"),
    Route("/<hash:hash_>/<name:filename>", "GET", files.download, "read"),
]

# What may be asked for at any path.
OPTIONS = Route("*", "OPTIONS", service.options, None)
METHODS = {"HEAD", "OPTIONS", *(route.method for route in URLS)}

# The rights to what a store that is only read refuses, whoever asks.
WRITES = frozenset({"write", "delete"})
HASH = re.compile("[0-9a-fA-F]{32,128}")
REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,64}")
# What holds of a URL that names one blob for ever, and of no other.
OF_ONE_BLOB = {"Cache-Control", "Last-Modified", "Vary"}
# A path and a method that no row has.
NOWHERE, UNKNOWN = "/-", "-"


class HashConverter(BaseConverter):
    """32 to 128 hex digits in either case; whether the store has such hashes is its to say."""

    regex = HASH.pattern


class NameConverter(BaseConverter):
    """Any file name, slashes and line breaks included: it is never used as a path."""

    regex = r"(?s:.+)"
    part_isolating = False


# Without these two a POST would be redirected (308) before its body is read.
URL_MAP = Map(
    [Rule(route.path, methods=[route.method], endpoint=route) for route in URLS],
    converters={"hash": HashConverter, "name": NameConverter},
    strict_slashes=False,
    merge_slashes=False,
).bind("localhost")


class Application:
    """The service as a WSGI callable (PEP 3333), mounted under any prefix."""

    def __init__(
        self,
        config: Config,
        authorize: Authorize | None = None,
        check_host: HostCheck | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        if authorize is None:
            config.require_sense()
        self.config = config
        self._access_log = access_log
        self._check_host = check_host
        self._origins = Origins(config.cors_origins)
        self.store = open_store(
            config.root, config.hash, config.durability, config.remote, read_only=config.read_only
        )
        self._metrics = _metrics() if config.metrics is not MetricsAccess.OFF else None
        kind = Staging
        if self._metrics:
            self.store = self._metrics.TimedStore(self.store)
            kind = self._metrics.CountedStaging
        self.staging = kind(
            self.store,
            max_size=config.max_size,
            min_free=config.min_free,
            durability=config.durability,
        )
        tickets = os.path.join(os.path.dirname(self.store.staging_directory), ".tickets")
        self.authorize = authorize or authorizer(config, tickets)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        begin = perf_counter()
        request = Request(environ, self.config, self.store, self.staging, self.authorize)
        identity = _request_id(environ)
        environ[NOTE] = request.note = Note(identity)
        route = failure = None
        try:
            request.require_short_fields()
            self._look_at_sender(environ)
            route, arguments = _match(request)
            if route.scope in WRITES and self.store.read_only:
                raise errors.ReadOnly
            if route.scope is not None and not self._is_public(route):
                request.grant = self.authorize(environ)
                request.note.user = request.grant.name
                request.grant.require(route.scope, **arguments)
            response = route.handler(request, **arguments)
        except errors.WSGIStoreError as error:
            failure, response = error, problem(error, identity)
        # Whatever escapes ends the connection without an answer on some servers.
        except Exception as error:  # pylint: disable=broad-exception-caught
            failure = errors.WSGIStoreError("the server failed, its log says how")
            response = problem(failure, identity, unforeseen=error)
        self._complete(environ, response, identity)
        try:
            body = response(environ, start_response)
        except errors.Busy as error:  # the server has no thread for as much as that
            response.close()
            failure, response = error, problem(error, identity)
            self._complete(environ, response, identity)
            body = response(environ, start_response)
        if self._metrics:
            path = route.path if route else None
            code = status_of(failure)[1] if failure else None
            self._metrics.count(environ, path, response, perf_counter() - begin, code)
        if self._access_log:
            length = int(dict(response.headers).get("Content-Length", 0))
            self._access_log.answer(environ, response.status[:3], length, perf_counter() - begin)
        return body

    def _complete(self, environ: "WSGIEnvironment", response: Response, identity: str) -> None:
        response.headers.append(("X-Request-ID", identity))
        if self.config.cors_origins:
            self._origins.admit(environ, response.headers, METHODS)
        if "uwsgi.version" in environ:  # the one server here that does not say itself when it answers
            response.headers.append(("Date", http_date()))

    def _look_at_sender(self, environ: "WSGIEnvironment") -> None:
        if (asked := asked_host(environ)) and self._check_host:
            self._check_host(environ, asked)
        if environ["REQUEST_METHOD"] not in SAFE:
            self._origins.check(environ, asked)

    # What follows is for views of the host application.

    def receive(
        self,
        source: Source,
        *,
        length: int | None = None,
        hash_: str | None = None,
        max_size: int | None = None,
    ) -> Receipt:
        """Store bytes, the chunks of an iterable, or what a binary file or stream holds from where it stands.

        Of the number of bytes or the hash that is given, nothing else is stored. Raises BadRequest where
        that is no hash of this store, DigestMismatch, IncompleteBody, TooLarge, StoreError, and whatever
        reading `source` raises; then nothing is stored.
        """
        if self.store.read_only:
            raise errors.ReadOnly
        try:
            expected = [self.store.algorithm.parse(hash_)] if hash_ is not None else []
        except ValueError as error:
            raise errors.BadRequest(f"hash: {error}") from None
        return self.staging.receive(pieces(source), length=length, expected=expected, max_size=max_size)

    def send(self, environ: "WSGIEnvironment", hash_: str, filename: str | None = None) -> Response:
        """Answer the GET or HEAD of a view with a blob, by the ranges and the ETag that it asks for.

        The URL is the view's own and may lead to another blob tomorrow: caches keep the answer for one
        reader, and ask each time whether it still holds. Raises BlobNotFound, MethodNotAllowed,
        PreconditionFailed, RangeNotSatisfiable and StoreError.
        """
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise errors.MethodNotAllowed(["GET", "HEAD"])
        request = Request(environ, self.config, self.store, self.staging, self.authorize)
        response = files.download(request, hash_, filename)
        own = [field for field in response.headers if field[0] not in OF_ONE_BLOB]
        response.headers = [*own, ("Cache-Control", "private, no-cache")]
        return response

    def problem(self, environ: "WSGIEnvironment", error: errors.WSGIStoreError) -> Response:
        """Answer the request of a view with a failure, as the service itself does."""
        identity = _request_id(environ)
        response = problem(error, identity)
        response.headers.append(("X-Request-ID", identity))
        return response

    def _is_public(self, route: Route) -> bool:
        return route.handler is service.metrics and self.config.metrics is MetricsAccess.PUBLIC


def _metrics() -> ModuleType:
    # Loaded only where something is counted: it needs prometheus-client, which may not be there.
    try:
        from wsgi_store import metrics  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise errors.ConfigError(
            f"WSGI_STORE_METRICS: {error}: install the extra metrics (README.md)"
        ) from None
    return metrics


def create_app(config: Config | None = None, authorize: Authorize | None = None) -> Application:
    """Put a service together; raises ConfigError and StoreError when it cannot be opened.

    `authorize` decides from a request's environ what the caller may do, instead of the
    settings; it may raise Unauthenticated and Denied.
    """
    return Application(config or Config(), authorize)


def _match(request: Request) -> tuple[Route, dict[str, str]]:
    path = request.path
    method = request.environ["REQUEST_METHOD"]
    extra = {}
    also = {"OPTIONS"}
    # `/?hash=H&filename=F` is another spelling of `/H/F`; for an upload `hash` is a condition.
    if path == "/" and method != "POST" and "hash" in request.args:
        hash_ = request.args["hash"]
        path = f"/{hash_}" if HASH.fullmatch(hash_) else NOWHERE
        also.add("POST")
        if method in ("GET", "HEAD") and request.args.get("filename"):
            extra["filename"] = request.args["filename"]
    if method == "CONNECT":
        raise errors.MethodNotAllowed(sorted(METHODS))
    if request.environ.get("PATH_INFO") == "*":  # the server as a whole (RFC 9110 section 9.3.7)
        path, also = NOWHERE, METHODS
    if method == "OPTIONS":
        return OPTIONS, {"allowed": ", ".join(sorted(also.union(URL_MAP.allowed_methods(path))))}
    try:
        route, arguments = kept(_row, path)(path, method)
    except exceptions.MethodNotAllowed as error:
        raise errors.MethodNotAllowed(sorted(also.union(error.valid_methods or ()))) from None
    except exceptions.NotFound:
        raise errors.NotFound("nothing is served under this path") from None
    return route, {**arguments, **extra}


# The same few are asked for again and again, and a look at the map takes as long as opening a file.
@lru_cache(1024)
def _row(path: str, method: str) -> tuple[Route, dict[str, str]]:
    # Werkzeug takes `get` for GET; methods are case-sensitive (RFC 9110 section 9.1).
    route, arguments = URL_MAP.match(path, method if method.isupper() else UNKNOWN)
    return route, dict(arguments)


def _request_id(environ: "WSGIEnvironment") -> str:
    """The caller's X-Request-ID where it is harmless, else a new one."""
    identity: str = environ.get("HTTP_X_REQUEST_ID", "")
    if not REQUEST_ID.fullmatch(identity):
        # Told apart is all they have to be; a secret one costs a system call.
        identity = f"{random.getrandbits(64):016x}"
    return identity
