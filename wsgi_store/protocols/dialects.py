"""The dialects of resumable uploads."""

from typing import TYPE_CHECKING

from wsgi_store.errors import BadRequest
from wsgi_store.web.dialect import Dialect
from wsgi_store.web.response import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

TUS = "application/offset+octet-stream"
DRAFT = "application/partial-upload"
# Fields that only tus has.
OF_TUS = {"HTTP_TUS_RESUMABLE", "HTTP_UPLOAD_METADATA", "HTTP_UPLOAD_DEFER_LENGTH", "HTTP_UPLOAD_CHECKSUM"}
OF_DRAFT = {"HTTP_UPLOAD_COMPLETE", "HTTP_UPLOAD_DRAFT_INTEROP_VERSION"}


class AllDialects:
    """The dialects, each imported when it is needed: most processes never see an upload that is continued."""

    # pylint: disable=import-outside-toplevel

    def of(self, environ: "WSGIEnvironment") -> Dialect:
        """Return the one that a client speaks; raises BadRequest."""
        kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        # tus-js-client sends fields of tus in the requests of the draft, too.
        of_draft = kind == DRAFT or not OF_DRAFT.isdisjoint(environ)
        if (
            kind == TUS
            or "HTTP_TUS_RESUMABLE" in environ
            or (not of_draft and not OF_TUS.isdisjoint(environ))
        ):
            from wsgi_store.protocols.tus import Tus

            return Tus()
        if of_draft:
            from wsgi_store.protocols.rufh import Draft

            return Draft(environ)
        # The draft has requests without any field of its own.
        if environ["REQUEST_METHOD"] in ("GET", "HEAD", "DELETE"):
            from wsgi_store.protocols.both import Both

            return Both(environ)
        raise BadRequest("send Tus-Resumable (tus 1.0) or Upload-Complete (Resumable Uploads for HTTP)")

    def options(self, max_size: int | None) -> Headers:
        """Return the fields with the supported protocols and the largest file in bytes."""
        from wsgi_store.protocols import rufh, tus

        return [
            *tus.options(max_size),
            ("Upload-Limit", rufh.limits(max_size)),
            ("Accept-Patch", f"{TUS}, {DRAFT}"),
        ]
