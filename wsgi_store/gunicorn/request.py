"""The head of a request as gunicorn reads it: in time, and refused in plain words."""

import os
import re
import socket
import time
from typing import Any

from gunicorn.http import body, message
from gunicorn.http import errors as parsing

from wsgi_store import errors
from wsgi_store.authority import authority_of, parse_authority
from wsgi_store.gunicorn.body import Body, ChunkedReader, LengthReader
from wsgi_store.gunicorn.log import is_trusted

# A client has this long, in seconds, to send the head of a request, and before it to agree on TLS.
HEAD_TIMEOUT = 10.0
# Unread bodies up to here are drained by gunicorn, and the connection goes on.
DRAINED = 64 << 10
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Where this service is mounted, for clients, and how a proxy may say it (X-Forwarded-Prefix).
SCRIPT_NAME = os.environ.get("SCRIPT_NAME", "").rstrip("/")
PREFIX = re.compile("(/[A-Za-z0-9._~-]+)+")
SCHEMES = ("http://", "https://")
LATE = "the head of the request did not come in time"
# What no request line begins with, nor the empty line that may stand before it (RFC 9112 section 2.2),
# nor the PROXY protocol: a handshake of TLS is such.
FOREIGN = re.compile(rb"(?:\r\n)?[^\r\n!#$%&'*+.^_`|~0-9A-Za-z-]")
# What gunicorn's parser refuses, by what this is called here, and in which words.
REFUSALS: dict[type[Exception], tuple[type[errors.WSGIStoreError], str]] = {
    parsing.LimitRequestLine: (errors.UriTooLong, "the first line of the request is too long"),
    parsing.LimitRequestHeaders: (errors.HeadTooLarge, "a header field is too long, or there are too many"),
    parsing.ExpectationFailed: (errors.ExpectationFailed, "Expect: only 100-continue is known here"),
    parsing.UnsupportedTransferCoding: (
        errors.Unsupported,
        "Transfer-Encoding: no coding but chunked is known here",
    ),
    parsing.ForbiddenProxyRequest: (errors.Denied, "this address may not use the PROXY protocol"),
    parsing.ConfigurationProblem: (errors.NotFound, "nothing is served under this path"),
    parsing.InvalidRequestLine: (errors.BadRequest, "malformed first line of the request"),
    parsing.InvalidRequestMethod: (errors.BadRequest, "malformed method"),
    parsing.InvalidHTTPVersion: (errors.BadRequest, "expected HTTP/1.0 or HTTP/1.1"),
    parsing.InvalidHeaderName: (errors.BadRequest, "malformed name of a header field"),
    parsing.ObsoleteFolding: (errors.BadRequest, "a header field goes on in the next line"),
    parsing.InvalidSchemeHeaders: (errors.BadRequest, "header fields name different schemes"),
    parsing.InvalidProxyLine: (errors.BadRequest, "malformed PROXY protocol"),
    parsing.InvalidProxyHeader: (errors.BadRequest, "malformed PROXY protocol"),
}
# Fields that may come once, and by whose value a request is understood.
SINGLE = {"HOST", "CONTENT-LENGTH", "CONTENT-TYPE", "TRANSFER-ENCODING"}


class Refused(parsing.ParseException):  # type: ignore[misc]  # gunicorn has no type hints
    """A request that the server refuses before the application sees it."""

    def __init__(self, refusal: errors.WSGIStoreError, method: str | None = None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.method = method


def refusal_of(error: Exception) -> errors.WSGIStoreError:
    """What gunicorn's parser says, in the words of this service."""
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, parsing.InvalidHeader) and error.hdr in SINGLE:
        return errors.BadRequest(f"malformed, repeated or contradictory {error.hdr.title()}")
    kind, words = REFUSALS.get(type(error), (errors.BadRequest, "malformed header field"))
    return kind(words)


class Request(message.Request):  # type: ignore[misc]
    """A request whose head comes in time, and that knows when its connection cannot be used again.

    Raises Refused.
    """

    method: str | None
    uri: str
    path: str
    version: tuple[int, int]
    headers: list[tuple[str, str]]
    body: Any
    unreader: Any

    def __init__(self, cfg: Any, unreader: Any, *args: Any) -> None:
        self._deadline = time.monotonic() + HEAD_TIMEOUT
        self._begin = b""
        try:
            super().__init__(cfg, unreader, *args)
            # Who speaks a later HTTP/1 is answered in the last one known here (RFC 9110 section 2.5).
            self.version = min(self.version, (1, 1))
            self._mount(dict(self.headers).get("X-FORWARDED-PREFIX"))
            self._check_target()
        except (parsing.ParseException, errors.WSGIStoreError) as error:
            refusal = error if isinstance(error, errors.WSGIStoreError) else refusal_of(error)
            method = "HEAD" if self._begin.lstrip(b"\r\n").startswith(b"HEAD ") else self.method
            raise Refused(refusal, method) from error
        # gunicorn knows the option only where it is alone; it is one of a list (RFC 9110 section 7.6.1).
        options = ",".join([value for name, value in self.headers if name == "CONNECTION"]).lower()
        # Looked for twice, for splitting them takes longer.
        if "close" in options and "close" in [option.strip(" \t") for option in options.split(",")]:
            self.must_close = True
        unreader.sock.settimeout(HEAD_TIMEOUT)

    def _mount(self, told: str | None) -> None:
        """Put the prefix that clients see before a path from which a proxy has taken it."""
        prefix = SCRIPT_NAME
        if told is not None and self._peer_is_trusted_proxy():
            # Of several the nearest proxy's. What could lead a client elsewhere is no prefix.
            told = told.rpartition(",")[2].strip(" \t").rstrip("/")
            prefix = told if PREFIX.fullmatch(told) else prefix
        if prefix:
            self.headers.append(("SCRIPT_NAME", prefix))
            if self.path.startswith("/") and self.path != prefix and not self.path.startswith(f"{prefix}/"):
                self.path = prefix + self.path

    def _check_target(self) -> None:
        """Find out which host is meant (RFC 9112 section 3.2); raises BadRequest."""
        hosts = [value for name, value in self.headers if name == "HOST"]
        if not hosts and self.version == (1, 1):
            raise errors.BadRequest("HTTP/1.1 wants a Host field")
        with errors.mapped({ValueError: errors.BadRequest}, "malformed Host"):
            if hosts and hosts[0]:
                parse_authority(hosts[0])
        if self.uri.startswith("/"):
            return
        if self.method == "CONNECT":
            with errors.mapped({ValueError: errors.BadRequest}, "malformed target"):
                if parse_authority(self.uri).port is None:
                    raise ValueError("expected a host and a port")
            self._ask_for("")
        elif self.uri == "*":
            self._ask_for("*")
        else:
            self._check_absolute()

    def _check_absolute(self) -> None:
        # What it says counts, and not the field (section 3.2.2).
        authority = authority_of(self.uri) or ""
        with errors.mapped({ValueError: errors.BadRequest}, "malformed target"):
            if not self.uri.lower().startswith(SCHEMES):
                raise ValueError("expected http:// or https://")
            parse_authority(authority)
        self.headers = [(name, value) for name, value in self.headers if name != "HOST"]
        self.headers.append(("HOST", authority))
        if not self.path:
            self._ask_for("*" if self.method == "OPTIONS" else "/")

    def _ask_for(self, path: str) -> None:
        """Set the path, which gunicorn expects to begin with the mount point."""
        names = [value for name, value in self.headers if name == "SCRIPT_NAME"]
        self.path = (names[-1] if names else os.environ.get("SCRIPT_NAME", "")) + path

    def set_body_reader(self) -> None:
        """Find how the body is framed."""
        super().set_body_reader()
        reader = self.body.reader
        if isinstance(reader, body.ChunkedReader):
            codings = [
                value.strip(" \t").lower() for name, value in self.headers if name == "TRANSFER-ENCODING"
            ]
            if codings != ["chunked"]:
                # What comes would not be the file, and nobody here undoes the coding.
                raise parsing.UnsupportedTransferCoding(codings)
            reader = ChunkedReader(self, self.unreader)
        elif isinstance(reader, body.LengthReader):
            reader = LengthReader(self.unreader, reader.length)
        self.body = Body(reader)

    def read_into(self, unreader: Any, buf: Any, stop: bool = False) -> None:
        """Read more of the head."""
        if not unreader.buf.getbuffer().nbytes:  # else nothing is received
            unreader.sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            super().read_into(unreader, buf, stop)
        except TimeoutError:
            if buf.strip():
                raise errors.RequestTimeout(LATE) from None
            raise parsing.NoMoreData() from None
        except parsing.NoMoreData:
            # gunicorn would put the head in the log: a token may be in it.
            raise parsing.NoMoreData() from None
        self._begin = self._begin or bytes(buf[:64])
        if self.method is None and FOREIGN.match(buf):
            raise errors.BadRequest("expected a request of HTTP, not of TLS or another protocol")

    def _peer_is_trusted_proxy(self) -> bool:
        """Whether the peer may say for whom it asks."""
        return not isinstance(self.peer_addr, tuple) or is_trusted(self.cfg, self.peer_addr[0])

    def is_read(self) -> bool:
        """Whether nothing is left of the body."""
        return (
            getattr(self.body.reader, "length", 1) == 0 and not self.body.buf.tell() and not self.body.failed
        )

    def should_close(self) -> bool:
        """Also when the body broke off, or more of it is unread than is worth reading."""
        reader = self.body.reader
        # How much is unread of a chunked body, or whether it is well-formed, nobody knows.
        unread = getattr(reader, "length", 0) > DRAINED or getattr(reader, "parser", None)
        return bool(super().should_close() or self.body.failed or unread)


class Continue:
    """A body that is asked for, by 100 Continue, when the application first reads it.

    gunicorn asks before it calls the application, which may be about to refuse the body
    (RFC 9110 section 10.1.1). Unasked for, it may or may not come: the connection must end.
    """

    def __init__(self, request: Any, sock: socket.socket) -> None:
        self._request = request
        self._reader = request.body.reader
        self._must_close = request.must_close
        self._sock = sock
        request.must_close = True

    def read(self, size: int) -> bytes:
        """Ask for the body and read from it; called once."""
        self._request.body.reader = self._reader
        self._request.must_close = self._must_close
        self._sock.sendall(CONTINUE)
        data: bytes = self._reader.read(size)
        return data
