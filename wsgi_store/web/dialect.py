"""How the protocols of resumable uploads differ: in what requests mean, and in the answers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wsgi_store.digest import Digest
from wsgi_store.errors import WSGIStoreError
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.upload import State
from wsgi_store.web.response import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendInfo:
    """What a request announces about the bytes that it appends."""

    offset: int
    length: int | None = None
    """The length of the whole file, if the request has it."""
    complete: bool = False
    """Whether these are the last bytes."""
    expected: tuple[Digest, ...] = ()
    """Digests of these bytes."""
    announced: tuple[Digest, ...] = ()
    """Digests of the whole file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a request about an upload."""

    state: State
    metadata: str
    location: str
    """The URL of the upload."""
    content_location: str | None
    """The URL of the blob, once it is stored."""
    created: bool = False
    """Whether the request was to create the upload."""
    max_size: int | None = None
    """The largest file in bytes."""


class Dialect(Protocol):
    """How a protocol reads requests and writes answers."""

    def require_version(self, environ: "WSGIEnvironment") -> None:
        """Raise UnsupportedVersion if the client speaks another version."""

    def announced(self, environ: "WSGIEnvironment") -> FileInfo:
        """Read the request that creates an upload; raises RequestError."""

    def appended(self, environ: "WSGIEnvironment", length: int | None) -> AppendInfo:
        """Read a request that appends `length` bytes; raises RequestError."""

    def answer(self, environ: "WSGIEnvironment", outcome: Outcome) -> tuple[int, Headers]:
        """Return the status and the fields of a response.

        With status 200 the response to a POST or PATCH has the body of any other upload.
        """

    def interim(self, offset: int, created: Outcome | None = None) -> Headers:
        """Return the fields of an interim response (104); none if the client does not expect one.

        It tells where the upload is if it was `created` just now, and afterwards how many bytes are safe.
        """

    def translated(self, failure: WSGIStoreError) -> WSGIStoreError:
        """Return the failure of a handler with the status that the protocol defines.

        `type` and `title` in its evidence replace those of the problem document.
        """

    def fields(self, failure: WSGIStoreError | None) -> Headers:
        """Return the fields of every response; `failure` is translated if a handler raised it."""


class Dialects(Protocol):
    """The dialects of one application."""

    def of(self, environ: "WSGIEnvironment") -> Dialect:
        """Return the one that a client speaks; raises BadRequest."""

    def options(self, max_size: int | None) -> Headers:
        """Return the fields with the supported protocols and the largest file in bytes."""
