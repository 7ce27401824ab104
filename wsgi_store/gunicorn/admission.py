"""How requests in a worker of gunicorn come to a thread, and connections to their end."""

import time
from typing import Any

from wsgi_store.config import Config
from wsgi_store.errors import Busy, RequestTimeout
from wsgi_store.gunicorn.accept import Accepting
from wsgi_store.gunicorn.lingering_close import Leaving
from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.error_response import Refusing
from wsgi_store.gunicorn.request import LATE
from wsgi_store.gunicorn.transfer_slots import LOOK, UNPROVEN, WAITED, Places, unread
from wsgi_store.gunicorn.upload_queue import TICK, Line


class Queueing(Accepting, Refusing):  # pylint: disable=abstract-method  # the worker has it
    """gunicorn's thread worker as far as requests wait in it, and connections leave it."""

    cfg: Any
    places: Places
    _line: Line
    _leaving: Leaving

    def open_line(self) -> None:
        """Begin, once there is a loop."""
        config = Config.from_env()
        self._leaving = Leaving(self.poller, self._forget)
        self.places = Places(max(1, self.cfg.threads * 7 // 8), config.min_rate, self._place_is_free)
        self._line = Line(config.min_rate, config.idle_timeout)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait no longer than until it is time to look how fast bytes come."""
        if self._line:
            timeout = min(timeout, TICK)
        elif self.places.is_scarce():
            timeout = min(timeout, LOOK)
        super().wait_for_and_dispatch_events(timeout)
        self._leaving.expire()
        self._serve_line()
        self.refused.catch_up()

    def dispatch(self, conn: Connection) -> None:
        """Give a request a thread, or have it wait where the thread would have to wait for the client."""
        conn.transfer = None
        body = conn.body
        if body is None or self.places.take(conn, UNPROVEN):
            self.enqueue_req(conn)
            return
        if body.has_come(unread(conn.sock)):
            conn.body = body.arrived()
            self.enqueue_req(conn)
            return
        self._line.add(conn)
        self._give_place(time.monotonic())

    def _serve_line(self) -> None:
        """Give places to those whose bytes come, and let nobody wait for ever."""
        self.places.look()
        if not self._line:
            return
        self._line.rank()
        for conn in self._line.pop_whole():
            self.enqueue_req(conn)
        now = time.monotonic()
        while self._give_place(now):
            pass
        for conn in self._line.expired():
            if not conn.cfg.is_ssl or conn.initialized:  # else nothing can be said before the handshake
                self.refuse(conn.sock, conn.client, Busy("too many transfers are under way"), None)
            conn.shut()
            self._leaving.add(conn)

    def _give_place(self, now: float) -> bool:
        """Give the next in line a place, if there is one for it."""
        conn = self._line.next()
        if conn is None:
            return False
        comes = self._line.comes(conn, now)
        share = UNPROVEN if not comes else 1 if self._line.is_new(conn, now) else WAITED
        # A place is made for one whose bytes come, or cannot come before it has one.
        is_worth = comes or conn.body.asked_for
        given = self.places.claim(conn, share, upload=True) if is_worth else self.places.take(conn, share)
        if given:
            self._line.remove(conn)
            self.enqueue_req(conn)
        return given

    def _place_is_free(self) -> None:
        if self._line:
            self.method_queue.defer(self._give_place, time.monotonic())

    def part_with(self, conn: Connection) -> None:
        """Close a connection to which nothing more is sent, unless that was done."""
        if conn.sock.fileno() < 0:
            self._forget()
        else:
            self._leaving.add(conn)

    def _forget(self) -> None:
        """A connection was closed."""
        self.nr_conns -= 1
        self._accept_again = 0.0  # what it held may be all that was missing

    def murder_pending(self) -> None:
        """Answer those whose head did not come in time, and close the connections on which nothing came."""
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            conn = self.pending_conns.popleft()
            self.poller.unregister(conn.sock)
            if conn.has_begun():
                self.refuse(conn.sock, conn.client, RequestTimeout(LATE), conn.method())
                conn.shut()
                self._leaving.add(conn)
            else:
                conn.close()
                self._forget()
