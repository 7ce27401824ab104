"""The body of an upload as chunks, from a request or from a host application."""

import itertools
import mmap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from wsgi_store.digest import Chunk
from wsgi_store.errors import (
    BadRequest,
    IncompleteBody,
    LengthRequired,
    RequestTimeout,
    TooLarge,
    Unsupported,
)
from wsgi_store.mapped import mapped
from wsgi_store.web import uwsgi

if TYPE_CHECKING:
    from _typeshed import SupportsRead
    from _typeshed.wsgi import WSGIEnvironment

# Reads up to a number of bytes; none at the end, None if nothing has arrived yet.
Read: TypeAlias = "Callable[[int], Chunk | None]"
Source: TypeAlias = "Chunk | bytearray | SupportsRead[bytes] | Iterable[Chunk]"

# Bytes of a read: servers hand over a body in large reads far faster than in small ones.
READ_SIZE = 1 << 20
ALWAYS = itertools.repeat(READ_SIZE)
# Bytes of the first and the smallest paced read, and the seconds that a read should take at most.
PACED_LEAST = 4 << 10
PACED_SECONDS = 0.25
# Each server raises exceptions of its own for a broken connection or bad framing; none of them may be
# taken for the end of the body.
BODY_ERRORS = {TimeoutError: RequestTimeout, OSError: IncompleteBody, Exception: BadRequest}
# Servers that raise an exception when a chunked body is cut. Others end it as if it were complete, although
# they set wsgi.input_terminated as well (docs/servers.md).
TRUSTED = ("gunicorn/", "Werkzeug/", "Cheroot/", "gevent/")


@runtime_checkable
class Receiver(Protocol):
    """A request body that returns bytes as soon as they arrive."""

    # Bodies of a2wsgi have a `receive` of another kind.
    def receive_into(self, buffer: memoryview) -> int | None:
        """Receive what arrives within a moment; return the number of bytes, None for none, 0 at the end."""


def open_body(
    environ: "WSGIEnvironment", *, announced: bool, prompt: bool = False
) -> tuple[Read, int | None]:
    """Return a function that reads the body, and its length in bytes if that is announced.

    `announced` says that a digest of the body is known, by which a cut one is detected. With `prompt` a read
    returns what has arrived if the server can do that, and None if nothing arrives within a moment. Raises
    BadRequest, LengthRequired and Unsupported.
    """
    stream = environ["wsgi.input"]
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    text = environ.get("CONTENT_LENGTH") or ""
    if coding is not None:
        # gunicorn accepts `gzip, chunked`, whose bytes would not be those of the file.
        if coding.strip(" \t").lower() != "chunked":
            raise Unsupported("Transfer-Encoding: only chunked is supported")
        # A proxy on the way may have believed the other one (RFC 9112 section 6.1).
        if text:
            raise BadRequest("send either Content-Length or Transfer-Encoding")
        if uwsgi.serves(environ):
            return uwsgi.chunked_reader(), None
        if environ.get("wsgi.input_terminated") and (announced or _is_trusted(environ)):
            return _in_turns(stream, prompt, whole=False), None
        raise LengthRequired("send Content-Length: this server may not detect a cut chunked body")
    if not text:
        raise LengthRequired("send Content-Length, or a chunked body")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadRequest("malformed Content-Length")
    if uwsgi.serves(environ):
        return uwsgi.timed(stream.read), int(text)
    whole = int(text) > READ_SIZE
    return (_in_turns(stream, prompt, whole) if prompt or whole else stream.read), int(text)


def announces_body(environ: "WSGIEnvironment") -> bool:
    """Whether the header fields of a request announce a body that is not empty."""
    return "HTTP_TRANSFER_ENCODING" in environ or environ.get("CONTENT_LENGTH", "") not in ("", "0")


def _is_trusted(environ: "WSGIEnvironment") -> bool:
    # Clients cannot set these: keys of header fields begin with HTTP_.
    return environ.get("SERVER_SOFTWARE", "").startswith(TRUSTED) or "mod_wsgi.process_group" in environ


def _in_turns(stream: Any, prompt: bool, whole: bool) -> Read:
    """Return a function that reads into two buffers in turn, if `stream` can read into buffers.

    `whole` says that the body fills at least one of them.

    A chunk stays valid until two more chunks have been requested.
    """
    fill = (
        stream.receive_into if prompt and isinstance(stream, Receiver) else getattr(stream, "readinto", None)
    )
    if fill is None:
        read: Callable[[int], bytes] = stream.read
        return read
    # mmap: untouched pages are never allocated, and a chunked body may be small.
    mapping = mmap.mmap(-1, 2 * READ_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if whole:
        # One page fault instead of 512; not every kernel has such pages (madvise(2)).
        with suppress(OSError):
            mapping.madvise(mmap.MADV_HUGEPAGE)
    memory = memoryview(mapping)
    buffers = [memory[:READ_SIZE], memory[READ_SIZE:]]

    def read_into(size: int) -> memoryview | None:
        count = fill(buffers[0][:size])
        if count is None:
            return None
        buffers.reverse()
        return buffers[1][: count or 0]

    return read_into


def chunks(read: Read, length: int | None, sizes: Iterable[int] = ALWAYS) -> Iterator[Chunk]:
    """Yield the body up to its end; raises IncompleteBody if it is shorter than `length` bytes.

    `sizes` are those of the reads, in bytes. An empty chunk means that nothing has arrived for a moment.
    """
    left = length
    for size in sizes:
        if left is not None and left <= 0:
            return
        with mapped(BODY_ERRORS, "cannot read the body"):
            chunk = read(size if left is None else min(size, left))
        if chunk is None:
            yield b""
            continue
        if not chunk:
            break
        if left is not None:
            left -= len(chunk)
        yield chunk
    if left:
        raise IncompleteBody(expected=length, actual=(length or 0) - left)


def read_whole(environ: "WSGIEnvironment", limit: int) -> bytes:
    """Return the whole body; raises TooLarge beyond `limit` bytes, and the errors of `chunks`."""
    read, length = open_body(environ, announced=False)
    data = bytearray()
    if length is None or length <= limit:
        for chunk in chunks(read, length):
            data += chunk
            if len(data) > limit:
                break
        else:
            return bytes(data)
    raise TooLarge("the body is too long", limit=limit)


def open_upload(environ: "WSGIEnvironment") -> tuple[Iterator[Chunk], int | None]:
    """Return the body of a resumable upload as `chunks`, and its length; raises what `open_body` raises."""
    read, length = open_body(environ, announced=False, prompt=True)
    prompt = isinstance(environ["wsgi.input"], Receiver)
    return chunks(read, length, ALWAYS if prompt else paced()), length


def paced() -> Iterator[int]:
    """Yield sizes of reads that take well below a second each, however slow the client is.

    Most servers return from a read when it is complete. What it has received by then is lost if the
    connection breaks, and nobody sees it before.
    """
    size = PACED_LEAST
    while True:
        begin = time.monotonic()
        yield size
        seconds = max(time.monotonic() - begin, 1e-6)
        size = max(PACED_LEAST, min(2 * size, READ_SIZE, int(size / seconds * PACED_SECONDS)))


def chunks_of(source: Source) -> Iterable[Chunk]:
    """Return the chunks of what a host application passes: bytes, chunks, or a binary file or stream."""
    if isinstance(source, bytes | bytearray | memoryview):
        return [memoryview(source).cast("B")]
    if hasattr(source, "read"):
        return iter(partial(source.read, READ_SIZE), b"")
    return source
