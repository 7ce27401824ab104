"""Handlers of resumable uploads: one resource, to which clients speak by one of several dialects."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from wsgi_store.errors import BadRequest, Denied, WSGIStoreError
from wsgi_store.uploads.upload import State, Upload
from wsgi_store.web.blobs import stored, told
from wsgi_store.web.body import open_upload
from wsgi_store.web.dialect import Dialect, Outcome
from wsgi_store.web.request import Request
from wsgi_store.web.response import Headers, Response, json_response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def create(request: Request) -> Response:
    """Create an upload, or find the unfinished one of the same file, and append the body."""
    request.allow_time()
    dialect = _dialect(request)
    announced = dialect.announced(request.environ)
    grant = request.grant
    wanted = request.args.getlist("hash") + ([grant.hash] if grant.hash is not None else [])
    expected = (*announced.expected, *(request.digest(text, "hash") for text in wanted))
    upload = request.backend.uploads.create(
        grant.owner, replace(announced, expected=expected, max_size=grant.max_size)
    )
    state = upload.state(_publishing(request))
    if state.offset == 0 and state.receipt is None and _has_body(request):
        state = _append(request, dialect, upload)
    return _answer(request, dialect, upload, state, created=True)


def append(request: Request, id_: str) -> Response:
    """Append the body to an upload."""
    request.allow_time()
    dialect = _dialect(request)
    upload = request.backend.uploads.find(request.grant.owner, id_)
    return _answer(request, dialect, upload, _append(request, dialect, upload))


def show(request: Request, id_: str) -> Response:
    """Tell how far an upload is."""
    upload = request.backend.uploads.find(request.grant.owner, id_)
    state = upload.state(_publishing(request))
    if request.environ["REQUEST_METHOD"] == "HEAD":
        return _answer(request, _dialect(request), upload, state)
    described: dict[str, object] = {"offset": state.offset, "length": state.length, "expires": state.expires}
    if state.receipt is not None:
        described |= told(request, state.receipt, upload.announced.name)
    return json_response(described)


def options(request: Request, allowed: str) -> Response:
    """Tell which protocols are spoken, and their limits."""
    fields = request.backend.dialects.options(request.environ, request.config.max_size)
    return Response([], 204, [("Allow", allowed), *fields])


def fields(request: Request, failure: WSGIStoreError | None) -> Headers:
    """Return the fields of every response about uploads."""
    try:
        return _dialect(request).fields(failure)
    except BadRequest:
        return []


def method_of(environ: "WSGIEnvironment", path: str) -> str:
    """Return the method of a request, which a client of tus can give in a field."""
    method: str = environ["REQUEST_METHOD"]
    if method == "POST" and "HTTP_X_HTTP_METHOD_OVERRIDE" in environ and path.startswith("/uploads/"):
        if "HTTP_TUS_RESUMABLE" in environ:
            return str(environ["HTTP_X_HTTP_METHOD_OVERRIDE"])
    return method


def remove(request: Request, id_: str) -> Response:
    """Remove an upload; a request that appends to it ends."""
    request.backend.uploads.find(request.grant.owner, id_).remove()
    return Response([], 204, [])


def _dialect(request: Request) -> Dialect:
    return request.backend.dialects.of(request.environ)


def _answer(
    request: Request, dialect: Dialect, upload: Upload, state: State, *, created: bool = False
) -> Response:
    result = state.receipt
    outcome = Outcome(
        state=state,
        metadata=upload.announced.metadata,
        location=f"{request.mount}/uploads/{upload.identity}",
        content_location=None if result is None else f"{request.mount}/{result.digest.hex}",
        created=created,
        max_size=request.config.max_size,
    )
    status, fields_ = dialect.answer(request.environ, outcome)
    if result is None or status != 200 or request.environ["REQUEST_METHOD"] == "HEAD":
        return Response([] if status == 204 else b"", status, [*fields_, ("Cache-Control", "no-store")])
    response = stored(request, result, upload.announced.name)
    response.headers += fields_
    return response


def _append(request: Request, dialect: Dialect, upload: Upload) -> State:
    chunks, length = open_upload(request.environ)
    appended = dialect.appended(request.environ, length)
    return upload.append(
        chunks,
        appended.offset,
        length=appended.length,
        complete=appended.complete,
        expected=appended.expected,
        publishing=_publishing(request),
    )


def _has_body(request: Request) -> bool:
    environ = request.environ
    return "HTTP_TRANSFER_ENCODING" in environ or environ.get("CONTENT_LENGTH", "") not in ("", "0")


@contextmanager
def _publishing(request: Request) -> Iterator[None]:
    """Look at the caller's rights again: they may have changed while the file arrived."""
    grant = request.backend.authorize(request.environ)
    grant.require("write")
    if grant.owner != request.grant.owner:
        raise Denied("these credentials belong to somebody else by now")
    with grant.ticket or nullcontext():
        yield
