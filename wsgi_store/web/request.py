"""A request: its path, parameters, credentials and body."""

import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from werkzeug.datastructures import MultiDict
from werkzeug.http import parse_options_header

from wsgi_store.access.grant import EVERYTHING, Grant
from wsgi_store.authority import DEFAULT_PORTS, authority_of
from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import (
    BadRequest,
    BlobNotFound,
    HeadTooLarge,
    UnsupportedMediaType,
    WSGIStoreError,
)
from wsgi_store.hashing import checked
from wsgi_store.staging import Receipt
from wsgi_store.web import conditional
from wsgi_store.web.backend import Backend
from wsgi_store.web.body import chunks, open_body
from wsgi_store.web.digest_fields import digests_of
from wsgi_store.web.exchange import exchange_of
from wsgi_store.web.form import FORM_OVERHEAD, Form, Part
from wsgi_store.web.hosts import asked_host

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# The maximum length of a header field in bytes. Servers limit single fields, but join those of one name,
# and the time to parse a field grows with its length.
MAX_FIELD = 8190
# The fields that are parsed; a test finds any that is missing here.
FIELDS = tuple(
    f"HTTP_{name}"
    for name in (
        "ACCEPT AUTHORIZATION CONTENT_DIGEST IF_MATCH IF_MODIFIED_SINCE IF_NONE_MATCH IF_RANGE "
        "IF_UNMODIFIED_SINCE REPR_DIGEST TRANSFER_ENCODING"
    ).split()
) + ("CONTENT_TYPE",)
# Further fields that are parsed in requests about uploads.
UPLOAD_FIELDS = tuple(
    f"HTTP_{name}"
    for name in (
        "CONTENT_DISPOSITION UPLOAD_CHECKSUM UPLOAD_COMPLETE UPLOAD_DRAFT_INTEROP_VERSION UPLOAD_LENGTH "
        "UPLOAD_METADATA UPLOAD_OFFSET WANT_REPR_DIGEST"
    ).split()
)
# Characters of a list of preferences that are parsed: each of its items takes as long as a small answer.
MAX_ACCEPT = 1000
ESCAPED = re.compile("[\udc80-\udcff]")


class Request:
    """A request to one application."""

    def __init__(self, environ: "WSGIEnvironment", backend: Backend) -> None:
        self.environ = environ
        self.backend = backend
        self.config = backend.config
        self.store = backend.store
        self.grant = EVERYTHING
        self.exchange = exchange_of(environ)

    @property
    def path(self) -> str:
        """The path below the mount point; bytes that are not UTF-8 are replaced."""
        return path_of(self.environ)

    @property
    def has_credentials(self) -> bool:
        """Whether the request has a token, a link or a ticket."""
        return "HTTP_AUTHORIZATION" in self.environ or not self.args.keys().isdisjoint(("link", "ticket"))

    def authorize(self) -> Grant:
        """Look at the credentials, and return what the caller may do; raises Unauthenticated and Denied."""
        self.grant = self.backend.authorize(self.environ)
        self.exchange.user = self.grant.name
        return self.grant

    def require_short_fields(self, names: Iterable[str] = FIELDS) -> None:
        """Raise HeadTooLarge for a field that would take long to parse."""
        get = self.environ.get
        for name in names:
            if len(get(name, "")) > MAX_FIELD:
                field = name.removeprefix("HTTP_").replace("_", "-").title()
                raise HeadTooLarge(f"the header field {field} is longer than {MAX_FIELD} bytes")

    @property
    def accept(self) -> str:
        """The Accept field, as far as it is read."""
        return self.listed("HTTP_ACCEPT")

    def listed(self, name: str) -> str:
        """Return a list of preferences, cut after the last whole item within MAX_ACCEPT characters."""
        field: str = self.environ.get(name, "")
        return field if len(field) <= MAX_ACCEPT else field[:MAX_ACCEPT].rpartition(",")[0]

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The query parameters; bytes that are not UTF-8 stay quoted."""
        query = self.environ.get("QUERY_STRING", "")
        if not query.isascii():
            # The client should have quoted these bytes; the server decoded them as latin-1 (PEP 3333).
            query = quote(query.encode("latin-1"), safe=string.printable)
        pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
        return MultiDict((_quoted(name), _quoted(value)) for name, value in pairs)

    @cached_property
    def _content_type(self) -> tuple[str, dict[str, str]]:
        return parse_options_header(self.environ.get("CONTENT_TYPE"))

    @property
    def is_form(self) -> bool:
        """Whether the body is a form with a file in it (RFC 7578)."""
        return self._content_type[0].lower() == "multipart/form-data"

    @property
    def mount(self) -> str:
        """The prefix under which the application is mounted, quoted for a URL."""
        # PEP 3333: the server decoded it as latin-1, whatever its encoding.
        return quote(self.environ.get("SCRIPT_NAME", "").rstrip("/").encode("latin-1"))

    @property
    def base(self) -> str:
        """The absolute URL of the mount point, for clients that take no relative one; raises BadRequest."""
        if self.config.public_url is not None:
            return self.config.public_url
        asked = asked_host(self.environ)
        if asked is None:
            raise BadRequest("send a Host field: this answer has absolute URLs")
        scheme = self.environ["wsgi.url_scheme"]
        port = "" if asked.port in (None, DEFAULT_PORTS.get(scheme)) else f":{asked.port}"
        return f"{scheme}://{asked.host}{port}{self.mount}"

    def digest(self, hash_: str, parameter: str) -> Digest:
        """Parse the hash in a parameter; raises BadRequest if no blob of this store can have it."""
        try:
            return self.backend.hashes.digest(hash_, self.grant.name)
        except ValueError as error:
            raise BadRequest(f"{parameter}: {error}", algorithms=self._algorithms()) from None

    def digests(self, hashes: Iterable[str]) -> list[Digest]:
        """Parse the hashes in a body; raises BadRequest if no blob of this store can have one of them."""
        try:
            return self.backend.hashes.digests(hashes, self.grant.name)
        except ValueError as error:
            raise BadRequest(str(error), algorithms=self._algorithms()) from None

    def blob_digest(self, hash_: str) -> Digest:
        """Parse the hash in a path; raises BlobNotFound if no blob of this store can have it."""
        try:
            return self.backend.hashes.digest(hash_, self.grant.name)
        except ValueError as error:
            # curl's -T adds the name of a file to the URL, and that may look like a hash.
            is_put = self.environ["REQUEST_METHOD"] == "PUT"
            told = "32 to 128 hex digits in a path are always a hash" if is_put else "no such blob"
            raise BlobNotFound(
                f"{told}: {error}", hash=hash_.lower(), algorithms=self._algorithms()
            ) from None

    def _algorithms(self) -> list[str]:
        return [algorithm.value for algorithm in self.store.algorithms]

    def other_names(self, names: Collection[Digest]) -> conditional.Others:
        """Look up the entity tags that may be further names of the blob with these `names`."""
        if self.environ.keys().isdisjoint(conditional.TAGS):
            return conditional.NO_OTHERS
        return self.backend.hashes.others(self.environ, names, self.grant.name)

    def allow_time(self) -> None:
        """Set the timeout of the socket to WSGI_STORE_IDLE_TIMEOUT, for a long body in either direction."""
        sock = self.environ.get("gunicorn.socket") or self.environ.get("werkzeug.socket")
        if sock is not None:
            sock.settimeout(self.config.idle_timeout)

    def receive(self, digest: Digest | None = None, check: Callable[[], object] | None = None) -> Receipt:
        """Store the body.

        The file must have `digest`. `check` is called before the body is read, after everything else that
        can be refused by then, and again before the file is published. Raises LengthRequired, BadRequest,
        UnsupportedMediaType, Denied, what `check` raises, and the errors of `Staging.receive`.
        """
        expected = [*self._wanted_of_whole(), *([] if digest is None else [digest])]
        body, length, digests = self._open(bool(expected))
        ticket = self.grant.ticket
        return self.backend.staging.receive(
            body if check is None else _checked(check, body),
            length=length,
            expected=expected + digests,
            max_size=self.grant.max_size,
            ticket=ticket if check is None else _checked_again(check, ticket),
            under=digest,
        )

    def receive_form(self) -> list[tuple[Part, Receipt | WSGIStoreError]]:
        """Store the files of a form; returns each with its receipt or its failure, in their order.

        With a hash in the query or in the grant, or with a ticket, the form must have exactly one file.
        Raises LengthRequired, BadRequest, TooLarge, Denied, and of one file alone the errors of
        `Staging.receive`; then no file is acknowledged.
        """
        expected = self._wanted_of_whole()
        body, length, digests = self._open(bool(expected))
        staging, config, grant = self.backend.staging, self.config, self.grant
        # Digest fields cover the whole body (RFC 9530), `hash` covers the file in it.
        form = Form(
            checked(body, digests), self._content_type[1].get("boundary", ""), length, config.max_form_size
        )
        if expected or grant.ticket is not None:
            staging.admit(max(0, (length or 0) - FORM_OVERHEAD), grant.max_size)
            part = form.file()
            receipt = staging.receive(
                part.chunks,
                expected=[*expected, *part.digests],
                max_size=grant.max_size,
                ticket=grant.ticket,
            )
            return [(part, receipt)]
        staging.require_room(max(0, (length or 0) - FORM_OVERHEAD))
        parts: list[Part] = []

        def taken() -> Iterator[tuple[Iterator[bytes], tuple[Digest, ...]]]:
            for part in form.files():
                parts.append(part)
                yield part.chunks, part.digests

        outcomes = staging.receive_all(taken(), max_size=grant.max_size)
        if not parts:
            raise BadRequest("a form must have at least one file", files=0)
        return list(zip(parts, outcomes, strict=True))

    def _wanted_of_whole(self) -> list[Digest]:
        """The digests that the file of this request must have; raises BadRequest for a part of a file."""
        if "HTTP_CONTENT_RANGE" in self.environ:
            # The body is part of a file (RFC 9110 section 14.5); `curl -C 5 -T FILE` sends the rest of one.
            raise BadRequest("Content-Range: this is part of a file, and only whole files are stored")
        if "HTTP_TUS_RESUMABLE" in self.environ or self._is_incomplete():
            # A client of resumable uploads came to the wrong URL; its part of a file is not the file.
            raise BadRequest("send resumable uploads to /uploads")
        if self.is_form and self.environ["REQUEST_METHOD"] == "PUT":
            raise UnsupportedMediaType("the body of a PUT is the file itself; send a form by POST")
        return self.wanted

    def _open(self, announced: bool) -> tuple[Iterator[Chunk], int | None, list[Digest]]:
        """Return the body, its length in bytes if that is announced, and the digests in its fields."""
        self.allow_time()
        digests = [*digests_of(self.environ, "Repr-Digest"), *digests_of(self.environ, "Content-Digest")]
        read, length = open_body(self.environ, announced=announced or bool(digests))
        return chunks(read, length), length, digests

    @property
    def wanted(self) -> list[Digest]:
        """The digests in `?hash=`, and that of a ticket; raises BadRequest."""
        bound = self.grant.hash
        texts = self.args.getlist("hash") + ([bound] if bound is not None else [])
        return [self.digest(text, "hash") for text in texts]

    def _is_incomplete(self) -> bool:
        field: str = self.environ.get("HTTP_UPLOAD_COMPLETE", "")
        return field.strip().startswith("?0")


def path_of(environ: Mapping[str, Any]) -> str:
    """Return the path of a request below the mount point; bytes that are not UTF-8 are replaced."""
    # PEP 3333: the server decoded it as latin-1, whatever its encoding.
    path: str = environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")
    # uWSGI passes on a target in absolute form (RFC 9112 section 3.2.2).
    if (authority := authority_of(path)) is not None:
        path = path.partition("://")[2][len(authority) :]
    return "/" + path.lstrip("/")


def _checked(check: Callable[[], object], body: Iterator[Chunk]) -> Iterator[Chunk]:
    check()
    yield from body


@contextmanager
def _checked_again(
    check: Callable[[], object], ticket: AbstractContextManager[object] | None
) -> Iterator[None]:
    check()
    with ticket or nullcontext():
        yield


def _quoted(text: str) -> str:
    return text if text.isascii() else ESCAPED.sub(lambda match: f"%{ord(match[0]) & 0xFF:02X}", text)
