"""A request as gunicorn reads it: its head within a time limit, and checked strictly."""

import re
import time
from typing import Any

from gunicorn.http import body, message
from gunicorn.http import errors as parsing

from wsgi_store import errors
from wsgi_store.authority import authority_of, parse_authority
from wsgi_store.gunicorn.body import Body, ChunkedReader, LengthReader
from wsgi_store.gunicorn.head import FOREIGN
from wsgi_store.gunicorn.parse_errors import Rejected, service_error
from wsgi_store.gunicorn.settings import Settings
from wsgi_store.mapped import mapped

# A client has this many seconds to send the head of a request, and before that to finish the TLS handshake.
HEAD_TIMEOUT = 10.0
# gunicorn reads and discards an unread body of up to this many bytes and keeps the connection.
DRAINED = 64 << 10
# What X-Forwarded-Prefix may say. Anything else could send clients to another host.
PREFIX = re.compile("(/[A-Za-z0-9._~-]+)+")
SCHEMES = ("http://", "https://")
LATE = "the head of the request did not arrive in time"


class Request(message.Request):  # type: ignore[misc]
    """A request whose head arrives in time, checked by the rules of RFC 9112.

    Raises Rejected.
    """

    cfg: Settings
    method: str | None
    uri: str
    path: str
    version: tuple[int, int]
    headers: list[tuple[str, str]]
    body: Any
    unreader: Any

    def __init__(self, cfg: Settings, unreader: Any, *args: Any) -> None:
        self._deadline = time.monotonic() + HEAD_TIMEOUT
        self._begin = b""
        try:
            super().__init__(cfg, unreader, *args)
            # A later minor version is answered with the latest one supported here (RFC 9110 section 2.5).
            self.version = min(self.version, (1, 1))
            self._mount(dict(self.headers).get("X-FORWARDED-PREFIX"))
            self._check_target()
        except (parsing.ParseException, errors.WSGIStoreError) as error:
            rejection = error if isinstance(error, errors.WSGIStoreError) else service_error(error)
            method = "HEAD" if self._begin.lstrip(b"\r\n").startswith(b"HEAD ") else self.method
            raise Rejected(rejection, method) from error
        # gunicorn finds `close` only if it is the sole option, but Connection is a list (RFC 9110 section
        # 7.6.1).
        options = ",".join([value for name, value in self.headers if name == "CONNECTION"]).lower()
        # Most requests have no such option, and a search is faster than a split.
        if "close" in options and "close" in [option.strip(" \t") for option in options.split(",")]:
            self.must_close = True
        unreader.sock.settimeout(HEAD_TIMEOUT)

    def _mount(self, forwarded: str | None) -> None:
        """Restore the path prefix that clients see and that a proxy has removed."""
        prefix = self.cfg.script_name.rstrip("/")
        if forwarded is not None and self._peer_is_trusted_proxy():
            # The last one is from the nearest proxy.
            forwarded = forwarded.rpartition(",")[2].strip(" \t").rstrip("/")
            prefix = forwarded if PREFIX.fullmatch(forwarded) else prefix
        if prefix:
            self.headers.append(("SCRIPT_NAME", prefix))
            if self.path.startswith("/") and self.path != prefix and not self.path.startswith(f"{prefix}/"):
                self.path = prefix + self.path

    def _check_target(self) -> None:
        """Check the request target and the host it names (RFC 9112 section 3.2); raises BadRequest."""
        hosts = [value for name, value in self.headers if name == "HOST"]
        if not hosts and self.version == (1, 1):
            raise errors.BadRequest("HTTP/1.1 requires a Host field")
        with mapped({ValueError: errors.BadRequest}, "malformed Host"):
            if hosts and hosts[0]:
                parse_authority(hosts[0])
        if self.uri.startswith("/"):
            return
        if self.method == "CONNECT":
            with mapped({ValueError: errors.BadRequest}, "malformed target"):
                if parse_authority(self.uri).port is None:
                    raise ValueError("expected a host and a port")
            self._set_path("")
        elif self.uri == "*":
            self._set_path("*")
        else:
            self._check_absolute()

    def _check_absolute(self) -> None:
        # The target overrides the Host field (RFC 9112 section 3.2.2).
        authority = authority_of(self.uri) or ""
        with mapped({ValueError: errors.BadRequest}, "malformed target"):
            if not self.uri.lower().startswith(SCHEMES):
                raise ValueError("expected http:// or https://")
            parse_authority(authority)
        self.headers = [(name, value) for name, value in self.headers if name != "HOST"]
        self.headers.append(("HOST", authority))
        if not self.path:
            self._set_path("*" if self.method == "OPTIONS" else "/")

    def _set_path(self, path: str) -> None:
        """Set the path below the mount point, with which gunicorn expects it to begin."""
        names = [value for name, value in self.headers if name == "SCRIPT_NAME"]
        self.path = (names[-1] if names else self.cfg.script_name) + path

    def set_body_reader(self) -> None:
        """Choose the reader for the framing of the body."""
        super().set_body_reader()
        reader = self.body.reader
        if isinstance(reader, body.ChunkedReader):
            codings = [
                value.strip(" \t").lower() for name, value in self.headers if name == "TRANSFER-ENCODING"
            ]
            if codings != ["chunked"]:
                # The decoded bytes are the file, and no other coding is decoded here.
                raise parsing.UnsupportedTransferCoding(codings)
            reader = ChunkedReader(self, self.unreader)
        elif isinstance(reader, body.LengthReader):
            reader = LengthReader(self.unreader, reader.length)
        self.body = Body(reader)

    def read_into(self, unreader: Any, buf: Any, stop: bool = False) -> None:
        """Receive more of the head, before the deadline."""
        if not unreader.buf.getbuffer().nbytes:  # otherwise it is read from the buffer
            unreader.sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            super().read_into(unreader, buf, stop)
        except TimeoutError:
            if buf.strip():
                raise errors.RequestTimeout(LATE) from None
            raise parsing.NoMoreData() from None
        except parsing.NoMoreData:
            # gunicorn's own exception carries the head into the log, and the head may hold a token.
            raise parsing.NoMoreData() from None
        self._begin = self._begin or bytes(buf[:64])
        if self.method is None and FOREIGN.match(buf):
            raise errors.BadRequest("expected an HTTP request, not TLS or another protocol")

    def _peer_is_trusted_proxy(self) -> bool:
        """Whether the peer may use the PROXY protocol and say on whose behalf it asks."""
        peer = self.peer_addr
        return self.cfg.trusted_proxies.include(peer[0] if isinstance(peer, tuple) else "")

    def is_read(self) -> bool:
        """Whether the whole body has been read."""
        return (
            getattr(self.body.reader, "length", 1) == 0 and not self.body.buf.tell() and not self.body.failed
        )

    def should_close(self) -> bool:
        """Also close after a truncated body, or when too much of the body is unread."""
        reader = self.body.reader
        # The rest of a chunked body may be long or malformed.
        unread = getattr(reader, "length", 0) > DRAINED or getattr(reader, "parser", None)
        return bool(super().should_close() or self.body.failed or unread)
