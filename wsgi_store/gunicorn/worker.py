"""The gunicorn worker of this package: gunicorn's thread worker, made for long transfers and slow clients."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ
from typing import Any, ClassVar

from wsgi_store.config import Config
from wsgi_store.errors import Busy, RequestTimeout
from wsgi_store.gunicorn.accept import AcceptGate, ConnectionCounts
from wsgi_store.gunicorn.admission import Admission
from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.error_response import ErrorResponder
from wsgi_store.gunicorn.lane import NEXT, Lane
from wsgi_store.gunicorn.lingering_close import LingeringClose
from wsgi_store.gunicorn.request import LATE
from wsgi_store.gunicorn.request_handler import RequestHandler
from wsgi_store.gunicorn.settings import Settings
from wsgi_store.gunicorn.transfer_slots import UNPROVEN


class Worker(RequestHandler):
    """gunicorn's thread worker, whose threads serve only requests that have arrived.

    The way of a connection. Everything but `handle` runs in the event loop, in the main thread:

    1. `accept` takes it, unless all threads are busy or another worker has fewer connections.
    2. `await_head` waits, without a thread, until the head of a request has arrived.
    3. `dispatch` gives the request a thread at once, or when a slot for its transfer is free (Admission).
    4. `handle` serves the request in a thread (RequestHandler).
    5. `finish_request` waits for the next request, in the Lane if one thread can serve many connections.
    6. `end` closes it when the client has had time to read the answer (LingeringClose).
    """

    _counts: ClassVar[ConnectionCounts | None] = None
    _gate: AcceptGate
    _admission: Admission
    _closing: LingeringClose
    _lane: Lane

    @classmethod
    def setup(cls) -> None:
        """Prepare the master; gunicorn calls this whenever it looks the class up."""
        super().setup()
        Worker._counts = Worker._counts or ConnectionCounts()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a worker in the master, which then forks."""
        super().__init__(*args, **kwargs)
        self._busy = 0  # how many threads serve

    def init_process(self) -> None:
        """Read the settings, then load the application and serve."""
        config = Config.from_env()
        self.cfg = Settings(self.cfg, config)
        self.error_responder = ErrorResponder(config)
        super().init_process()

    def run(self) -> None:
        """Serve until a signal ends the worker."""
        config = self.cfg.service
        self._gate = AcceptGate(self._counts or ConnectionCounts(), self.age, self.log)
        self._admission = Admission(self.cfg.threads, config, self.enqueue_req, self.method_queue.defer)
        self.slots = self._admission.slots
        self._closing = LingeringClose(self.poller, self._forget)
        self._lane = Lane(self.poller, self._start_leader, self._serve_in_lane, self.await_head)
        super().run()
        self._lane.close()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Run the event loop once; no longer than until something has to be looked after."""
        pause = self._gate.before_wait(self.nr_conns, self._accepting)
        timeout = min(timeout, pause, self._admission.longest_wait(), self._lane.longest_wait())
        super().wait_for_and_dispatch_events(timeout)
        self._gate.after_wait(self._accepting)
        self._closing.expire()
        self._admission.look()
        for conn in self._admission.pop_expired():
            if not conn.cfg.is_ssl or conn.initialized:  # before the TLS handshake no answer can be read
                busy = Busy("too many transfers are under way")
                self.error_responder.respond(conn.sock, conn.client, busy, None)
            conn.shut()
            self._closing.add(conn)
        self.error_responder.look()
        self._lane.look()

    # 1: accept

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting; a worker without a free thread, or in a pause, stops."""
        super().set_accept_enabled(enabled and self._busy < self.cfg.threads and self._gate.is_open())

    def _accept_if_able(self) -> None:
        """Accept again if all that was missing was a thread or room for a connection."""
        self.set_accept_enabled(self.alive and self.nr_conns < self.worker_connections)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, unless it is another worker's turn."""
        if self._gate.leaves(self.nr_conns):
            self.set_accept_enabled(False)
            return
        try:
            client, address = listener.accept()
        except OSError as error:
            if self._gate.pauses_after(error):
                self.set_accept_enabled(False)
            return
        self.nr_conns += 1
        self.await_head(Connection(self.cfg, client, address, listener.getsockname()))

    # 2: await the head of a request

    def await_head(self, conn: Connection) -> None:
        """Dispatch the next request on a connection once its head has arrived."""
        conn.await_head()
        if conn.head_has_arrived():
            self.dispatch(conn)
            return
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """More of a head has arrived."""
        if conn.head_has_arrived():
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            self.dispatch(conn)

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """The next request begins on a kept connection."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self.await_head(conn)

    def murder_pending(self) -> None:
        """End the connections whose head is late, with an answer if part of it has arrived."""
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            conn = self.pending_conns.popleft()
            self.poller.unregister(conn.sock)
            if conn.has_begun():
                self.error_responder.respond(conn.sock, conn.client, RequestTimeout(LATE), conn.method())
                conn.shut()
                self._closing.add(conn)
            else:
                conn.close()
                self._forget()

    # 3: find a thread

    def dispatch(self, conn: Connection) -> None:
        """Give a request a thread, or queue it."""
        self._admission.admit(conn)

    def enqueue_req(self, conn: Connection) -> None:
        """Give a request a thread."""
        conn.data_ready = True
        self._take_thread()
        super().enqueue_req(conn)

    def _take_thread(self) -> None:
        self._busy += 1
        if self._busy >= self.cfg.threads:
            self.set_accept_enabled(False)

    def _start_leader(self, lead: Callable[[], object], ended: Callable[[], object]) -> bool:
        """Give the lane a thread if fewer than half are busy; whether it got one."""
        if self._busy >= self.cfg.threads // 2:
            return False
        self._take_thread()
        future = self.tpool.submit(lead)
        future.add_done_callback(lambda _: self.method_queue.defer(self._end_leader, ended))
        return True

    def _end_leader(self, ended: Callable[[], object]) -> None:
        self._busy -= 1
        ended()
        self._accept_if_able()

    # 4: serve, in a thread

    def handle(self, conn: Connection) -> bool:
        """Serve requests; whether the connection can stay open."""
        while True:
            keep = self._serve(conn)
            if not keep or self._belongs_to_lane(conn):
                return keep
            # While threads abound it is faster to wait here for a moment than to go through the poller.
            spare = self.alive and self._busy <= self.cfg.threads // 2
            if not (spare and conn.receive_head(NEXT)):
                return keep
            conn.transfer = None
            if conn.body is not None and not self.slots.take(conn, UNPROVEN):
                return keep

    def _serve(self, conn: Connection) -> bool:
        """Serve one request."""
        keep = False
        try:
            keep = bool(super().handle(conn))
        finally:
            self.slots.leave(conn)
            if not keep:
                conn.begin_close()
        return keep

    def _belongs_to_lane(self, conn: Connection) -> bool:
        """Whether the next request on a connection is likely to be one for the lane."""
        return conn.suits_lane() and conn.has_read() and self._lane.is_open()

    def _serve_in_lane(self, conn: Connection) -> bool:
        """Serve a GET or HEAD and leave anything else to the event loop; whether the connection stays."""
        if not conn.receive_head():
            self.method_queue.defer(self.await_head, conn)
        elif conn.body is not None or not conn.read_ahead().startswith((b"GET ", b"HEAD ")):
            self.method_queue.defer(self.dispatch, conn)
        else:
            conn.transfer = None
            keep = False
            try:
                keep = self._serve(conn)
            finally:
                if not keep:
                    self.method_queue.defer(self.end, conn)
            if keep and not conn.read_ahead():
                return True
            if keep:
                self.method_queue.defer(self.await_head, conn)
        return False

    # 5: await the next request

    def finish_request(self, conn: Connection, fs: "Future[bool]") -> None:
        """Wait for the next request, or end the connection."""
        self._busy -= 1
        if fs.cancelled() or fs.exception() or not fs.result():
            self.end(conn)
        elif conn.read_ahead() or conn.has_decrypted():
            self.await_head(conn)
        elif conn.suits_lane():
            self._lane.keep(conn)
        else:
            super().finish_request(conn, fs)
        self._accept_if_able()

    def murder_keepalived(self, force: bool = False) -> None:
        """Close the connections that have waited too long for their next request, or all."""
        super().murder_keepalived(force)
        if force:
            self._lane.end_by(0)
        for conn in self._lane.expired():
            self.nr_conns -= 1
            conn.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """Let a stopping worker wait for requests until `deadline` at the latest."""
        super()._cap_keepalive(deadline)
        self._lane.end_by(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    # 6: end

    def end(self, conn: Connection) -> None:
        """Close a connection whose thread has sent the end."""
        if conn.sock.fileno() < 0:
            self._forget()
        else:
            self._closing.add(conn)

    def _forget(self) -> None:
        """A connection was closed."""
        self.nr_conns -= 1
        self._gate.reopen()
