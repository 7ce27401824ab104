"""The WSGI application: it routes a request, checks its rights, and answers every failure."""

import random
import re
from collections.abc import Iterable
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING

from werkzeug.http import http_date

from wsgi_store import errors
from wsgi_store.choices import MetricsAccess
from wsgi_store.staging import Receipt
from wsgi_store.web import page, page_answers, service, uploads, uwsgi
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.backend import Backend
from wsgi_store.web.body import Source, chunks_of
from wsgi_store.web.download import download
from wsgi_store.web.hosts import HostCheck, asked_host
from wsgi_store.web.origins import SAFE, Origins
from wsgi_store.web.problems import problem, status_of
from wsgi_store.web.request import Request
from wsgi_store.web.response import Response
from wsgi_store.web.routing import Custom, Route, Routes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# The scopes of requests that a read-only store refuses.
WRITES = frozenset({"write", "delete"})
REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,64}")
# Fields that are right only for a URL that names the same blob for ever.
OF_ONE_BLOB = {"Cache-Control", "Last-Modified", "Vary"}


class Application:
    """The service as a WSGI callable (PEP 3333), mounted under any prefix."""

    def __init__(
        self,
        backend: Backend,
        routes: Routes,
        check_host: HostCheck | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self.backend = backend
        self.config = backend.config
        self.store = backend.store
        self._routes = routes
        self._check_host = check_host
        self._access_log = access_log
        self._origins = Origins(backend.config.cors_origins)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        begin = perf_counter()
        request = Request(environ, self.backend)
        identity = _request_id(environ)
        request.exchange.request_id = identity
        route = failure = None
        try:
            request.require_short_fields()
            if "HTTP_X_HTTP_METHOD_OVERRIDE" in environ:
                uploads.override_method(request)
            self._check_sender(environ)
            route, arguments = self._routes.match(request)
            if route.scope in WRITES and self.store.read_only:
                raise errors.ReadOnly
            if route.scope is not None and not self._is_public(route):
                request.authorize().require(
                    route.scope,
                    arguments.get("hash_"),
                    arguments.get("filename"),
                    continues=route.continues,
                )
            response = route.handler(request, **arguments)
        except errors.WSGIStoreError as error:
            failure, response = error, self._refusal(request, route, error, identity)
        # Some servers close the connection without an answer when an exception reaches them.
        except Exception as error:  # pylint: disable=broad-exception-caught
            failure = errors.WSGIStoreError("internal error; see the server log")
            response = self._refusal(request, route, failure, identity, error)
        custom = self._custom(request, route)
        if custom is not None and custom.fields is not None:
            response.headers += custom.fields(request, failure)
        self._complete(environ, response, identity)
        try:
            body = response(environ, start_response)
        except errors.Busy as error:  # the server has no free thread for a long response
            response.close()
            failure, response = error, self._refusal(request, route, error, identity)
            self._complete(environ, response, identity)
            body = response(environ, start_response)
        if (metrics := self.backend.metrics) is not None:
            metrics.count(
                environ["REQUEST_METHOD"],
                route.path if route else None,
                response.status,
                perf_counter() - begin,
                status_of(failure)[1] if failure else None,
            )
            if request.exchange.own_worker:
                request.exchange.count_sent = metrics.count_sent
            elif environ["REQUEST_METHOD"] != "HEAD":
                metrics.count_sent(int(dict(response.headers).get("Content-Length", 0)))
        if self._access_log:
            length = int(dict(response.headers).get("Content-Length", 0))
            self._access_log.answer(environ, response.status[:3], length, perf_counter() - begin)
        return body

    def _complete(self, environ: "WSGIEnvironment", response: Response, identity: str) -> None:
        response.headers.append(("X-Request-ID", identity))
        if self.config.cors_origins:
            self._origins.admit(environ, response.headers, self._routes.methods)
        if uwsgi.serves(environ):  # the only one of our servers that adds no Date
            response.headers.append(("Date", http_date()))

    def _check_sender(self, environ: "WSGIEnvironment") -> None:
        if (asked := asked_host(environ)) and self._check_host:
            self._check_host(environ, asked)
        if environ["REQUEST_METHOD"] not in SAFE:
            self._origins.check(environ, asked)

    # For views of a host application.

    def receive(
        self,
        source: Source,
        *,
        length: int | None = None,
        hash_: str | None = None,
        max_size: int | None = None,
    ) -> Receipt:
        """Store bytes, the chunks of an iterable, or the rest of a binary file or stream.

        `length` and `max_size` are in bytes, `hash_` is by any algorithm of the store. The receipt has the
        primary name as `digest` and all `names`. Raises BadRequest if `hash_` is not a hash of this store,
        DigestMismatch or IncompleteBody if the bytes do not match `hash_` or `length`, TooLarge, StoreError,
        and whatever reading `source` raises; then nothing is stored.
        """
        if self.store.read_only:
            raise errors.ReadOnly
        try:
            expected = [self.backend.hashes.digest(hash_)] if hash_ is not None else []
        except ValueError as error:
            raise errors.BadRequest(f"hash: {error}") from None
        chunks = chunks_of(source)
        return self.backend.staging.receive(chunks, length=length, expected=expected, max_size=max_size)

    def send(self, environ: "WSGIEnvironment", hash_: str, filename: str | None = None) -> Response:
        """Answer a GET or HEAD of a view with a blob by any of its names; evaluate conditions and ranges.

        The view's URL may lead to another blob tomorrow, so caches keep the response for one user and
        revalidate it each time. Raises BlobNotFound, MethodNotAllowed, PreconditionFailed,
        RangeNotSatisfiable and StoreError.
        """
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise errors.MethodNotAllowed(allowed=["GET", "HEAD"])
        response = download(Request(environ, self.backend), hash_, filename)
        own = [field for field in response.headers if field[0] not in OF_ONE_BLOB]
        response.headers = [*own, ("Cache-Control", "private, no-cache")]
        return response

    def problem(self, environ: "WSGIEnvironment", error: errors.WSGIStoreError) -> Response:
        """Answer the request of a view with an error, in the form that the service itself uses."""
        identity = _request_id(environ)
        response = problem(error, identity, by_script=_is_by_script(Request(environ, self.backend)))
        response.headers.append(("X-Request-ID", identity))
        return response

    def _is_public(self, route: Route) -> bool:
        return route.handler is service.metrics and self.config.metrics is MetricsAccess.PUBLIC

    def _custom(self, request: Request, route: Route | None) -> Custom | None:
        return self._routes.custom(request.path) if route is None else route.custom

    def _refusal(
        self,
        request: Request,
        route: Route | None,
        error: errors.WSGIStoreError,
        identity: str,
        unforeseen: Exception | None = None,
    ) -> Response:
        custom = self._custom(request, route)
        refuse = _refusal if custom is None or custom.refuse is None else custom.refuse
        return refuse(request, error, identity, unforeseen)


def _refusal(
    request: Request, error: errors.WSGIStoreError, identity: str, unforeseen: Exception | None
) -> Response:
    """Return an error in the form that the caller prefers."""
    response = problem(error, identity, unforeseen=unforeseen, by_script=_is_by_script(request))
    if page.is_wanted(request):
        # What failed may be reading files, and the page has some.
        with suppress(OSError):
            return page_answers.problem(request, error)
    return response


def _is_by_script(request: Request) -> bool:
    # Browsers send Origin with what a script uploads, and with a plain form, whose sender wants HTML. With a
    # GET they do not, but scripts may say what they are, as those of the page do.
    environ = request.environ
    return ("HTTP_ORIGIN" in environ or "HTTP_X_REQUESTED_WITH" in environ) and not page.prefers_html(
        request.accept
    )


def _request_id(environ: "WSGIEnvironment") -> str:
    """Return the caller's X-Request-ID if it is harmless, else a new one."""
    identity: str = environ.get("HTTP_X_REQUEST_ID", "")
    if not REQUEST_ID.fullmatch(identity):
        # It has to be distinct, not secret: a secret one costs a system call.
        identity = f"{random.getrandbits(64):016x}"
    return identity
