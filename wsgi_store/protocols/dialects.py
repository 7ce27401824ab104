"""The dialects of resumable uploads."""

from typing import TYPE_CHECKING

from wsgi_store.errors import BadRequest
from wsgi_store.web.dialect import Dialect
from wsgi_store.web.response import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

TUS = "application/offset+octet-stream"
DRAFT = "application/partial-upload"


class Spoken:
    """The dialects, each imported when it is needed: most processes never see an upload that is continued."""

    # pylint: disable=import-outside-toplevel

    def of(self, environ: "WSGIEnvironment") -> Dialect:
        """Return the one that a client speaks; raises BadRequest."""
        kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if "HTTP_TUS_RESUMABLE" in environ or kind == TUS:
            from wsgi_store.protocols.tus import Tus

            return Tus()
        asks = environ["REQUEST_METHOD"] in ("GET", "HEAD", "DELETE")
        if asks or "HTTP_UPLOAD_COMPLETE" in environ or kind == DRAFT:
            from wsgi_store.protocols.rufh import Draft

            return Draft()
        raise BadRequest("send Tus-Resumable (tus 1.0), or Upload-Complete (Resumable Uploads for HTTP)")

    def options(self, environ: "WSGIEnvironment", max_size: int | None) -> Headers:
        """Return the fields that tell what is spoken, and the largest file in bytes."""
        from wsgi_store.protocols import rufh, tus

        return [
            *tus.options(max_size),
            ("Upload-Limit", rufh.limits(environ, max_size)),
            ("Accept-Patch", f"{TUS}, {DRAFT}"),
        ]
