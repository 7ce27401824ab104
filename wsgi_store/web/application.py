"""The WSGI application: what every request goes through."""

import os
import random
import re
from collections.abc import Iterable
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING

from werkzeug.http import http_date

from wsgi_store import errors
from wsgi_store.access.authorizer import authorizer
from wsgi_store.access.grant import Authorize
from wsgi_store.config import Config, MetricsAccess
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.open import open_store
from wsgi_store.web import blobs, service
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.origins import SAFE, HostCheck, Origins, asked_host
from wsgi_store.web.problems import problem, status_of
from wsgi_store.web.request import Request, Source, pieces
from wsgi_store.web.response import Response
from wsgi_store.web.routes import METHODS, Route, _match

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


# The rights to what a store that is only read refuses, whoever asks.
WRITES = frozenset({"write", "delete"})
REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,64}")
# What holds of a URL that names one blob for ever, and of no other.
OF_ONE_BLOB = {"Cache-Control", "Last-Modified", "Vary"}


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
        request.exchange.request_id = identity
        route = failure = None
        try:
            request.require_short_fields()
            self._look_at_sender(environ)
            route, arguments = _match(request)
            if route.scope in WRITES and self.store.read_only:
                raise errors.ReadOnly
            if route.scope is not None and not self._is_public(route):
                request.grant = self.authorize(environ)
                request.exchange.user = request.grant.name
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
            self._metrics.count(
                environ["REQUEST_METHOD"], path, response.status, perf_counter() - begin, code
            )
            if request.exchange.own_worker:
                request.exchange.count_sent = self._metrics.count_sent
            elif environ["REQUEST_METHOD"] != "HEAD":
                self._metrics.count_sent(int(dict(response.headers).get("Content-Length", 0)))
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
            raise errors.MethodNotAllowed(allowed=["GET", "HEAD"])
        request = Request(environ, self.config, self.store, self.staging, self.authorize)
        response = blobs.download(request, hash_, filename)
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
        from wsgi_store.metrics import prometheus  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise errors.ConfigError(
            f"WSGI_STORE_METRICS: {error}: install the extra metrics (docs/deployment.md)"
        ) from None
    return prometheus


def _request_id(environ: "WSGIEnvironment") -> str:
    """The caller's X-Request-ID where it is harmless, else a new one."""
    identity: str = environ.get("HTTP_X_REQUEST_ID", "")
    if not REQUEST_ID.fullmatch(identity):
        # Told apart is all they have to be; a secret one costs a system call.
        identity = f"{random.getrandbits(64):016x}"
    return identity
