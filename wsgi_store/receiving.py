"""The body of a request as chunks, whatever the server and however it was encoded."""

import itertools
import mmap
import re
import string
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote

from multipart import MultipartError, MultipartSegment, PushMultipartParser
from werkzeug.datastructures import MultiDict
from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_path_info

from wsgi_store.grant import EVERYTHING, Authorize
from wsgi_store.config import Config
from wsgi_store.digest import Chunk, Digest, checked, parse_field
from wsgi_store.errors import BadRequest, IncompleteBody, LengthRequired, RequestTimeout, Unsupported, mapped
from wsgi_store.staging import Receipt, Staging
from wsgi_store.stores import Store

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

    from _typeshed import SupportsRead
    from _typeshed.wsgi import WSGIEnvironment

Source: TypeAlias = "Chunk | bytearray | SupportsRead[bytes] | Iterable[Chunk]"
T = TypeVar("T")

# Measured: gunicorn hands over 2,400 MB/s in reads of 1 MiB, 1,030 in reads of 64 KiB.
BLOCK = 1 << 20
# Characters that a client sent, up to which what follows from them is kept for the next request.
KEPT = 512
# Boundaries, part headers and ordinary fields that may come with a file in a form.
FORM_OVERHEAD = 4 << 20
FORM_PARTS = 1000
BOUNDARY = re.compile("[ -~]{1,70}")  # RFC 2046 section 5.1.1; clients use more characters than it names
# What reading a body raises is the server's: each names a broken connection or bad framing
# in its own way, and none of it may pass for the end of the body.
BODY_ERRORS = {TimeoutError: RequestTimeout, OSError: IncompleteBody, Exception: BadRequest}


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

    @property
    def path(self) -> str:
        """The path below the mount point; what is not UTF-8 in it is replaced."""
        return "/" + get_path_info(self.environ).lstrip("/")

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The parameters in the query; what is not UTF-8 in them stays quoted."""
        query = self.environ.get("QUERY_STRING", "")
        if not query.isascii():
            # Bytes that the client should have quoted, decoded to latin-1 (PEP 3333).
            query = quote(query.encode("latin-1"), safe=string.printable)
        return MultiDict(parse_qsl(query, keep_blank_values=True, errors="werkzeug.url_quote"))

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
        sock = self.environ.get("gunicorn.socket")
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
        read, length = _open_body(self.environ)
        kind, options = parse_options_header(self.environ.get("CONTENT_TYPE"))
        if kind.lower() != "multipart/form-data":
            receipt = self.staging.receive(
                _chunks(read, length),
                length=length,
                expected=expected + digests,
                max_size=grant.max_size,
                confirm=grant.spend,
            )
            return receipt, None
        self.staging.admit(max(0, (length or 0) - FORM_OVERHEAD), grant.max_size)
        # The digest fields speak of the whole body (RFC 9530), `hash` of the file in it.
        form = _Form(checked(_chunks(read, length), digests), options.get("boundary", ""))
        receipt = self.staging.receive(
            form.file(), expected=expected, max_size=grant.max_size, confirm=grant.spend
        )
        return receipt, form.name


def _open_body(environ: "WSGIEnvironment") -> tuple[Callable[[int], Chunk], int | None]:
    """Find how to read the body and how long it says it is."""
    stream = environ["wsgi.input"]
    if coding := environ.get("HTTP_TRANSFER_ENCODING"):
        # gunicorn passes on `gzip, chunked`: what arrives would not be the file.
        if coding.strip().lower() != "chunked":
            raise Unsupported("Transfer-Encoding: no coding but chunked is known here")
        if environ.get("wsgi.input_terminated"):
            return _in_turns(stream), None
        # Inside uWSGI a chunked body reads as empty from `wsgi.input`, silently. It takes a chunk
        # size that is no number for 0, the end, which cannot be seen from here.
        uwsgi: Any = sys.modules.get("uwsgi")
        if uwsgi is not None:
            return lambda size: uwsgi.chunked_read(), None
        raise LengthRequired("this server passes on no chunked bodies, send Content-Length")
    text = environ.get("CONTENT_LENGTH") or ""
    if not text:
        raise LengthRequired("send Content-Length, or a chunked body")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadRequest("malformed Content-Length")
    length = int(text)
    return (_in_turns(stream) if length > BLOCK else stream.read), length


def pieces(source: Source) -> Iterable[Chunk]:
    """The chunks of what a view of the host hands over: bytes, chunks, or a file or stream of bytes."""
    if isinstance(source, bytes | bytearray | memoryview):
        return [memoryview(source).cast("B")]
    if hasattr(source, "read"):
        return iter(partial(source.read, BLOCK), b"")
    return source


def _in_turns(stream: Any) -> Callable[[int], Chunk]:
    """Read into two buffers in turn, if it can: what was read is good until the next but one is asked for."""
    if not hasattr(stream, "readinto"):
        read: Callable[[int], bytes] = stream.read
        return read
    # Memory that nothing is written to is not taken: a chunked body may be a small one.
    memory = memoryview(mmap.mmap(-1, 2 * BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    buffers = itertools.cycle([memory[:BLOCK], memory[BLOCK:]])

    def read_into(size: int) -> memoryview:
        buffer = next(buffers)[:size]
        return buffer[: stream.readinto(buffer) or 0]

    return read_into


def _chunks(read: Callable[[int], Chunk], length: int | None) -> Iterator[Chunk]:
    """Read a body to its end; raises IncompleteBody when it is shorter than `length`."""
    left = length
    while left is None or left > 0:
        with mapped(BODY_ERRORS, "the body could not be read"):
            chunk = read(BLOCK if left is None else min(BLOCK, left))
        if not chunk:
            break
        if left is not None:
            left -= len(chunk)
        yield chunk
    if left:
        raise IncompleteBody(expected=length, actual=(length or 0) - left)


class _Form:
    """A multipart/form-data body with exactly one file among its parts (RFC 7578)."""

    def __init__(self, chunks: Iterator[Chunk], boundary: str) -> None:
        self.name: str | None = None
        self._files = 0
        self._chunks = chunks
        if not BOUNDARY.fullmatch(boundary):
            raise BadRequest("malformed form: its boundary must have 1 to 70 ASCII characters")
        # File names come in any encoding: latin-1 decodes every byte, `_file_name` undoes it.
        self._parser = PushMultipartParser(
            boundary, max_header_size=16 << 10, max_segment_count=FORM_PARTS, header_charset="latin1"
        )

    def file(self) -> Iterator[bytes]:
        """Yield the bytes of the file; raises BadRequest unless there is exactly one."""
        name: str | None = None
        is_file = False
        beside = 0
        for chunk in self._chunks:
            beside += len(chunk)
            for event in self._parse(chunk):
                if isinstance(event, MultipartSegment):
                    name = _file_name(event)
                    # Without a name it is a file only when it has bytes: a browser sends an
                    # empty part with an empty name where no file was chosen.
                    is_file = bool(name)
                    if is_file:
                        self._begin(name)
                elif event and name is not None:
                    if not is_file:
                        is_file = True
                        self._begin(None)
                    beside -= len(event)
                    yield event
            # What follows the last boundary is read too, and ignored (RFC 2046 section 5.1.1).
            if beside > FORM_OVERHEAD:
                raise BadRequest("malformed form: too much beside the file", limit=FORM_OVERHEAD)
        next(self._parse(b""), None)  # tells the parser of the end; raises before the last boundary
        if self._files != 1:
            raise BadRequest("a form must have exactly one file part", files=self._files)

    def _begin(self, name: str | None) -> None:
        self._files += 1
        if self._files > 1:
            raise BadRequest("a form must have exactly one file part", files=self._files)
        self.name = name

    def _parse(self, chunk: Chunk) -> Iterator[MultipartSegment | bytes | None]:
        with mapped({MultipartError: BadRequest}, "malformed form"):
            # The parser takes nothing else, and keeps what may be the beginning of a boundary.
            yield from self._parser.parse(bytes(chunk))


def _file_name(part: MultipartSegment) -> str | None:
    """The name a part gives its file, replacing what is not UTF-8; None when it is no file."""
    name: str | None = part.filename
    if name is not None:
        return name.encode("latin-1", "replace").decode("utf-8", "replace")
    # RFC 7578 forbids `filename*`, some clients send it all the same.
    return parse_options_header(part.header("Content-Disposition"))[1].get("filename")
