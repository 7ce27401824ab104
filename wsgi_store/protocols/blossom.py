"""Blossom (BUD-01, 02, 06, 11 and 12): blobs by sha256 at the root of a mount of its own.

`wsgi_store.protocols.blossom:application` is configured by the environment, as `wsgi_store.wsgi` is.
"""

import atexit
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug.http import parse_options_header

from wsgi_store import errors
from wsgi_store.access.grant import Authorize, Grant
from wsgi_store.access.tokens import Tokens
from wsgi_store.assembly import METALINK, create_backend
from wsgi_store.authority import parse_authority
from wsgi_store.choices import Protocol
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.loading import load
from wsgi_store.protocols.algorithms import require, require_at_start
from wsgi_store.web import blobs, problems
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.application import Application
from wsgi_store.web.backend import Backend
from wsgi_store.web.document import Document
from wsgi_store.web.download import download
from wsgi_store.web.hosts import asked_host
from wsgi_store.web.media_types import describe, ending_of
from wsgi_store.web.request import Request, path_of
from wsgi_store.web.response import Response, json_response
from wsgi_store.web.routing import Custom, Route, Routes, Target

if TYPE_CHECKING:
    from wsgi_store.protocols.nostr import Event

HASH = re.compile("[0-9a-f]{64}")
BLOB = re.compile(r"/([0-9a-f]{64})(?:\.[^/]*)?")
LENGTH = re.compile("[0-9]{1,18}")
FORM = "multipart/form-data"
# What an event has to allow, and the scope that its key has to have.
VERBS = {"GET": ("get", "read"), "HEAD": ("get", "read"), "DELETE": ("delete", "delete")}
UPLOAD = ("upload", "write")


class Events:
    """Turns a signed event into a grant: of the scopes of its key, for the blob that the request is about.

    `read` reads an event from an Authorization field. `server` is the domain name of the service, by default
    that in the request.
    """

    def __init__(
        self, read: Callable[[str], "Event"], tokens: Tokens, server: str | None, *, public_read: bool
    ) -> None:
        self._read = read
        self._tokens = tokens
        self._server = server
        self._private = not public_read
        self._nobody = Grant(frozenset({"read"} if public_read else ()), private=self._private)

    def __call__(self, environ: Mapping[str, Any]) -> Grant:
        field = environ.get("HTTP_AUTHORIZATION")
        if field is None:
            return self._nobody
        event = self._read(field)
        path = path_of(environ)
        verb, scope = UPLOAD if path == "/upload" else VERBS.get(environ["REQUEST_METHOD"], UPLOAD)
        asked = asked_host(environ)
        event.require(verb, self._server or (asked.host if asked else None))
        granted = self._tokens.find_key(event.key)
        if granted is None:
            raise errors.Denied("this server does not know the key that signed the event")
        allowed = [hash_ for hash_ in event.tags.get("x", ()) if HASH.fullmatch(hash_)]
        hash_ = _of_upload(environ, allowed) if path == "/upload" else _of_path(path)
        if hash_ not in allowed and (verb != "get" or "x" in event.tags):
            raise errors.Unauthenticated("the event does not name this blob: expected its hash in a tag x")
        return replace(granted, scopes=granted.scopes & {scope}, hash=hash_, private=self._private)


def _of_path(path: str) -> str | None:
    match = BLOB.fullmatch(path)
    return match[1] if match else None


def _of_upload(environ: Mapping[str, Any], allowed: list[str]) -> str | None:
    """Return the hash of the blob that a request is going to upload; raises BadRequest."""
    named = _announced(environ)
    if named is None and len(set(allowed)) > 1:
        raise errors.BadRequest("X-SHA-256: expected the hash of the blob, because the event has several")
    return named or next(iter(allowed), None)


def _announced(environ: Mapping[str, Any]) -> str | None:
    named: str | None = environ.get("HTTP_X_SHA_256")
    if named is not None and not HASH.fullmatch(named):
        raise errors.BadRequest("X-SHA-256: expected 64 hex digits in lower case")
    return named


def create_app(config: Config, authorize: Authorize | None = None) -> Application:
    """Create the WSGI application (PEP 3333) for a host application to mount at the root of a site.

    `authorize` replaces signed events, as in `wsgi_store.create_app`. Raises ConfigError and StoreError.
    """
    return Application(_backend(config, authorize), _routes())


def _create_server_app(config: Config) -> Application:
    backend = _backend(config, None)
    atexit.register(backend.hashes.tell)
    return Application(backend, _routes(), access_log=AccessLog(config.log_level, config.log_format))


def _backend(config: Config, authorize: Authorize | None) -> Backend:
    if Protocol.BLOSSOM not in config.protocols:
        raise errors.ConfigError("WSGI_STORE_PROTOCOLS: this application needs blossom among them")
    # Pages of all sites may use it: only signed events count, and no browser adds one by itself.
    backend = create_backend(replace(config, cors_origins=("*",)), authorize or _events(config))
    require_at_start(backend, Protocol.BLOSSOM, Algorithm.SHA256)
    return backend


def _events(config: Config) -> Events:
    config.require_sense()
    if config.tokens is None:
        raise errors.ConfigError("WSGI_STORE_TOKENS: blossom needs the file with the keys that it accepts")
    # Imported only when it is needed: coincurve is optional.
    try:
        from wsgi_store.protocols.nostr import Event  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise errors.ConfigError(
            f"WSGI_STORE_PROTOCOLS: blossom: {error}: install the extra blossom (docs/blossom.md)"
        ) from None
    server = parse_authority(urlsplit(config.public_url).netloc).host if config.public_url else None
    return Events(Event.read, Tokens(config.tokens), server, public_read=config.public_read)


def _routes() -> Routes:
    return Routes(TABLE, [CUSTOM], lambda request: Target(request.path))


def __getattr__(name: str) -> Application:
    if name != "application":
        raise AttributeError(name)
    # Loaded when a server asks for it, because a host application only wants `create_app`.
    application = globals()["application"] = load(_create_server_app)
    return application


def get(request: Request, hash_: str, extension: str | None = None) -> Response:
    """Send a blob; the extension tells its type."""
    _require_sha256(request, hash_)
    return download(request, hash_, None if extension is None else f"{hash_}.{extension}")


def upload(request: Request) -> Response:
    """Store the body, which must have the hash that the event allows and that of X-SHA-256."""
    require(request.store, Algorithm.SHA256)
    base = request.base  # which a request may lack, before its body is read
    named = _announced(request.environ)
    receipt = request.receive(None if named is None else request.digest(named, "X-SHA-256"))
    blobs.note(request, receipt)
    hash_ = next(name.hex for name in receipt.names if name.algorithm is Algorithm.SHA256)
    name = hash_ + ending_of(parse_options_header(request.environ.get("CONTENT_TYPE"))[0].lower())
    told = {
        "url": f"{base}/{name}",
        "sha256": hash_,
        "size": receipt.size,
        # What a download will say.
        "type": describe(name)[0].partition(";")[0],
        # An upload of a blob that the store has counts as adding it.
        "uploaded": int(time.time()),
    }
    return json_response(told, status=201 if receipt.created else 200)


def check(request: Request) -> Response:
    """Tell whether an upload would be accepted (BUD-06)."""
    require(request.store, Algorithm.SHA256)
    _announced(request.environ)
    if request.environ.get("HTTP_X_CONTENT_TYPE", "").partition(";")[0].strip().lower() == FORM:
        raise errors.UnsupportedMediaType("X-Content-Type: expected the file itself, not a form")
    length = request.environ.get("HTTP_X_CONTENT_LENGTH")
    if length is None:
        raise errors.LengthRequired("X-Content-Length: expected the size of the blob in bytes")
    if not LENGTH.fullmatch(length):
        raise errors.BadRequest("X-Content-Length: expected the size of the blob in bytes")
    request.backend.staging.admit(int(length), request.grant.max_size)
    return Response([], 200, [("Cache-Control", "no-store")])


def delete(request: Request, hash_: str, extension: str | None = None) -> Response:
    """Remove a blob, whatever the extension."""
    del extension
    _require_sha256(request, hash_)
    return blobs.delete(request, hash_)


def openapi(request: Request) -> Response:
    """Send the OpenAPI 3.1 description of this application; raises PreconditionFailed."""
    return _description().answer(request, [("Cache-Control", "no-cache")])


@cache
def _description() -> Document:
    return Document("application/json", Path(__file__).with_suffix(".json").read_bytes())


def _require_sha256(request: Request, hash_: str) -> None:
    require(request.store, Algorithm.SHA256)
    if not HASH.fullmatch(hash_):
        raise errors.BadRequest("expected a sha256, 64 hex digits in lower case")


def refuse(
    request: Request, error: errors.WSGIStoreError, identity: str, unforeseen: Exception | None
) -> Response:
    """Answer with a failure as this protocol wants it: by its status, and X-Reason."""
    del request
    if isinstance(error, errors.DigestMismatch):
        error.status = 409  # BUD-02
    response = problems.problem(error, identity, unforeseen=unforeseen)
    fields = [field for field in response.headers if field[0] != "WWW-Authenticate"]
    if isinstance(error, errors.Unauthenticated):
        fields.append(("WWW-Authenticate", "Nostr"))
    reason = "".join(c if c.isascii() and c.isprintable() else "?" for c in error.message)
    response.headers = [*fields, ("X-Reason", reason)]
    return response


CUSTOM = Custom(re.compile(""), None, refuse)
PATHS = ("/<hash:hash_>", "/<hash:hash_>.<string:extension>")
TABLE = [
    Route("/openapi.json", "GET", openapi, None, custom=CUSTOM),
    Route("/upload", "PUT", upload, "write", custom=CUSTOM),
    Route("/upload", "HEAD", check, "write", custom=CUSTOM),
    METALINK._replace(custom=CUSTOM),  # this extension is no type
    *(Route(path, "GET", get, "read", custom=CUSTOM) for path in PATHS),
    *(Route(path, "DELETE", delete, "delete", custom=CUSTOM) for path in PATHS),
]
