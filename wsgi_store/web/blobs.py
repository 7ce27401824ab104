"""Handlers of blobs: upload, delete."""

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache, partial

from werkzeug.datastructures import Headers
from werkzeug.sansio.request import Request as Fields

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, FilesRefused, WSGIStoreError
from wsgi_store.logs import logger
from wsgi_store.staging import Receipt
from wsgi_store.web import conditional, page, page_answers, problems
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Response, json_response

PLAIN = "text/plain; charset=utf-8"
OF_PLAIN = [("Content-Type", PLAIN), ("Cache-Control", "no-store"), NO_SNIFFING]


def upload(request: Request, filename: str | None = None) -> Response:
    """Store the body, or the files of a form, and answer with their hashes."""
    if request.is_form and request.environ["REQUEST_METHOD"] == "POST":
        return _upload_form(request)
    return stored(request, request.receive(), filename)


def _upload_form(request: Request) -> Response:
    received = request.receive_form()
    part, outcome = received[0]
    # Who names a field `file[]` wants a list, also of one file.
    if len(received) > 1 or part.field.endswith("[]"):
        return _stored_all(request, [(part.name, outcome) for part, outcome in received])
    if isinstance(outcome, WSGIStoreError):
        raise outcome
    return stored(request, outcome, part.name)


def put(request: Request, hash_: str, filename: str | None = None) -> Response:
    """Store the body if it has this hash; the status tells whether the store lacked it."""
    digest = request.blob_digest(hash_)
    is_conditional = not conditional.FIELDS.isdisjoint(request.environ)
    receipt = request.receive(digest, partial(_require, request, digest) if is_conditional else None)
    if not receipt.created:
        # Another upload may have been faster since the last look at the store.
        conditional.require_absent(request.environ, receipt.names)
    return stored(request, receipt, filename, 201 if receipt.created else 200)


def _require(request: Request, digest: Digest) -> None:
    blob = None
    with suppress(BlobNotFound):
        blob = request.store.stat(digest)
    names = (digest,) if blob is None else blob.names
    conditional.require(request.environ, blob, request.other_names(names))


def stored(request: Request, receipt: Receipt, name: str | None, status: int = 200) -> Response:
    """Answer an upload whose file is stored."""
    hash_ = receipt.digest.hex
    note(request, receipt)
    url = url_of(request, hash_)
    # A CGI server would follow Location and send the blob instead (RFC 3875 section 6.2.2).
    headers = [] if "GATEWAY_INTERFACE" in request.environ else [("Location", url)]
    if request.is_form and page.is_wanted(request):
        return page_answers.stored(request, told(request, receipt, name), headers)
    if prefers_text(request.accept):
        return Response(f"{hash_}\n".encode(), status, OF_PLAIN + headers)
    return json_response(told(request, receipt, name), headers, status)


def _stored_all(request: Request, files: list[tuple[str | None, Receipt | WSGIStoreError]]) -> Response:
    """Answer a form with several files; raises FilesRefused unless all are stored."""
    identity = request.exchange.request_id
    # One failure of the store may be that of many files.
    for failure in {id(outcome): outcome for _, outcome in files}.values():
        if isinstance(failure, WSGIStoreError):
            problems.log(failure, identity)
    receipts = [outcome for _, outcome in files if isinstance(outcome, Receipt)]
    request.exchange.files = len(receipts)
    request.exchange.size = sum(receipt.size for receipt in receipts)
    for receipt in receipts:
        _log_unusual(receipt)
    entries = [
        told(request, outcome, name) if isinstance(outcome, Receipt) else _refused(outcome, name)
        for name, outcome in files
    ]
    if len(receipts) < len(files):
        raise FilesRefused(files=entries)
    if page.is_wanted(request):
        return page_answers.stored_all(request, entries)
    if prefers_text(request.accept):
        return Response("".join(f"{entry['hash']}\n" for entry in entries).encode(), 200, OF_PLAIN)
    return json_response({"files": entries})


def _refused(failure: WSGIStoreError, name: str | None) -> dict[str, object]:
    return {"error": problems.told(failure), **({} if name is None else {"name": name})}


def note(request: Request, receipt: Receipt) -> None:
    """Note what an upload stored in the access log, and in the server log if it is unusual."""
    request.exchange.hash, request.exchange.size = receipt.digest.hex, receipt.size
    _log_unusual(receipt)


def _log_unusual(receipt: Receipt) -> None:
    if receipt.healed:
        logger.warning("an upload replaced the damaged blob {}", receipt.digest.hex)
    if receipt.ambiguous:
        names = " and ".join(algorithm.value for algorithm in receipt.ambiguous)
        logger.warning("another file has the {} of the new blob {}", names, receipt.digest.hex)


def told(request: Request, receipt: Receipt, name: str | None) -> dict[str, object]:
    """Return what an upload is answered with."""
    answer: dict[str, object] = {
        "hash": receipt.digest.hex,
        "algorithm": receipt.digest.algorithm.value,
        "names": names_of(receipt.names),
        "size": receipt.size,
        "url": url_of(request, receipt.digest.hex),
        "created": receipt.created,
    }
    if receipt.healed:
        answer["healed"] = True
    if receipt.ambiguous:
        answer["ambiguous"] = [algorithm.value for algorithm in receipt.ambiguous]
    if name is not None:
        answer["name"] = name
    return answer


def delete(request: Request, hash_: str) -> Response:
    """Remove a blob and answer with its size in bytes."""
    digest = request.blob_digest(hash_)
    # Looked up before, because the store holds its lock while it checks.
    others = request.other_names((digest,))
    blob = request.store.remove(digest, partial(conditional.not_modified, request.environ, others=others))
    hash_ = blob.names[0].hex
    request.exchange.hash, request.exchange.size = hash_, blob.size
    return json_response({"hash": hash_, "names": names_of(blob.names), "size": blob.size})


# Parsing takes as long as the rest of the answer, and clients send few different values.
@lru_cache(64)
def prefers_text(accept: str) -> bool:
    """Return whether an Accept field asks for plain text before JSON."""
    # Also with its parameter, which a client may name.
    fields = Fields("POST", "http", None, "", "/", b"", Headers({"Accept": accept}), None)
    wanted = fields.accept_mimetypes.best_match(["application/json", "text/plain", PLAIN])
    return wanted in ("text/plain", PLAIN)


def names_of(digests: Iterable[Digest]) -> dict[str, str]:
    """Return hashes by their algorithms."""
    return {digest.algorithm.value: digest.hex for digest in digests}


def url_of(request: Request, hash_: str) -> str:
    """Return the URL of a blob."""
    return f"{request.mount}/{hash_}"
