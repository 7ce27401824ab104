"""A request, and what it brings: a body as it is, or the file of a form."""

import re
import string
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote

from werkzeug.datastructures import MultiDict
from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_path_info

from wsgi_store.access.grant import EVERYTHING, Authorize
from wsgi_store.authority import authority_of
from wsgi_store.config import Config
from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import BadRequest, HeadTooLarge
from wsgi_store.hashing import checked
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Store
from wsgi_store.web.body import BLOCK, chunks, open_body
from wsgi_store.web.digest_fields import parse_field
from wsgi_store.web.exchange import exchange_of
from wsgi_store.web.form import FORM_OVERHEAD, _Form

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

    from _typeshed import SupportsRead
    from _typeshed.wsgi import WSGIEnvironment

Source: TypeAlias = "Chunk | bytearray | SupportsRead[bytes] | Iterable[Chunk]"
T = TypeVar("T")

# Characters that a client sent, up to which what follows from them is kept for the next request.
KEPT = 512
# Bytes that a field may have, those of several fields of one name counted together: servers bound each
# of them, and join them. What is made of a field takes a time that grows with it.
MAX_FIELD = 8190
# Those that something is made of; a test looks for others.
FIELDS = tuple(
    f"HTTP_{name}"
    for name in (
        "ACCEPT AUTHORIZATION CONTENT_DIGEST IF_MATCH IF_MODIFIED_SINCE IF_NONE_MATCH IF_RANGE "
        "IF_UNMODIFIED_SINCE REPR_DIGEST TRANSFER_ENCODING"
    ).split()
) + ("CONTENT_TYPE",)
# Characters of an Accept field that are looked at: each of its items takes as long as a small answer.
MAX_ACCEPT = 1000
ESCAPED = re.compile("[\udc80-\udcff]")


def kept(function: "_lru_cache_wrapper[T]", sent: str) -> Callable[..., T]:
    """A function that keeps its results, or the one below it for what a client made too long to be kept."""
    return function if len(sent) <= KEPT else function.__wrapped__


class Request:
    """A request, and what the service that answers it consists of."""

    def __init__(  # pylint: disable=too-many-arguments, too-many-positional-arguments
        self,
        environ: "WSGIEnvironment",
        config: Config,
        store: Store,
        staging: Staging,
        authorize: Authorize,
    ) -> None:
        self.environ = environ
        self.config = config
        self.store = store
        self.staging = staging
        self.authorize = authorize
        self.grant = EVERYTHING
        self.exchange = exchange_of(environ)

    @property
    def path(self) -> str:
        """The path below the mount point; what is not UTF-8 in it is replaced."""
        path = get_path_info(self.environ)
        # uWSGI leaves a target in absolute form as it is (RFC 9112 section 3.2.2).
        if (authority := authority_of(path)) is not None:
            path = path.partition("://")[2][len(authority) :]
        return "/" + path.lstrip("/")

    def require_short_fields(self) -> None:
        """Raise HeadTooLarge for a field that would take long to read."""
        get = self.environ.get
        for name in FIELDS:
            if len(get(name, "")) > MAX_FIELD:
                field = name.removeprefix("HTTP_").replace("_", "-").title()
                raise HeadTooLarge(f"the field {field} has more than {MAX_FIELD} bytes")

    @property
    def accept(self) -> str:
        """The Accept field; of one that is longer than any browser's, what comes first."""
        field: str = self.environ.get("HTTP_ACCEPT", "")
        return field if len(field) <= MAX_ACCEPT else field[:MAX_ACCEPT].rpartition(",")[0]

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The parameters in the query; what is not UTF-8 in them stays quoted."""
        query = self.environ.get("QUERY_STRING", "")
        if not query.isascii():
            # Bytes that the client should have quoted, decoded to latin-1 (PEP 3333).
            query = quote(query.encode("latin-1"), safe=string.printable)
        pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
        return MultiDict((_quoted(name), _quoted(value)) for name, value in pairs)

    @property
    def mount(self) -> str:
        """The prefix under which this service is mounted, quoted for a URL."""
        # PEP 3333: the server decoded it to latin-1, whatever its encoding.
        return quote(self.environ.get("SCRIPT_NAME", "").rstrip("/").encode("latin-1"))

    def digest(self, hash_: str) -> Digest:
        """Read a hash of this store; raises ValueError."""
        return self.store.algorithm.parse(hash_)

    def allow_time(self) -> None:
        """Let the client be silent for as long as the settings say, not as for a head or a small answer."""
        sock = self.environ.get("gunicorn.socket") or self.environ.get("werkzeug.socket")
        if sock is not None:
            sock.settimeout(self.config.idle_timeout)

    def receive(self) -> tuple[Receipt, str | None]:
        """Take the body in; returns what became of it and the file name a form gave.

        Raises the errors of `Staging.receive`, LengthRequired, BadRequest and Denied.
        """
        self.allow_time()
        grant = self.grant
        wanted = self.args.getlist("hash") + ([grant.hash] if grant.hash is not None else [])
        try:
            expected = [self.digest(text) for text in wanted]
        except ValueError as error:
            raise BadRequest(f"hash: {error}") from None
        digests = [
            digest
            for name in ("HTTP_REPR_DIGEST", "HTTP_CONTENT_DIGEST")
            if name in self.environ
            for digest in parse_field(self.environ[name])
        ]
        read, length = open_body(self.environ, announced=bool(expected or digests))
        kind, options = parse_options_header(self.environ.get("CONTENT_TYPE"))
        if kind.lower() != "multipart/form-data":
            receipt = self.staging.receive(
                chunks(read, length),
                length=length,
                expected=expected + digests,
                max_size=grant.max_size,
                confirm=grant.spend,
            )
            return receipt, None
        self.staging.admit(max(0, (length or 0) - FORM_OVERHEAD), grant.max_size)
        # The digest fields speak of the whole body (RFC 9530), `hash` of the file in it.
        form = _Form(checked(chunks(read, length), digests), options.get("boundary", ""))
        receipt = self.staging.receive(
            form.file(), expected=expected, max_size=grant.max_size, confirm=grant.spend
        )
        return receipt, form.name


def _quoted(text: str) -> str:
    return text if text.isascii() else ESCAPED.sub(lambda match: f"%{ord(match[0]) & 0xFF:02X}", text)


def pieces(source: Source) -> Iterable[Chunk]:
    """The chunks of what a view of the host hands over: bytes, chunks, or a file or stream of bytes."""
    if isinstance(source, bytes | bytearray | memoryview):
        return [memoryview(source).cast("B")]
    if hasattr(source, "read"):
        return iter(partial(source.read, BLOCK), b"")
    return source
