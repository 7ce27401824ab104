"""Answers on their way out of gunicorn: made with less work, and refusals like the application's."""

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from gunicorn.http import wsgi
from gunicorn.util import close_graceful, has_fileno, http_date, is_hoppish
from gunicorn.workers import gthread

from wsgi_store import errors
from wsgi_store.gunicorn.body import Body
from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.log import shown_path
from wsgi_store.gunicorn.request import Continue, Refused, Request
from wsgi_store.gunicorn.transfer_slots import DOWNLOADS, Places
from wsgi_store.logs import logger
from wsgi_store.web.exchange import exchange_of
from wsgi_store.web.request import KEPT
from wsgi_store.web.stream import broke_off

# A body is copied behind its head up to here: one packet wakes a client once, and copying is cheaper.
JOINED = 64 << 10
# How a socket says that the client has left.
LEFT = {None, errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN}
# What sendfile(2) is asked for at once.
PIECE = 1 << 30


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
    status: str | None
    headers: list[tuple[str, str]]
    response_length: int | None
    chunked: bool
    sent: int

    def __init__(self, req: Any, sock: Any, cfg: Any, conn: Connection, places: Places) -> None:
        super().__init__(req, sock, cfg)
        self._conn = conn
        self._places = places
        self._head = b""  # made, and not sent
        self.moved = 0  # bytes that the socket has taken

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Take the head of an answer; raises Busy, and takes another, where no thread may wait for this."""
        write = super().start_response(status, headers, exc_info)
        length = self.response_length
        is_long = not self._omits_body and (length is None or length > JOINED)
        if is_long and not self._claim(DOWNLOADS):
            self.status, self.headers, self.response_length, self.chunked = None, [], None, False
            raise errors.Busy("too many transfers are under way")
        return write

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
            data, self._head = self._head + data, b""
        self._send_head()
        self._send(data)

    def _claim(self, share: float = 1) -> bool:
        """Whether a thread may wait for the client to take this."""
        given = self._places.claim(self._conn, share)
        if given:
            self.follow()
        return given

    def follow(self) -> None:
        """Have the transfer know what moves."""
        if (transfer := self._conn.transfer) is not None:
            # Of a body of another protocol than HTTP nothing is known.
            body = self.req.body if isinstance(self.req.body, Body) else None
            if body is not None:
                body.transfer = transfer
            transfer.follow(body, self)

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        transfer = self._conn.transfer
        if not self.cfg.is_ssl:
            # Mostly it fits into the socket, and nobody is waited for: to ask first takes a system call.
            with suppress(BlockingIOError):
                count = os.write(self.sock.fileno(), rest)
                self.moved += count
                rest = rest[count:]
            if rest and (transfer.ended if transfer is not None else not self._claim()):
                self._conn.reset()
        # The timeout is for all that is sent at once, and a slow reader must not be cut for it.
        while rest:
            count = self.sock.send(rest[:JOINED])
            self.moved += count
            rest = rest[count:]

    def sendfile(self, respiter: Any) -> bool:
        """Send a file by sendfile(2) where that can be done."""
        file = respiter.filelike
        if self.cfg.is_ssl or self.chunked or not self.can_sendfile() or not has_fileno(file):
            return False
        if self._conn.transfer is None and not self._omits_body:
            return False  # a small one, which is not to wait for its client here
        fd = file.fileno()
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        left = os.fstat(fd).st_size - offset if self.response_length is None else self.response_length
        self.send_headers()
        # Where nothing follows it the kernel would hold the head back for 200 ms (tcp(7), TCP_CORK).
        if self._omits_body or not left:
            return True
        self._send_head(socket.MSG_MORE)
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        timeout = self.sock.gettimeout()
        while left:
            try:
                count = os.sendfile(self.sock.fileno(), fd, offset, min(left, PIECE))
            except BlockingIOError:
                if not poll.poll(None if timeout is None else timeout * 1000):
                    raise TimeoutError("the client takes nothing") from None
                continue
            except OSError as error:
                if self.sent or error.errno in LEFT:
                    raise
                return False  # some file systems have no sendfile(2), and those that fail fail again
            if not count:
                break  # it was cut meanwhile
            offset += count
            left -= count
            self.sent += count
            self.moved += count
        os.lseek(fd, offset, os.SEEK_SET)
        return True

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
            if flags:
                self.sock.sendall(head, flags)
            else:
                self._send(head)


_date = lru_cache(1)(http_date)


class Answering(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's thread worker as far as it answers requests."""

    alive: bool
    places: Places

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
            if error.errno in LEFT:
                raise
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
                req,
                conn.sock,
                conn.client,
                conn.server,
                self.cfg,
                response_class=Answer,
                response_args=(conn, self.places),
            )
            self._follow(conn, req, answer)
            environ["wsgi.multithread"] = True
            exchange = exchange_of(environ)
            exchange.own_worker = True
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
                if exchange.count_sent is not None:
                    exchange.count_sent(answer.sent)
                self.log.access(answer, req, environ, timedelta(seconds=time.perf_counter() - begin))
                if hasattr(body, "close"):
                    body.close()
            return not answer.should_close()
        except OSError:
            raise
        except errors.Busy as error:  # another application than this one does not know it
            raise Refused(error, req.method) from None
        except errors.StoreError as error:
            # An answer that has begun can only end before its announced length.
            log = logger.bind(request_id=exchange_of(environ).request_id)
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

    def _follow(self, conn: Connection, req: Any, answer: Answer) -> None:
        """Have the transfer know what moves; refuses a body that nobody saw in the head."""
        body = req.body
        hidden = conn.body is None or not conn.body.has_come(0)
        if (
            conn.transfer is None
            and hidden
            and isinstance(body, Body)
            and not body.is_whole()
            and not self.places.claim(conn, upload=True)
        ):
            raise Refused(errors.Busy("too many transfers are under way"), req.method)
        answer.follow()
