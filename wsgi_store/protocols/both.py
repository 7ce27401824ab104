"""Answers to requests that may be of either protocol: those of the IETF's draft need no field of its own."""

from typing import TYPE_CHECKING

from wsgi_store.errors import WSGIStoreError
from wsgi_store.protocols.rufh import Draft
from wsgi_store.protocols.tus import Tus
from wsgi_store.web.dialect import Outcome
from wsgi_store.web.response import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Both(Draft):
    """The dialect of the draft, with the fields of tus in addition."""

    def answer(self, environ: "WSGIEnvironment", outcome: Outcome) -> tuple[int, Headers]:
        """Return the status of the draft and the fields of both."""
        status, fields = super().answer(environ, outcome)
        return status, _joined(fields, Tus().answer(environ, outcome)[1])

    def fields(self, failure: WSGIStoreError | None) -> Headers:
        """Return the fields of every response."""
        return _joined(super().fields(failure), Tus().fields(failure))


def _joined(fields: Headers, more: Headers) -> Headers:
    known = {name for name, _ in fields}
    return [*fields, *(field for field in more if field[0] not in known)]
