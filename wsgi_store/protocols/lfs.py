"""Git LFS: the batch API with its transfers `basic` and `tus` (docs/api of git-lfs), under /lfs and below it.

The bytes go to the URLs of blobs, by links and tickets where the service signs some.
"""

import json
import re
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from werkzeug.http import parse_options_header

from wsgi_store import errors
from wsgi_store.access.grant import Grant
from wsgi_store.choices import Protocol
from wsgi_store.digest import Algorithm, Digest, parse_any
from wsgi_store.protocols.algorithms import require, require_at_start
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.upload import Upload
from wsgi_store.web import hash_list, problems, uploads
from wsgi_store.web.backend import Backend
from wsgi_store.web.body import read_whole
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Response, to_json
from wsgi_store.web.routing import Custom, Route

KIND = "application/vnd.git-lfs+json"
KINDS = (KIND, "application/json")
# Seconds for which a client may begin a transfer; clients ask again after that.
EXPIRES = 3600
SCOPES = {"download": "read", "upload": "write"}
OID = re.compile("[0-9a-f]{64}")
# Clients ask for a password only if they see this, and browsers do not.
CHALLENGE = ("LFS-Authenticate", 'Basic realm="wsgi_store"')


class Invalid(errors.BadRequest):
    """A request that is well-formed, and not one of this protocol."""

    status = 422


# What a batch tells of an object.
Told: TypeAlias = dict[str, Any]


class Wanted(NamedTuple):
    """An object of a batch."""

    oid: str
    digest: Digest
    size: int


def routes(backend: Backend) -> tuple[list[Route], list[Custom]]:
    """Return the routes of this protocol; raises ConfigError if the store cannot have such blobs."""
    require_at_start(backend, Protocol.LFS, Algorithm.SHA256)
    custom = Custom(re.compile(r"/lfs(?:/|\Z)"), None, refuse)
    resumable = Custom(re.compile(r"/lfs/(?:.*/)?objects/[0-9a-f]{64}/"), uploads.fields, refuse)
    table = []
    for base in ("/lfs", "/lfs/<name:repository>"):
        table += [
            Route(f"{base}/objects/batch", "POST", batch, None, custom=custom),
            Route(f"{base}/objects/verify", "POST", verify, "write", custom=custom),
            # Either may create an upload, which an expired ticket must not do.
            Route(f"{base}/objects/<hash:hash_>/<int:size>", "HEAD", begin, "write", custom=resumable),
            Route(f"{base}/objects/<hash:hash_>/<int:size>", "PATCH", append, "write", custom=resumable),
            Route(f"{base}/locks", "GET", locks, "read", custom=custom),
            Route(f"{base}/locks", "POST", lock, "write", custom=custom),
            Route(f"{base}/locks/verify", "POST", verify_locks, "write", custom=custom),
            Route(f"{base}/locks/<string:id_>/unlock", "POST", lock, "write", custom=custom),
        ]
    return table, [resumable, custom]


def batch(request: Request, repository: str = "") -> Response:
    """Tell where each of many objects is downloaded, or uploaded if the store lacks it."""
    grant = request.authorize()
    if request.backend.signer is not None and not request.args.keys().isdisjoint(("link", "ticket")):
        raise errors.Denied("links and tickets are for one transfer; send a token")
    if grant.scopes.isdisjoint(SCOPES.values()):
        grant.require("read")  # before the body, which tells what is wanted
    asked = _read(request)
    operation, objects = asked.get("operation"), asked.get("objects")
    if not isinstance(operation, str) or operation not in SCOPES:
        raise Invalid("operation: expected download or upload")
    if not isinstance(objects, list):
        raise Invalid("objects: expected a list")
    if len(objects) > hash_list.MOST:
        raise _too_many()
    if operation == "upload" and request.store.read_only:
        raise errors.ReadOnly
    grant.require(SCOPES[operation])
    require(request.store, Algorithm.SHA256)
    by_tus = _transfer(request, operation, asked.get("transfers")) == "tus"
    hash_algo = asked.get("hash_algo") or "sha256"
    if not isinstance(hash_algo, str):
        raise Invalid("hash_algo: expected sha256")
    wanted = [_wanted(one, hash_algo) for one in objects]
    permitted = [_permitted(grant, SCOPES[operation], one) for one in wanted]
    known = [one for one in permitted if isinstance(one, Wanted)]
    if operation == "download":
        tell = _downloads(request, known)
    else:
        tell = _uploads(request, known, f"/lfs/{repository}".rstrip("/"), by_tus=by_tus)
    told = [tell(one) if isinstance(one, Wanted) else one for one in permitted]
    return _answer({"transfer": "tus" if by_tus else "basic", "objects": told, "hash_algo": "sha256"})


def _permitted(grant: Grant, scope: str, one: Wanted | Told) -> Wanted | Told:
    """Return an object, or why the caller may not have it: before the store is asked, of which that tells."""
    if isinstance(one, Wanted):
        try:
            grant.require(scope, one.oid)
        except errors.Denied as error:
            return _failed(one, 403, error.message)
    return one


def _may_look(grant: Grant, one: Wanted) -> bool:
    """Return whether the caller may know that the store has an object."""
    return grant.may_read and (grant.hash or one.oid).lower() == one.oid


def _downloads(request: Request, wanted: list[Wanted]) -> Callable[[Wanted], Told]:
    sizes = request.store.sizes({one.digest for one in wanted})
    quarantined = cache(lambda: {blob.digest for blob in request.store.quarantined()})
    signer = request.backend.signer

    def tell(one: Wanted) -> Told:
        size = sizes.get(one.digest)
        if size is None:
            if one.digest in quarantined():
                return _failed(one, 410, "the blob is damaged; upload it again")
            return _failed(one, 404, "no such blob in this store")
        if size != one.size:
            return _failed(one, 422, f"the blob has {size} bytes")
        path, signed = f"/{one.oid}", None
        if not request.grant.private:
            # Everybody may read it, so that caches may keep it, by a URL that stays the same.
            return _offered(one, download={"href": _url(request, path)})
        if signer is not None:
            signed = f"link={signer.link(one.oid, time.time() + _seconds(request))}"
        return _offered(one, download=_action(request, path, signed))

    return tell


def _uploads(request: Request, wanted: list[Wanted], base: str, *, by_tus: bool) -> Callable[[Wanted], Told]:
    grant, renewal, signer = request.grant, request.backend.renewal, request.backend.signer
    sizes = {one.digest: one.size for one in wanted if _may_look(grant, one)}
    renewed = renewal.renew_all(sizes) if renewal is not None else set()
    limits = [size for size in (request.config.max_size, grant.max_size) if size is not None]
    largest = min(limits, default=None)

    def tell(one: Wanted) -> Told:
        # A list may give two sizes to one object.
        if one.digest in renewed and one.size == sizes[one.digest]:
            return {"oid": one.oid, "size": one.size}
        if largest is not None and one.size > largest:
            return _failed(one, 413, f"the file is larger than {largest} bytes")
        path, signed = f"/{one.oid}", None
        if by_tus:
            # By the credentials of the caller, to whom the unfinished upload belongs in the next batch, too.
            path = f"{base}/objects/{one.oid}/{one.size}"
        elif signer is not None:
            signed = f"ticket={signer.ticket(time.time() + _seconds(request), one.size, one.oid)}"
        actions = {"upload": _action(request, path, signed)}
        if _may_look(grant, one):
            actions["verify"] = _action(request, f"{base}/objects/verify")
        return _offered(one, **actions)

    return tell


def verify(request: Request, **_: str) -> Response:
    """Check that the store has an object that was uploaded, and of what size it is."""
    wanted = _wanted(_read(request), "sha256")
    if not isinstance(wanted, Wanted):
        raise Invalid(wanted["error"]["message"])
    request.grant.require("write", wanted.oid)
    if not _may_look(request.grant, wanted):
        raise errors.Denied("this needs the scope read", scope="read")
    size = request.store.stat(wanted.digest).size
    if size != wanted.size:
        raise Invalid(f"the blob has {size} bytes")
    return _answer({})


def begin(request: Request, hash_: str, size: int, **_: str) -> Response:
    """Tell how far an upload is, after creating it if there is none."""
    return uploads.show(request, _upload(request, hash_, size).identity)


def append(request: Request, hash_: str, size: int, **_: str) -> Response:
    """Append the body to an upload."""
    return uploads.append(request, _upload(request, hash_, size).identity)


def _upload(request: Request, hash_: str, size: int) -> Upload:
    if "HTTP_TUS_RESUMABLE" not in request.environ:
        raise errors.UnsupportedVersion("send Tus-Resumable: 1.0.0")
    wanted = _wanted({"oid": hash_, "size": size}, "sha256")
    if not isinstance(wanted, Wanted):
        raise Invalid(wanted["error"]["message"])
    grant = request.grant
    announced = FileInfo(
        length=size,
        expected=tuple(dict.fromkeys((wanted.digest, *request.wanted))),
        max_size=grant.max_size,
        until=grant.end_by,
    )
    return request.backend.uploads.create(
        grant.owner,
        announced,
        alone=grant.ticket is not None,
        reads=_may_look(grant, wanted),
        publishing=uploads.publishing(request),
    )


def locks(request: Request, **_: str) -> Response:  # pylint: disable=unused-argument
    """List the locks: there are none."""
    return _answer({"locks": [], "next_cursor": ""})


def verify_locks(request: Request, **_: str) -> Response:
    """List the locks before a push: there are none."""
    _read(request)
    return _answer({"ours": [], "theirs": [], "next_cursor": ""})


def lock(request: Request, **_: str) -> Response:
    """Refuse to lock or unlock a file."""
    _read(request)
    raise errors.Unsupported("this service has no locks")


def refuse(
    request: Request,  # pylint: disable=unused-argument
    error: errors.WSGIStoreError,
    identity: str,
    unforeseen: Exception | None,
) -> Response:
    """Answer with a failure as clients of this protocol read it."""
    problems.log(error, identity, unforeseen)
    status, code = problems.status_of(error)
    fields = [(name, value) for name, value in problems.fields_of(error) if name != "WWW-Authenticate"]
    if isinstance(error, errors.Unauthenticated):
        fields.append(CHALLENGE)
    told = {"message": error.message, "code": code, "request_id": identity}
    return Response(to_json(told), status, [*_FIELDS, *fields])


_FIELDS = [("Content-Type", KIND), ("Cache-Control", "no-store"), NO_SNIFFING]


def _read(request: Request) -> dict[str, Any]:
    """Read a JSON object; raises BadRequest, TooLarge and UnsupportedMediaType."""
    # Any page may make a browser send a form, but JSON only after the service has permitted it.
    if parse_options_header(request.environ.get("CONTENT_TYPE"))[0].lower() not in KINDS:
        raise errors.UnsupportedMediaType(f"Content-Type: expected {KIND}")
    request.allow_time()
    try:
        data = read_whole(request.environ, hash_list.LONGEST)
        # Parsed, a list of little things would need much more memory than its text.
        if data.count(b",") > 4 * hash_list.MOST:
            raise _too_many()
        members = json.loads(data)
    except (ValueError, RecursionError):
        raise errors.BadRequest("the body is not JSON") from None
    if not isinstance(members, dict):
        raise errors.BadRequest("expected a JSON object")
    return members


def _too_many() -> errors.TooLarge:
    return errors.TooLarge(f"expected at most {hash_list.MOST} objects", limit=hash_list.MOST)


def _transfer(request: Request, operation: str, offered: object) -> str:
    """Choose how the client transfers objects; without a list it knows `basic` alone."""
    if not isinstance(offered, list) or not offered:
        return "basic"
    if "tus" in offered and operation == "upload" and request.backend.uploads.lacks is None:
        return "tus"
    if "basic" not in offered:
        raise Invalid("transfers: expected basic or tus among them")
    return "basic"


def _wanted(one: object, hash_algo: object) -> Wanted | Told:
    """Read an object, or return why it cannot be one."""
    oid, size = (one.get("oid"), one.get("size")) if isinstance(one, dict) else (None, None)
    # Told again, so that the client knows which object failed.
    told = isinstance(oid, str) and oid.isascii() and len(oid) <= hash_list.LONGEST_HASH
    # To Python a bool is an int.
    if not isinstance(size, int) or isinstance(size, bool):
        size = -1
    asked = {"oid": oid if told else "", "size": size}
    if hash_algo != "sha256":
        return {**asked, "error": {"code": 409, "message": "hash_algo: expected sha256"}}
    if not isinstance(oid, str) or not OID.fullmatch(oid):
        return {**asked, "error": {"code": 422, "message": "oid: expected 64 hex digits in lower case"}}
    if not 0 <= size <= hash_list.MAX_SIZE:
        return {**asked, "error": {"code": 422, "message": "size: expected a whole number of bytes"}}
    return Wanted(oid, parse_any((Algorithm.SHA256,), oid), size)


def _offered(one: Wanted, **actions: dict[str, Any]) -> Told:
    # Otherwise clients would add their credentials to those that the URL has.
    return {"oid": one.oid, "size": one.size, "authenticated": True, "actions": actions}


def _failed(one: Wanted, code: int, message: str) -> Told:
    return {"oid": one.oid, "size": one.size, "error": {"code": code, "message": message}}


def _action(request: Request, path: str, signed: str | None = None) -> dict[str, Any]:
    url = _url(request, path)
    if signed is not None:
        return {"href": f"{url}?{signed}", "expires_in": _seconds(request)}
    field = request.environ.get("HTTP_AUTHORIZATION")
    return {"href": url} if field is None else {"href": url, "header": {"Authorization": field}}


def _url(request: Request, path: str) -> str:
    return f"{request.base}{quote(path)}"


def _seconds(request: Request) -> int:
    return int(min(EXPIRES, request.config.link_expires))


def _answer(told: dict[str, Any]) -> Response:
    return Response(to_json(told), 200, _FIELDS)
