"""Handlers about the service itself: index, health, readiness, metrics, API description."""

import json
from contextlib import suppress
from functools import lru_cache
from math import ceil
from pathlib import Path

from wsgi_store.access.authorizer import Authorizer
from wsgi_store.access.grant import Grant
from wsgi_store.access.tickets import Ticket
from wsgi_store.errors import Denied, NotFound, StoreUnavailable, Unauthenticated
from wsgi_store.store.abilities import Names
from wsgi_store.version import __version__
from wsgi_store.web import hash_list, page
from wsgi_store.web.document import Document
from wsgi_store.web.form import FORM_PARTS
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Response, json_response, to_json

NOTHING = Grant(frozenset())
# What a browser sends by itself.
CREDENTIALS = frozenset({"HTTP_AUTHORIZATION", "HTTP_COOKIE"})


# Read at the first request: most processes never need it.
@lru_cache(4)
def _description(further: tuple[Path, ...]) -> Document:
    """The OpenAPI document, joined with further ones."""
    data = Path(__file__).with_name("openapi.json").read_bytes()
    if further:
        described = json.loads(data)
        for path in further:
            more = json.loads(path.read_bytes())
            described["tags"] += more["tags"]
            described["paths"] |= more["paths"]
            for kind, named in more.get("components", {}).items():
                described["components"][kind] |= named
        data = to_json(described)
    # Browsers would save the media type that is drafted for OpenAPI, and show JSON.
    return Document("application/json", data)


def index(request: Request) -> Response:
    """Send the page to a person, and a description of the service to a program."""
    if page.is_wanted(request):
        if "ticket" in request.args:
            _of_caller(request)  # without scripts, too, nobody should choose a file in vain
        described = _described(request, _of_browser(request))
        everybody = _of_browser(request, CREDENTIALS)
        return page.index(request, {**described, "everybody": _scopes(request, everybody)})
    # Without the page nothing chooses.
    chosen = [("Vary", ", ".join(page.VARY))] if request.config.page else []
    return json_response(_described(request, _of_caller(request)), chosen)


def _of_caller(request: Request) -> Grant:
    """Return what the caller may do; raises Unauthenticated and Denied if credentials are refused."""
    try:
        grant = request.authorize()
        _require_valid_ticket(request, grant)
    except (Unauthenticated, Denied):
        if request.has_credentials:
            raise
        # A host application may refuse whoever has none; the index describes the service to them, too.
        return NOTHING
    return grant


def _require_valid_ticket(request: Request, grant: Grant) -> None:
    """Raise Denied if a ticket lets its caller neither begin nor continue an upload."""
    if "ticket" in request.args and grant.name is None and "write" not in grant.scopes:
        raise Denied("this service reads no such ticket", reason="signature")
    if "write" in grant.scopes:
        if isinstance(grant.ticket, Ticket):
            grant.ticket.require_unused()
        limited = grant.begin_by is not None
        grant.require("write", continues=limited and request.backend.uploads.has_unfinished(grant.owner))


def _of_browser(request: Request, left_out: frozenset[str] = frozenset()) -> Grant:
    """Return what a browser may do by what it sends itself, such as a cookie.

    The scripts of the page ask again with the token or ticket that they have.
    """
    own = {name: value for name, value in request.environ.items() if name not in left_out}
    try:
        return request.backend.authorize({**own, "QUERY_STRING": ""})
    except (Unauthenticated, Denied):
        return NOTHING if left_out else _of_browser(request, CREDENTIALS)


def _scopes(request: Request, grant: Grant) -> list[str]:
    return sorted(grant.scopes if request.backend.signer is not None else grant.scopes - {"link"})


def _described(request: Request, grant: Grant) -> dict[str, object]:
    """Describe the service to a caller, with links to its parts."""
    mount, store = request.mount, request.store
    # Clients ask again when they meet a hash by another algorithm than they know.
    with suppress(StoreUnavailable):
        store.refresh()
    algorithm, *further = store.algorithms
    # Only a store with further names can be in a migration: others need not be asked.
    migrating = store.marker().migrating if further and isinstance(store, Names) else None
    limits = (request.config.max_size, grant.max_size)
    signs = request.backend.signer is not None
    return {
        "service": "wsgi_store",
        "version": __version__,
        "algorithm": algorithm.value,
        "names": [one.value for one in further],
        **({} if migrating is None else {"migrating": migrating.value}),
        "read_only": store.read_only,
        "scopes": _scopes(request, grant),
        "limits": {
            "max_size": min((one for one in limits if one is not None), default=None),
            "max_form_size": request.config.max_form_size,
            "max_form_parts": FORM_PARTS,
            "upload_expires": ceil(request.config.upload_expires),
            **({"link_expires": int(request.config.link_expires)} if signs else {}),
            "max_hashes": hash_list.MOST,
            "max_hashes_size": hash_list.LONGEST,
        },
        "links": {
            "upload": f"{mount}/",
            # Without it no upload can be continued.
            **({} if request.backend.uploads.lacks else {"uploads": f"{mount}/uploads"}),
            "files": f"{mount}/files",
            "missing": f"{mount}/missing",
            "archive": f"{mount}/archive",
            "health": f"{mount}/healthz",
            "ready": f"{mount}/readyz",
            "openapi": f"{mount}/openapi.json",
        },
    }


def healthy(request: Request) -> Response:  # pylint: disable=unused-argument
    """Answer that the process is alive; nothing else is checked."""
    return json_response({"status": "ok"})


def ready(request: Request) -> Response:
    """Check that uploads can be stored and tokens read now; raises StoreUnavailable."""
    request.backend.staging.readiness.require()
    authorize = request.backend.authorize
    if isinstance(authorize, Authorizer) and not authorize.check():
        return json_response({"status": "degraded", "reason": "some lines of the token file are invalid"})
    return json_response({"status": "ok"})


def openapi(request: Request) -> Response:
    """Send the OpenAPI 3.1 description of this API; raises PreconditionFailed."""
    return _description(request.backend.descriptions).answer(request, [("Cache-Control", "no-cache")])


def metrics(request: Request) -> Response:
    """Send the metrics for Prometheus; raises NotFound when they are off."""
    backend = request.backend
    if backend.metrics is None:
        raise NotFound("metrics are off; see WSGI_STORE_METRICS")
    body, kind = backend.metrics.render(request.store, backend.staging, backend.uploads.room, request.accept)
    return Response(body, 200, [("Content-Type", kind), NO_SNIFFING, ("Cache-Control", "no-store")])
