"""gunicorn's thread worker, kept serving when clients are slow, half-open or will not leave."""

import errno
import logging
import math
import mmap
import os
import secrets
import signal
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http import errors as parsing
from gunicorn.util import http_date
from gunicorn.workers import gthread
from loguru import logger

from wsgi_store import errors
from wsgi_store.app import problem
from wsgi_store.connection import Connection, Continue
from wsgi_store.gunicorn import shown_path

# accept(2) may fail for want of descriptors, memory or a network, which a moment may cure.
ACCEPT_PAUSE = 0.2  # seconds
ACCEPT_SAID = 1.0  # seconds before it is logged again
# A connection is left for so long to a worker that has fewer, which may have to wait for a processor;
# meanwhile it is looked at again so often. In seconds; no poller waits less than the second.
LEFT = 0.005
LEFT_LOOK = 0.001
# No connection is left to a worker that has not looked for so long, in seconds; idle ones look each second.
ABSENT = 2.0
# The next request on a connection is awaited for so long by the thread that served the last, in seconds.
NEXT = 0.01
# What gunicorn's parser refuses otherwise than as a bad request.
REFUSALS = {
    parsing.LimitRequestLine: errors.UriTooLong,
    parsing.LimitRequestHeaders: errors.HeadTooLarge,
    parsing.ExpectationFailed: errors.ExpectationFailed,
    parsing.ForbiddenProxyRequest: errors.Denied,
}
# These, though parsing errors too, the application brought about.
OWN_FAULTS = (parsing.InvalidResponseHeader, parsing.InvalidResponseHeaderName)
# What ends a worker.
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}

# How many connections each worker has, and until when (monotonic time) it is one that accepts. It is
# memory of the master, shared with the workers it forks; each writes at its own place. Should there
# be more of them some have a place in common, and are balanced less well.
PLACES = 64
_table = memoryview(mmap.mmap(-1, 2 * 8 * PLACES)).cast("d")
_counts, _present = _table[:PLACES], _table[PLACES:]

# In the master, which blocks them for the worker it is about to start.
os.register_at_fork(after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, ENDING))


class _Threads(ThreadPoolExecutor):
    """Threads as they are needed; where no more can be had, those there are serve."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            logging.getLogger("gunicorn.error").warning("%s, there are %d", error, len(self._threads))


class Worker(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's thread worker with its thread pool kept for requests that can be served.

    A connection gets a thread once the head of its request is there, and is closed by that
    thread and not by the loop that accepts; a worker whose threads are all busy leaves new
    connections to others.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy = 0
        self._accept_again = self._say_again = 0.0
        self._left = 0.0  # until when connections are left to others, 0 when there are none
        self._place = self.age % PLACES
        # Until it has handlers of its own the new process has copies of the master's, which would
        # take a signal for one to the master, and lose it: a stop would wait for graceful_timeout.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def init_signals(self) -> None:
        """Listen to signals, and to those that came meanwhile."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """The threads that serve requests."""
        return _Threads(self.cfg.threads)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept when asked to and able to."""
        able = self._busy < self.cfg.threads and time.monotonic() >= self._accept_again
        super().set_accept_enabled(enabled and able)

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection in and wait for its request's head, unless another worker should."""
        # All workers are told of a connection, and the first to run would take all of a burst: of 16
        # that stay, one of two workers had three or fewer in more than half of all cases, now in none.
        now = time.monotonic()
        if self.nr_conns > self._least(now):
            self._left = self._left or now + LEFT
            if now < self._left:
                self._accept_again = now + LEFT_LOOK
                self.set_accept_enabled(False)
                return
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                now = time.monotonic()
                if now >= self._say_again:
                    self.log.error("cannot accept: %s", error.strerror)
                    self._say_again = now + ACCEPT_SAID
                self._accept_again = now + ACCEPT_PAUSE
                self.set_accept_enabled(False)
            return
        self.nr_conns += 1
        self._await_head(Connection(self.cfg, client, address, listener.getsockname()))

    def _least(self, now: float) -> float:
        """The connections of the worker that has fewest."""
        return min((count for count, until in zip(_counts, _present) if until > now), default=math.inf)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait no longer than until it is time to accept again."""
        now = time.monotonic()
        looking = self._accepting
        _counts[self._place] = self.nr_conns
        _present[self._place] = now + ABSENT if looking or now < self._left else 0
        pause = self._accept_again - now
        if pause > 0:
            timeout = min(timeout, pause)
        elif looking and self._left:
            timeout = 0  # whether what was left is still there
        super().wait_for_and_dispatch_events(timeout)
        if looking and self._accepting:
            self._left = 0.0  # it has been taken, here or elsewhere

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """The next request begins on a kept connection."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_head(conn)

    def on_pending_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """More of a head has come."""
        if conn.head_is_whole():
            super().on_pending_socket_readable(conn, client)

    def enqueue_req(self, conn: Connection) -> None:
        """Give the connection to a thread, and stop accepting when it was the last one."""
        conn.data_ready = True
        self._busy += 1
        if self._busy >= self.cfg.threads:
            self.set_accept_enabled(False)
        super().enqueue_req(conn)

    def finish_request(self, conn: Connection, fs: "Future[Any]") -> None:
        """Keep the connection for its next request, or forget it: its thread has closed it."""
        self._busy -= 1
        if fs.cancelled() or fs.exception() or not fs.result():
            self.nr_conns -= 1
            self._accept_again = 0.0  # what it held may be all that was missing
        elif conn.read_ahead():
            self._await_head(conn)
        else:
            super().finish_request(conn, fs)
        self.set_accept_enabled(self.alive and self.nr_conns < self.worker_connections)

    def handle(self, conn: Connection) -> Any:
        """Serve requests in a thread; closing may take long and is done here too."""
        while True:
            keep = False
            try:
                keep = super().handle(conn)
            finally:
                if not keep:
                    conn.linger()
            # While threads abound the next request is awaited here for a moment, not through the
            # poller and a queue: 16 clients get 1.1 times as many blobs of 4 KiB a second, 1.4 HEADs.
            spare = self.alive and self._busy <= self.cfg.threads // 2
            if not (keep and spare and conn.next_comes(NEXT)):
                return keep

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Serve a request whose head is there."""
        if req._expected_100_continue:  # pylint: disable=protected-access
            req._expected_100_continue = False  # pylint: disable=protected-access
            req.body.reader = Continue(req, conn.sock)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            self.log.info("Closing a connection that moved nothing for too long.")
            return False
        except OSError as error:
            if error.errno in (None, errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise  # the client left
            # sendfile(2) tells of a disk here, which gunicorn takes for the socket.
            path = shown_path(req)
            self.log.error("The answer to %s %s broke off: %s", req.method, path, error.strerror)
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what cannot be parsed as the application answers; nothing of it is logged."""
        if not isinstance(exc, parsing.ParseException) or isinstance(exc, OWN_FAULTS):
            super().handle_error(req, client, addr, exc)
            return
        kind = type(exc).__name__
        refusal = REFUSALS.get(type(exc), errors.BadRequest)(f"the server cannot read this request: {kind}")
        identity = secrets.token_hex(8)
        logger.bind(request_id=identity).warning("{} from {}", kind, addr[0] if addr else "a Unix socket")
        response = problem(refusal, identity)
        fields = [
            *response.headers,
            ("Date", http_date()),
            ("Connection", "close"),
            ("X-Request-ID", identity),
        ]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        with suppress(OSError):
            client.sendall(f"HTTP/1.1 {response.status}\r\n{head}\r\n".encode() + b"".join(response.body))

    def _cap_keepalive(self, deadline: float) -> None:
        """Let a stopping worker wait no longer for heads than for kept connections."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _await_head(self, conn: Connection) -> None:
        """Give the connection a thread once the head of its request is there."""
        conn.await_head()
        if conn.head_is_whole():
            self.enqueue_req(conn)
            return
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))
