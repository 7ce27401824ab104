"""Handlers of resumable uploads: one resource, to which clients speak by one of several dialects."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from wsgi_store.access.tickets import Ticket
from wsgi_store.digest import Chunk
from wsgi_store.errors import (
    BadRequest,
    ChecksumMismatch,
    Denied,
    IncompleteBody,
    InconsistentLength,
    LengthRequired,
    RequestTimeout,
    StorageFull,
    StoreUnavailable,
    WSGIStoreError,
)
from wsgi_store.uploads.upload import State, Upload
from wsgi_store.web.blobs import note, stored, told
from wsgi_store.web.body import announces_body, open_upload
from wsgi_store.web.dialect import AppendInfo, Dialect, Outcome
from wsgi_store.web.request import UPLOAD_FIELDS, Request
from wsgi_store.web.response import Headers, Response, json_response

# The paths about uploads.
OF_UPLOADS = re.compile(r"/uploads(?:/|\Z)")
# Methods that some networks block; any other could make a request look like a safe one.
OVERRIDING = ("PATCH", "DELETE")

# Failures after which the client can go on with an upload that it has just created.
RESUMABLE = (IncompleteBody, RequestTimeout, ChecksumMismatch, StorageFull, StoreUnavailable)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A body, and what the request says of it."""

    chunks: Iterator[Chunk]
    length: int | None
    said: AppendInfo


def create(request: Request) -> Response:
    """Create an upload, or find the unfinished one of the same file, and append the body."""
    request.allow_time()
    with _speaking(request) as dialect:
        announced = dialect.announced(request.environ)
        grant = request.grant
        expected = (*announced.expected, *request.wanted)
        announced = replace(
            announced,
            expected=tuple(dict.fromkeys(expected)),
            max_size=grant.max_size,
            until=grant.end_by,
        )
        # Read before the upload is created: a request that is refused leaves none.
        incoming = _incoming(request, dialect) if announces_body(request.environ) else None
        if (
            incoming is not None
            and announced.length is not None
            and (incoming.length or 0) > announced.length
        ):
            raise InconsistentLength("more bytes than were announced", expected=announced.length)
        upload = request.backend.uploads.create(
            grant.owner,
            announced,
            alone=grant.ticket is not None,
            reads=grant.may_read,
            publishing=publishing(request),
        )
        state = upload.state(publishing(request, upload))
        if state.offset == 0 and state.receipt is None and incoming is not None:
            try:
                state = _append(request, dialect, upload, incoming, created=state)
            except RESUMABLE as error:
                error.evidence["upload"] = _location(request, upload)
                raise
        return _answer(request, dialect, upload, state, created=True)


def append(request: Request, id_: str) -> Response:
    """Append the body to an upload."""
    request.allow_time()
    with _speaking(request) as dialect:
        upload = request.backend.uploads.find(request.grant.owner, id_)
        incoming = _incoming(request, dialect)
        return _answer(request, dialect, upload, _append(request, dialect, upload, incoming))


def show(request: Request, id_: str) -> Response:
    """Answer with the state of an upload."""
    with _speaking(request) as dialect:
        upload = request.backend.uploads.find(request.grant.owner, id_)
        state = upload.state(publishing(request, upload))
        answer = _answer(request, dialect, upload, state)
    if request.environ["REQUEST_METHOD"] == "HEAD":
        return answer
    announced = upload.announced
    described: dict[str, object] = {
        "offset": state.offset,
        "length": state.length,
        "expires": int(state.expires),
    }
    if state.receipt is not None:
        described |= told(request, state.receipt, announced.name)
    elif announced.name is not None:
        described["name"] = announced.name
    # The other fields describe the blob, not this document.
    return json_response(described, [field for field in answer.headers if field[0].startswith("Upload-")])


def remove(request: Request, id_: str) -> Response:
    """Remove an upload; a request that appends to it ends."""
    with _speaking(request):
        request.backend.uploads.find(request.grant.owner, id_).remove()
    return Response([], 204, [])


def options(request: Request, allowed: str) -> Response:
    """Answer with the supported protocols and their limits."""
    fields_ = request.backend.dialects.options(request.config.max_size)
    if not OF_UPLOADS.match(request.path):  # only clients of the IETF's draft can upload there
        fields_ = [field for field in fields_ if field[0] == "Upload-Limit"]
    return Response([], 204, [("Allow", allowed), *fields_])


def is_upgrade(request: Request) -> bool:
    """Whether a plain upload can become a resumable one: the client learns meanwhile where it may go on."""
    environ = request.environ
    if request.exchange.interim is None or "HTTP_UPLOAD_COMPLETE" not in environ:
        return False
    is_form = environ.get("CONTENT_TYPE", "").lower().startswith("multipart/form-data")
    return not is_form and bool(request.backend.dialects.of(environ).interim(0))


def fields(request: Request, failure: WSGIStoreError | None) -> Headers:
    """Return the fields of every response about uploads."""
    try:
        spoken = request.backend.dialects.of(request.environ).fields(failure)
    except BadRequest:
        return []
    if failure is not None and "upload" in failure.evidence:
        spoken.append(("Location", str(failure.evidence["upload"])))
    return spoken


def override_method(request: Request) -> None:
    """Use the method in X-HTTP-Method-Override, for clients of tus that can send nothing but POST.

    From here on it is the method of the request in every respect. Raises BadRequest.
    """
    environ = request.environ
    if environ["REQUEST_METHOD"] != "POST" or "HTTP_TUS_RESUMABLE" not in environ:
        return
    if OF_UPLOADS.match(request.path):
        method = environ["HTTP_X_HTTP_METHOD_OVERRIDE"]
        if method not in OVERRIDING:
            raise BadRequest(f"X-HTTP-Method-Override: expected {' or '.join(OVERRIDING)}")
        environ["REQUEST_METHOD"] = method


@contextmanager
def _speaking(request: Request) -> Iterator[Dialect]:
    """Yield the dialect of a client, and translate failures into it."""
    request.require_short_fields(UPLOAD_FIELDS)
    dialect = request.backend.dialects.of(request.environ)
    dialect.require_version(request.environ)
    try:
        yield dialect
    except WSGIStoreError as error:
        raise dialect.translated(error) from error.__cause__


def _answer(
    request: Request, dialect: Dialect, upload: Upload, state: State, *, created: bool = False
) -> Response:
    result = state.receipt
    status, fields_ = dialect.answer(request.environ, _outcome(request, upload, state, created=created))
    asked = request.environ["REQUEST_METHOD"] in ("GET", "HEAD")
    if result is not None and not asked:
        if status == 200:
            response = stored(request, result, upload.announced.name)
            if "Location" in dict(fields_):
                response.headers = [field for field in response.headers if field[0] != "Location"]
            response.headers += fields_
            return response
        note(request, result)
    return Response([] if asked or status == 204 else b"", status, [*fields_, ("Cache-Control", "no-store")])


def _outcome(request: Request, upload: Upload, state: State, *, created: bool) -> Outcome:
    result = state.receipt
    return Outcome(
        state=state,
        metadata=upload.announced.metadata,
        location=_location(request, upload),
        content_location=None if result is None else f"{request.mount}/{result.digest.hex}",
        created=created,
        max_size=request.config.max_size,
    )


def _location(request: Request, upload: Upload) -> str:
    return f"{request.mount}/uploads/{upload.identity}"


def _incoming(request: Request, dialect: Dialect) -> Incoming:
    """Read what a request says of its body."""
    environ = request.environ
    body: Iterator[Chunk] = iter(())
    # Without either field a request has no body (RFC 9112 section 6.3).
    length: int | None = 0
    if announces_body(environ):
        body, length = open_upload(environ)
    said = dialect.appended(environ, length)
    said = replace(said, announced=(*said.announced, *request.wanted))
    if said.complete and not announces_body(environ) and not environ.get("CONTENT_LENGTH"):
        # Some servers do not pass on a body without a length.
        raise LengthRequired("send Content-Length: 0 if these are the last bytes")
    return Incoming(body, length, said)


def _append(
    request: Request, dialect: Dialect, upload: Upload, incoming: Incoming, created: State | None = None
) -> State:
    said, send, chunks = incoming.said, request.exchange.interim, incoming.chunks
    progress = None
    if send is not None and dialect.interim(0):
        progress = partial(_tell, send, dialect)
        if created is not None:
            outcome = _outcome(request, upload, created, created=True)
            chunks = _announced(send, dialect.interim(0, outcome), chunks)
    return upload.append(
        chunks,
        said.offset,
        incoming=incoming.length,
        length=said.length,
        complete=said.complete,
        expected=said.expected,
        digests=said.announced,
        publishing=publishing(request, upload),
        progress=progress,
    )


def _announced(send: Callable[[Headers], None], fields_: Headers, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Tell where the upload is once it is held: whoever asks for it earlier is told an offset that is old."""
    send(fields_)
    yield from chunks


def _tell(send: Callable[[Headers], None], dialect: Dialect, offset: int) -> None:
    send(dialect.interim(offset))


@contextmanager
def publishing(request: Request, upload: Upload | None = None) -> Iterator[None]:
    """Look at the caller's rights again: they may have changed while the file arrived."""
    grant = request.backend.authorize(request.environ)
    grant.require("write", continues=upload is not None)
    if grant.owner != request.grant.owner:
        raise Denied("these credentials belong to somebody else by now")
    ticket = grant.ticket
    if upload is not None and isinstance(ticket, Ticket):
        ticket = ticket.of_upload(upload.identity)
    with ticket or nullcontext():
        yield
