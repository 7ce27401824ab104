"""Handlers that speak of the service itself: index, liveness, readiness."""

from wsgi_store import __version__
from wsgi_store.receiving import Request
from wsgi_store.sending import Response, json_response


def index(request: Request) -> Response:
    """What this service is and where its parts are."""
    mount = request.mount
    return json_response(
        {
            "service": "wsgi_store",
            "version": __version__,
            "algorithm": request.store.algorithm.value,
            "limits": {"max_size": request.config.max_size},
            "links": {
                "upload": f"{mount}/",
                "files": f"{mount}/files",
                "health": f"{mount}/healthz",
                "ready": f"{mount}/readyz",
            },
        }
    )


def healthy(request: Request) -> Response:  # pylint: disable=unused-argument
    """The process answers; nothing else is looked at."""
    return json_response({"status": "ok"})


def ready(request: Request) -> Response:
    """Uploads can be taken now; raises StoreUnavailable."""
    request.staging.check()
    return json_response({"status": "ok"})
