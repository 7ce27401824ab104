"""Documents that the service itself brings along: conditional, and compressed for whoever takes that."""

import gzip
import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from werkzeug.wrappers import Request as Fields

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import Blob
from wsgi_store.web import conditional
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Headers, Response


class Form:
    """The bytes of a document as they are sent, and a blob by which to evaluate conditions."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        digest = Digest(Algorithm.SHA256, hashlib.sha256(data).digest())
        # Each process has its own time, so none is sent as Last-Modified. Now is safe for dates that a
        # client has from elsewhere.
        self.blob = Blob(digest, size=len(data), modified=time.time())


@dataclass(frozen=True)
class Document:
    """A document and its media type."""

    kind: str
    data: bytes

    def answer(self, request: Request, fields: Headers, vary: Iterable[str] = ()) -> Response:
        """Answer a GET or HEAD; `vary` names the fields that chose this document.

        Raises PreconditionFailed.
        """
        packed = _takes_gzip(request.listed("HTTP_ACCEPT_ENCODING"))
        form = self._packed if packed else self._plain
        # A strong tag names bytes, and compressed ones are others (RFC 9110 section 8.8.3.3).
        fields = [
            *fields,
            ("Vary", ", ".join(["Accept-Encoding", *vary])),
            ("ETag", f'"{form.blob.digest.hex}"'),
        ]
        if conditional.not_modified(request.environ, form.blob):
            return Response([], 304, fields)
        fields += [("Content-Type", self.kind), NO_SNIFFING]
        return Response(form.data, 200, [*fields, ("Content-Encoding", "gzip")] if packed else fields)

    @cached_property
    def _plain(self) -> Form:
        return Form(self.data)

    @cached_property
    def _packed(self) -> Form:
        return Form(gzip.compress(self.data, mtime=0))


# Clients send few different values.
@lru_cache(64)
def _takes_gzip(accept: str) -> bool:
    return Fields({"HTTP_ACCEPT_ENCODING": accept}).accept_encodings["gzip"] > 0
