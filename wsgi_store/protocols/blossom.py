"""Blossom (BUD-01, 02, 06, 11 and 12): blobs by sha256 at the root of a mount of its own.

`wsgi_store.protocols.blossom:application` is configured by the environment, as `wsgi_store.wsgi` is.
"""

import base64
import binascii
import hashlib
import json
import mimetypes
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coincurve import PublicKeyXOnly
from werkzeug.http import parse_options_header

from wsgi_store import errors
from wsgi_store.access.grant import Authorize, Grant
from wsgi_store.access.tokens import Tokens
from wsgi_store.assembly import create_backend
from wsgi_store.choices import Protocol
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.loading import load
from wsgi_store.protocols.algorithms import require, require_at_start
from wsgi_store.web import blobs, problems
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.application import Application
from wsgi_store.web.download import download
from wsgi_store.web.hosts import asked_host
from wsgi_store.web.media_types import describe
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Response, json_response
from wsgi_store.web.routing import Custom, Route, Routes, Target

# Bytes of the longest event; one allows hundreds of blobs.
LONGEST = 8 << 10
KIND = 24242
# Seconds that the clock of a client may be ahead of ours.
AHEAD = 60
HEX = re.compile("[0-9a-f]{64}")
SIGNATURE = re.compile("[0-9a-f]{128}")
BLOB = re.compile(r"/([0-9a-f]{64})(?:\.[^/]*)?\Z")
# What an event has to allow, and the scope that its key has to have.
VERBS = {"GET": ("get", "read"), "HEAD": ("get", "read"), "DELETE": ("delete", "delete")}
UPLOAD = ("upload", "write")


def routes() -> Routes:
    """Return the URLs of this protocol."""
    custom = Custom(re.compile(""), None, refuse)
    table = [
        Route("/upload", "PUT", upload, "write", custom=custom),
        Route("/upload", "HEAD", check, "write", custom=custom),
    ]
    for path in ("/<hash:hash_>", "/<hash:hash_>.<string:extension>"):
        table += [
            Route(path, "GET", get, "read", custom=custom),
            Route(path, "DELETE", delete, "delete", custom=custom),
        ]
    return Routes(table, [custom], lambda request: Target(request.path))


@dataclass(frozen=True, slots=True)
class Event:
    """A signed event (NIP-01) that allows an action, and its tags."""

    key: str
    tags: Mapping[str, list[str]]

    @classmethod
    def read(cls, field: str) -> "Event":
        """Read the event in an Authorization field; raises Unauthenticated."""
        scheme, _, text = field.strip().partition(" ")
        if scheme.lower() != "nostr" or len(text) > LONGEST:
            raise errors.Unauthenticated(
                f"expected Authorization: Nostr with an event of {LONGEST} bytes at most"
            )
        try:
            event = json.loads(_decoded(text.strip()))
            key, tags = event["pubkey"], event["tags"]
            signed = [0, key, event["created_at"], event["kind"], tags, event["content"]]
            if not (HEX.fullmatch(key) and SIGNATURE.fullmatch(event["sig"])):
                raise ValueError
            if event["kind"] != KIND or not isinstance(event["created_at"], int):
                raise ValueError
            data = json.dumps(signed, ensure_ascii=False, separators=(",", ":")).encode()
            identity = hashlib.sha256(data).digest()
            if identity.hex() != event["id"]:
                raise ValueError
            known = PublicKeyXOnly(bytes.fromhex(key)).verify(bytes.fromhex(event["sig"]), identity)
            found: dict[str, list[str]] = {}
            for name, value, *_ in tags:
                found.setdefault(name, []).append(value)
            if not all(isinstance(value, str) for values in found.values() for value in values):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise errors.Unauthenticated("malformed event, or not one of kind 24242") from None
        if not known:
            raise errors.Unauthenticated("the signature of the event is wrong")
        if event["created_at"] > time.time() + AHEAD:
            raise errors.Unauthenticated("the event is from the future")
        return cls(key, found)

    def require(self, verb: str, host: str | None) -> None:
        """Raise Unauthenticated unless the event allows an action on this server now."""
        expires = self.tags.get("expiration", [""])[0]
        if not re.fullmatch("[0-9]{1,12}", expires) or int(expires) <= time.time():
            raise errors.Unauthenticated("the event has expired, or does not say when it does")
        if verb not in self.tags.get("t", ()):
            raise errors.Unauthenticated(f"the event has no tag t with the value {verb}")
        servers = self.tags.get("server")
        if servers is not None and host not in servers:
            raise errors.Unauthenticated("the event is for another server")


def _decoded(text: str) -> bytes:
    # The specification wants the alphabet of URLs without padding, and clients send the other one, too.
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        raise ValueError from None


class Events:
    """Turns a signed event into a grant: of the scopes of its key, for the blob that the request is about."""

    def __init__(self, tokens: Tokens, *, public_read: bool) -> None:
        self._tokens = tokens
        self._private = not public_read
        self._nobody = Grant(frozenset({"read"} if public_read else ()), private=self._private)

    def __call__(self, environ: Mapping[str, Any]) -> Grant:
        field = environ.get("HTTP_AUTHORIZATION")
        if field is None:
            return self._nobody
        event = Event.read(field)
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        verb, scope = UPLOAD if path == "/upload" else VERBS.get(method, UPLOAD)
        asked = asked_host(environ)
        event.require(verb, asked.host if asked else None)
        granted = self._tokens.find_key(event.key)
        if granted is None:
            raise errors.Denied("this key may do nothing here", reason="key")
        allowed = event.tags.get("x")
        hash_ = _hash(environ, path, allowed)
        if (allowed is None and verb != "get") or (allowed is not None and hash_ not in allowed):
            raise errors.Unauthenticated("the event is not for this blob: expected its hash in a tag x")
        return replace(granted, scopes=granted.scopes & {scope}, hash=hash_, private=self._private)


def _hash(environ: Mapping[str, Any], path: str, allowed: list[str] | None) -> str | None:
    """Return the hash of the blob that a request is about; raises BadRequest."""
    if path != "/upload":
        match = BLOB.match(path)
        return match[1] if match else None
    named = environ.get("HTTP_X_SHA_256")
    if named is None and allowed is not None and len(set(allowed)) == 1:
        named = allowed[0]
    if named is None or not HEX.fullmatch(named):
        raise errors.BadRequest("X-SHA-256: expected the hash of the blob, 64 hex digits in lower case")
    return named


def create_app(config: Config, authorize: Authorize | None = None) -> Application:
    """Create the WSGI application (PEP 3333) for a host application to mount at the root of a site.

    `authorize` replaces signed events, as in `wsgi_store.create_app`. Raises ConfigError and StoreError.
    """
    return _created(config, authorize, None)


def _created(config: Config, authorize: Authorize | None, access_log: AccessLog | None) -> Application:
    if Protocol.BLOSSOM not in config.protocols:
        raise errors.ConfigError("WSGI_STORE_PROTOCOLS: this application needs blossom among them")
    if authorize is None:
        if config.tokens is None:
            raise errors.ConfigError(
                "WSGI_STORE_TOKENS: blossom needs the file with the keys that it accepts"
            )
        authorize = Events(Tokens(config.tokens), public_read=config.public_read)
    # Pages of all sites may use it: only signed events count, and no browser adds one by itself.
    backend = create_backend(replace(config, cors_origins=("*",)), authorize)
    require_at_start(backend, Protocol.BLOSSOM, Algorithm.SHA256)
    return Application(backend, routes(), access_log=access_log)


def __getattr__(name: str) -> Application:
    if name != "application":
        raise AttributeError(name)
    # Loaded when a server asks for it, because a host application only wants `create_app`.
    application = globals()["application"] = load(
        lambda config: _created(config, None, AccessLog(config.log_level, config.log_format))
    )
    return application


def get(request: Request, hash_: str, extension: str | None = None) -> Response:
    """Send a blob; the extension tells its type."""
    _require_sha256(request, hash_)
    return download(request, hash_, None if extension is None else f"{hash_}.{extension}")


def upload(request: Request) -> Response:
    """Store the body, which must have the hash that the event allows."""
    require(request.store, Algorithm.SHA256)
    receipt = request.receive()
    blobs.note(request, receipt)
    kind = parse_options_header(request.environ.get("CONTENT_TYPE"))[0].lower()
    hash_ = next(name.hex for name in receipt.names if name.algorithm is Algorithm.SHA256)
    name = f"{hash_}{mimetypes.guess_extension(kind) or '.bin'}"
    told = {
        "url": f"{request.base}/{name}",
        "sha256": hash_,
        "size": receipt.size,
        "type": describe(name)[0].partition(";")[0],
        "uploaded": int(time.time()),
    }
    return json_response(told, status=201 if receipt.created else 200)


def check(request: Request) -> Response:
    """Tell whether an upload would be accepted (BUD-06)."""
    length = request.environ.get("HTTP_X_CONTENT_LENGTH")
    if length is None:
        raise errors.LengthRequired("X-Content-Length: expected the size of the blob in bytes")
    if not re.fullmatch("[0-9]{1,18}", length):
        raise errors.BadRequest("X-Content-Length: expected a number of bytes")
    request.backend.staging.admit(int(length), request.grant.max_size)
    return Response([], 200, [("Cache-Control", "no-store")])


def delete(request: Request, hash_: str, extension: str | None = None) -> Response:  # pylint: disable=unused-argument
    """Remove a blob."""
    _require_sha256(request, hash_)
    return blobs.delete(request, hash_)


def _require_sha256(request: Request, hash_: str) -> None:
    require(request.store, Algorithm.SHA256)
    if not HEX.fullmatch(hash_):
        raise errors.BadRequest("expected a sha256, 64 hex digits in lower case")


def refuse(
    request: Request,  # pylint: disable=unused-argument
    error: errors.WSGIStoreError,
    identity: str,
    unforeseen: Exception | None,
) -> Response:
    """Answer with a failure as this protocol wants it: by its status, and X-Reason."""
    response = problems.problem(error, identity, unforeseen=unforeseen)
    if isinstance(error, errors.DigestMismatch):
        response.status = "409 Conflict"
    fields = [field for field in response.headers if field[0] != "WWW-Authenticate"]
    if isinstance(error, errors.Unauthenticated):
        fields.append(("WWW-Authenticate", "Nostr"))
    reason = "".join(c if c.isascii() and c.isprintable() else "?" for c in error.message)
    response.headers = [*fields, ("X-Reason", reason)]
    return response
