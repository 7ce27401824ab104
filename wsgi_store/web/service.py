"""Handlers that speak of the service itself: index, liveness, readiness, its description."""

import hashlib
import time
from functools import lru_cache
from pathlib import Path

from wsgi_store.access.authorizer import Authorizer
from wsgi_store.config import MetricsAccess
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import NotFound
from wsgi_store.store.contract import Blob
from wsgi_store.version import __version__
from wsgi_store.web import conditional
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Response, json_response


# Read when it is asked for: that takes 3 ms of the start.
@lru_cache(1)
def _description() -> tuple[bytes, Blob]:
    """The OpenAPI document, and what the conditions of a request are judged by."""
    data = Path(__file__).with_name("openapi.json").read_bytes()
    digest = Digest(Algorithm.SHA256, hashlib.sha256(data).digest())
    # No time is told with it, for each process has its own; one that a client has of another source
    # still gets an answer that is safe.
    return data, Blob(digest, size=len(data), modified=time.time())


def index(request: Request) -> Response:
    """What this service is and where its parts are."""
    mount = request.mount
    return json_response(
        {
            "service": "wsgi_store",
            "version": __version__,
            "algorithm": request.store.algorithm.value,
            "read_only": request.store.read_only,
            "limits": {"max_size": request.config.max_size},
            "links": {
                "upload": f"{mount}/",
                "files": f"{mount}/files",
                "health": f"{mount}/healthz",
                "ready": f"{mount}/readyz",
                "openapi": f"{mount}/openapi.json",
            },
        }
    )


def healthy(request: Request) -> Response:  # pylint: disable=unused-argument
    """The process answers; nothing else is looked at."""
    return json_response({"status": "ok"})


def options(request: Request, allowed: str) -> Response:  # pylint: disable=unused-argument
    """What may be asked for at a path, to which nobody needs a right."""
    return Response([], 204, [("Allow", allowed)])


def ready(request: Request) -> Response:
    """Uploads can be taken now, and tokens judged; raises StoreUnavailable."""
    request.staging.readiness.require()
    if isinstance(request.authorize, Authorizer) and not request.authorize.check():
        return json_response(
            {"status": "degraded", "reason": "the file of tokens has lines that do not count"}
        )
    return json_response({"status": "ok"})


def openapi(request: Request) -> Response:
    """The description of this API for programs (OpenAPI 3.1); raises PreconditionFailed."""
    data, blob = _description()
    headers = [("ETag", f'"{blob.digest.hex}"'), ("Cache-Control", "no-cache")]
    if conditional.not_modified(request.environ, blob):
        return Response([], 304, headers)
    # The media type of its own that is being drafted is one that browsers save and do not show.
    return Response(data, 200, [("Content-Type", "application/json"), NO_SNIFFING, *headers])


def metrics(request: Request) -> Response:
    """The figures for Prometheus; raises NotFound where nothing is counted."""
    if request.config.metrics is MetricsAccess.OFF:
        raise NotFound("nothing is counted here: WSGI_STORE_METRICS is off")
    # Only there where it is wanted, and loaded by the application then.
    from wsgi_store.metrics.prometheus import render  # pylint: disable=import-outside-toplevel,cyclic-import

    body, kind = render(request.store, request.staging, request.accept)
    return Response(body, 200, [("Content-Type", kind), NO_SNIFFING, ("Cache-Control", "no-store")])
