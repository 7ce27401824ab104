"""Answers on their way out of gunicorn: made with less work, and refusals like the application's."""

import errno
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from gunicorn.http import errors as parsing
from gunicorn.http import wsgi
from gunicorn.util import close_graceful, http_date, is_hoppish
from gunicorn.workers import gthread

from wsgi_store import errors
from wsgi_store.accesslog import NOTE, Note
from wsgi_store.app import problem
from wsgi_store.bodies import broke_off
from wsgi_store.connection import Connection
from wsgi_store.gunicorn import shown_path
from wsgi_store.head import Continue, Request, refusal_of
from wsgi_store.logs import Seldom, logger
from wsgi_store.receiving import KEPT

# These, though parsing errors too, the application brought about.
OWN_FAULTS = (parsing.InvalidResponseHeader, parsing.InvalidResponseHeaderName)

# A body is copied behind its head up to here: one packet wakes a client once, and copying is cheaper.
JOINED = 64 << 10


class _Field(NamedTuple):
    """What gunicorn makes of a header field."""

    kept: list[tuple[str, str]]
    length: int | None
    upgrade: bool
    text: str


def _made(name: str, value: str) -> _Field:
    if _is_plain(name) and wsgi.HEADER_VALUE_RE.fullmatch(value):
        value = value.strip(" \t")
        return _Field([(name, value)], None, False, f"{name}: {value}\r\n")
    one = wsgi.Response.__new__(wsgi.Response)
    one.headers, one.response_length, one.upgrade = [], None, False
    wsgi.Response.process_headers(one, [(name, value)])
    text = "".join(f"{name}: {value}\r\n" for name, value in one.headers)
    return _Field(one.headers, one.response_length, one.upgrade, text)


# Most fields of most answers have been seen before; to check all of them anew takes a sixth of a GET.
_known = lru_cache(1024)(_made)


def _field(name: str, value: str) -> _Field:
    # Long ones come from what a client made long, which must not fill the memory. As `kept` has it, which
    # would be one more call for each field of each answer.
    return (_known if len(value) <= KEPT else _made)(name, value)


@lru_cache(256)
def _is_plain(name: str) -> bool:
    """Whether a name is one that means nothing to gunicorn."""
    return bool(wsgi.TOKEN_RE.fullmatch(name) and name.lower() != "content-length" and not is_hoppish(name))


class Answer(wsgi.Response):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's response, whose head leaves together with the beginning of the body."""

    upgrade: bool
    headers_sent: bool

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = b""  # made, and not sent

    def process_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Check and keep the application's header fields."""
        for name, value in headers:
            field = _field(name, value)
            self.headers += field.kept
            self.upgrade = self.upgrade or field.upgrade
            if field.length is not None:
                self.response_length = field.length

    def default_headers(self) -> list[str]:
        """The status line and the server's own fields."""
        connection = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        major, minor = self.req.version
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\n"
            f"Date: {_date(int(time.time()))}\r\nConnection: {connection}\r\n"
        ]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        return lines

    def send_headers(self) -> None:
        """Make the head; it is sent with what follows."""
        if not self.headers_sent:
            lines = self.default_headers()
            lines += [_field(name, value).text for name, value in self.headers]
            self._head = f"{''.join(lines)}\r\n".encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%X\r\n%s\r\n" % (len(data), data)
        if self._head and len(data) <= JOINED:
            head, self._head = self._head, b""
            self.sock.sendall(head + data)
            return
        self._send_head()
        # The timeout is for all that is sent at once, and a slow reader must not be cut for it.
        rest = memoryview(data)
        while rest:
            self.sock.sendall(rest[:JOINED])
            rest = rest[JOINED:]

    def sendfile(self, respiter: Any) -> bool:
        """Send a file by sendfile(2) where that can be done."""
        # Where nothing follows it the kernel would hold the head back for 200 ms (tcp(7), TCP_CORK).
        if not (self.cfg.is_ssl or self.response_length == 0 or self._omits_body):
            self.send_headers()
            self._send_head(socket.MSG_MORE)
        return bool(super().sendfile(respiter))

    def send(self, body: Any, wrapper: type) -> None:
        """Send what the application returned, to its end."""
        if isinstance(body, wrapper):
            self.write_file(body)
        else:
            for block in body:
                self.write(block)
        self.close()

    def close(self) -> None:
        """End the answer."""
        self.send_headers()
        self._send_head()
        super().close()

    def _send_head(self, flags: int = 0) -> None:
        if self._head:
            head, self._head = self._head, b""
            self.sock.sendall(head, flags)


_date = lru_cache(1)(http_date)


class Answering(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's thread worker as far as it answers requests."""

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refused = Seldom()

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Serve a request whose head is there."""
        if req._expected_100_continue:  # pylint: disable=protected-access
            req._expected_100_continue = False  # pylint: disable=protected-access
            req.body.reader = Continue(req, conn.sock)
        try:
            return self._answer(req, conn)
        except TimeoutError:
            self.log.info("Closing a connection that moved nothing for too long.")
            return False
        except ssl.SSLError as error:  # the client left, or breaks the rules: no disk has such
            self.log.debug("Closing a connection: %s", error)
            return False
        except OSError as error:
            if error.errno in (None, errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise  # the client left
            # sendfile(2) tells of a disk here, which gunicorn takes for the socket.
            path = shown_path(req)
            self.log.error("The answer to %s %s broke off: %s", req.method, path, error.strerror)
            return False

    def _answer(self, req: Any, conn: Connection) -> bool:
        """gunicorn's `handle_request`, with an answer of another kind."""
        environ: dict[str, Any] = {}
        answer = None
        try:
            self.cfg.pre_request(self, req)
            begin = time.perf_counter()
            answer, environ = wsgi.create(
                req, conn.sock, conn.client, conn.server, self.cfg, response_class=Answer
            )
            environ["wsgi.multithread"] = True
            self.nr += 1
            if self.nr >= self.max_requests and self.alive:
                self.log.info("Autorestarting worker after current request.")
                self.alive = False
            # Whoever speaks another protocol than HTTP asks once on a connection.
            kept = self.alive and self.cfg.keepalive and isinstance(req, Request)
            if not kept or self.nr_conns > self.max_keepalived:
                answer.force_close()
            body = self.wsgi(environ, answer.start_response)
            try:
                answer.send(body, environ["wsgi.file_wrapper"])
            finally:
                self.log.access(answer, req, environ, timedelta(seconds=time.perf_counter() - begin))
                if hasattr(body, "close"):
                    body.close()
            return not answer.should_close()
        except OSError:
            raise
        except errors.StoreError as error:
            # An answer that has begun can only end before its announced length.
            log = logger.bind(request_id=(environ.get(NOTE) or Note()).request_id)
            log.error("{} {}: {}", req.method, shown_path(req), broke_off(error))
            return False
        except (Exception, SystemExit):
            if answer and answer.headers_sent:
                # A second answer would stand in the middle of the first.
                self.log.exception("Error handling request")
                close_graceful(conn.sock)
                raise StopIteration() from None
            raise
        finally:
            try:
                self.cfg.post_request(self, req, environ, answer)
            except Exception:  # pylint: disable=broad-exception-caught
                self.log.exception("Exception in post_request hook")

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what cannot be parsed as the application answers; nothing of it is logged."""
        if not isinstance(exc, parsing.ParseException) or isinstance(exc, OWN_FAULTS):
            super().handle_error(req, client, addr, exc)
        else:
            self.refuse(client, addr, refusal_of(exc), req.method if req else getattr(exc, "method", None))

    def refuse(
        self, client: socket.socket, addr: Any, refusal: errors.WSGIStoreError, method: str | None
    ) -> None:
        """Answer a request that does not get to the application, and log it unless there are many."""
        identity = secrets.token_hex(8)
        origin = addr[0] if addr else "a Unix socket"
        self.refused.warn(f"refused a request from {origin}: {refusal.message}", request_id=identity)
        response = problem(refusal, identity)
        # It is loaded where something is counted.
        if metrics := sys.modules.get("wsgi_store.metrics"):
            environ = {"REQUEST_METHOD": method or "-"}
            metrics.count(environ, None, response, 0.0, errors.code(type(refusal)))
        fields = [
            *response.headers,
            ("Date", http_date()),
            ("Connection", "close"),
            ("X-Request-ID", identity),
        ]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        body = b"" if method == "HEAD" else b"".join(response.body)
        # It fits into a socket, unless this client did not read what it was sent before.
        with suppress(OSError):
            client.settimeout(0)
            client.sendall(f"HTTP/1.1 {response.status}\r\n{head}\r\n".encode() + body)
