"""The body of a request as chunks, on servers that tell its true end."""

import itertools
import mmap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from wsgi_store.digest import Chunk
from wsgi_store.errors import BadRequest, IncompleteBody, LengthRequired, RequestTimeout, Unsupported, mapped

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Measured: gunicorn hands over 2,400 MB/s in reads of 1 MiB, 1,030 in reads of 64 KiB.
BLOCK = 1 << 20
# What reading a body raises is the server's: each names a broken connection or bad framing
# in its own way, and none of it may pass for the end of the body.
BODY_ERRORS = {TimeoutError: RequestTimeout, OSError: IncompleteBody, Exception: BadRequest}
# How servers name themselves that raise when a chunked body is cut; others end it as if it were whole,
# and say of it what these do (docs/servers.md).
TRUSTED = ("gunicorn/", "Werkzeug/", "Cheroot/", "gevent/")


def open_body(environ: "WSGIEnvironment", *, announced: bool) -> tuple[Callable[[int], Chunk], int | None]:
    """Find how to read the body and how long it says it is; `announced`: a digest tells its end."""
    stream = environ["wsgi.input"]
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    text = environ.get("CONTENT_LENGTH") or ""
    in_uwsgi = "uwsgi.version" in environ
    if coding is not None:
        # gunicorn passes on `gzip, chunked`: what arrives would not be the file.
        if coding.strip(" \t").lower() != "chunked":
            raise Unsupported("Transfer-Encoding: no coding but chunked is known here")
        # One of them is a lie, and another server on the way may believe it (RFC 9112 section 6.1).
        if text:
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other")
        if in_uwsgi:
            return _uwsgi_chunks(), None
        if environ.get("wsgi.input_terminated") and (announced or _is_trusted(environ)):
            return _in_turns(stream), None
        raise LengthRequired("this server may pass off a cut chunked body as whole, send Content-Length")
    if not text:
        raise LengthRequired("send Content-Length, or a chunked body")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadRequest("malformed Content-Length")
    if in_uwsgi:
        return _timed(stream.read), int(text)
    return (_in_turns(stream) if int(text) > BLOCK else stream.read), int(text)


def _is_trusted(environ: "WSGIEnvironment") -> bool:
    # No header field can set either of these: what clients send begins with HTTP_.
    return environ.get("SERVER_SOFTWARE", "").startswith(TRUSTED) or "mod_wsgi.process_group" in environ


def _uwsgi_chunks() -> Callable[[int], Chunk]:
    """Inside uWSGI a chunked body reads as empty from `wsgi.input`, silently.

    It takes a chunk size that is no number for 0, the end, which cannot be seen from here.
    """
    import uwsgi  # pylint: disable=import-error,import-outside-toplevel  # there is none elsewhere

    return _timed(lambda _: uwsgi.chunked_read())


def _timed(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """uWSGI tells in words alone that nothing came for its socket-timeout."""

    def read_in_time(size: int) -> bytes:
        try:
            return read(size)
        except OSError as error:
            if "timeout" in str(error):
                raise TimeoutError(str(error)) from None
            raise

    return read_in_time


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


def chunks(read: Callable[[int], Chunk], length: int | None) -> Iterator[Chunk]:
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
