"""gunicorn's thread worker, kept serving when clients are slow, half-open or will not leave."""

import logging
import os
import signal
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers import gthread

from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.admission import Queueing
from wsgi_store.gunicorn.lane import Lane
from wsgi_store.gunicorn.response import Answering
from wsgi_store.gunicorn.transfer_slots import UNPROVEN

# The next request is awaited for so long by the thread that served the last, in seconds.
NEXT = 0.01
# A thread that serves a request of the lane for longer is held up, by a disk or a client: another one
# goes on with the lane, and for a while each request has a thread of its own. In seconds.
HELD_UP = 0.02
APART = 1.0
# What ends a worker.
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}

# In the master, which blocks them for the worker it is about to start.
os.register_at_fork(after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, ENDING))


class _Threads(ThreadPoolExecutor):
    """Threads as they are needed; where no more can be had, those there are serve."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            logging.getLogger("gunicorn.error").warning("%s, there are %d", error, len(self._threads))


class Calls(gthread.PollableMethodQueue):  # type: ignore[misc]  # gunicorn has no type hints
    """What threads have the loop do; told of by a pipe."""

    def close(self) -> None:
        """Keep the pipe: threads that outlive the loop write into it.

        Were it closed, they would write into the file that has its number by then: an upload, perhaps.
        """


class _Settings:
    """gunicorn's settings, each looked up once: it does so by a table of objects, 22 times a request."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._settings, name)
        setattr(self, name, value)
        return value


class _Leader:
    """The thread that serves the lane: how often it has begun or ended to serve a request."""

    turns = 0  # odd while it serves one


class Worker(Queueing, Answering):
    """gunicorn's thread worker with its thread pool kept for requests that can be served.

    A connection gets a thread once the head of its request is there, and is closed by a thread and
    not by the loop that accepts.

    The lane: kept connections on which a GET or HEAD comes are served by one thread, the leader,
    in turn. CPython runs one thread at a time, and hands over at each system call to one that waits:
    16 connections served by a thread each cost 7 changes of thread a request and 1.5 times the time.
    """

    cfg: Any
    _lane: Lane

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method_queue = Calls()
        self._leader: _Leader | None = None
        self._seen: tuple[int, float] = 0, 0.0  # of the leader: its turns, and since when it has had them
        self._apart_until = 0.0
        self._quit = False
        # Until it has handlers of its own the new process has copies of the master's, which would
        # take a signal for one to the master, and lose it: a stop would wait for graceful_timeout.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def init_signals(self) -> None:
        """Listen to signals, and to those that came meanwhile."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End at once, but from the loop."""
        # In the middle of giving a request to a thread the lock of the pool is held, for which the end
        # would wait in vain, or a thread was started that nobody knows yet and could tell to end.
        self._quit = self.booted
        if not self._quit:
            super().handle_quit(sig, frame)

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """The threads that serve requests."""
        return _Threads(self.cfg.threads)

    def run(self) -> None:
        """Serve until told to stop; each signal has the loop come round."""
        self.cfg = _Settings(self.cfg)
        self.poller.register(self.PIPE[0], EVENT_READ, lambda pipe: os.read(pipe, 1 << 10))
        self._lane = Lane()
        self.open_line()
        self._await_lane()
        super().run()
        self._lane.close()
        if self.nr_conns > 0:
            # Without the loop nobody serves what comes on a connection that a thread has kept.
            self.log.warning("Ending connections that took longer than graceful_timeout: %d", self.nr_conns)
            self._leave_threads()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait no longer than until it is time to look after something."""
        if self._leader is not None:
            timeout = min(timeout, HELD_UP)
        elif not self.alive and len(self._lane):
            timeout = min(timeout, max(self._lane.deadline - time.monotonic(), 0))
        super().wait_for_and_dispatch_events(timeout)
        if self._quit:
            self._leave_threads()
            super().handle_quit(signal.SIGQUIT, None)
        if self._leader is not None:
            self._watch(self._leader)

    def _leave_threads(self) -> None:
        """End, after all else, where Python would wait for the threads, whatever they transfer."""
        # pylint: disable-next=protected-access
        threading._register_atexit(os._exit, 0)  # type: ignore[attr-defined]

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """The next request begins on a kept connection."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self.await_head(conn)

    def on_pending_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """More of a head has come."""
        if conn.head_is_whole():
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            self.dispatch(conn)

    def await_head(self, conn: Connection) -> None:
        """Give the connection a thread once the head of its request is there."""
        conn.await_head()
        if conn.head_is_whole():
            self.dispatch(conn)
            return
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def enqueue_req(self, conn: Connection) -> None:
        """Give the connection to a thread, and stop accepting when it was the last one."""
        conn.data_ready = True
        self._take_thread()
        super().enqueue_req(conn)

    def finish_request(self, conn: Connection, fs: "Future[Any]") -> None:
        """Keep the connection for its next request, or forget it: its thread has closed it."""
        self._busy -= 1
        if fs.cancelled() or fs.exception() or not fs.result():
            self.part_with(conn)
        elif conn.read_ahead() or conn.has_decrypted():
            self.await_head(conn)
        elif conn.suits_lane():
            self._lane.keep(conn)
        else:
            super().finish_request(conn, fs)
        self.accept_if_able()

    def handle(self, conn: Connection) -> Any:
        """Serve requests in a thread."""
        while True:
            keep = False
            try:
                keep = super().handle(conn)
            finally:
                self.places.leave(conn)
                if not keep:
                    conn.leave()
            if not keep or self._goes_on_in_lane(conn):
                return keep
            # While threads abound the next request is awaited here for a moment, not through the
            # poller and a queue: of 16 clients, each with a thread, 1.08 times as many uploads a second.
            spare = self.alive and self._busy <= self.cfg.threads // 2
            if not (spare and conn.next_comes(NEXT)):
                return keep
            conn.transfer = None
            if conn.body is not None and not self.places.take(conn, UNPROVEN):
                return keep

    def _goes_on_in_lane(self, conn: Connection) -> bool:
        """Whether the next request on a connection is likely to be one for the lane."""
        return conn.suits_lane() and conn.has_read() and time.monotonic() >= self._apart_until

    def _take_thread(self) -> None:
        self._busy += 1
        if self._busy >= self.cfg.threads:
            self.set_accept_enabled(False)

    def _await_lane(self) -> None:
        """Have nobody lead until something comes."""
        self._leader = None
        self.poller.register(self._lane, EVENT_READ, self._on_lane)

    def _on_lane(self, _: object) -> None:
        """Something has come on a kept connection: appoint a leader."""
        if time.monotonic() >= self._apart_until and self._busy < self.cfg.threads // 2:
            self.poller.unregister(self._lane)
            leader = self._leader = _Leader()
            self._seen = 0, time.monotonic()
            self._take_thread()
            self.tpool.submit(self._lead, leader).add_done_callback(
                lambda _: self.method_queue.defer(self._resign, leader)
            )
        elif (conn := self._lane.next(0)) is not None:
            self.await_head(conn)

    def _resign(self, leader: _Leader) -> None:
        """The leader has found nothing to do, or was held up."""
        self._busy -= 1
        if self._leader is leader:
            self._await_lane()
        self.accept_if_able()

    def _watch(self, leader: _Leader) -> None:
        """Go on without a leader that is held up."""
        turns, since = self._seen
        now = time.monotonic()
        if leader.turns != turns:
            self._seen = leader.turns, now
        elif turns % 2 and now - since >= HELD_UP:
            self._apart_until = now + APART
            self._await_lane()

    def _lead(self, leader: _Leader) -> None:
        """Serve the lane until nothing comes for a moment."""
        while self._leader is leader and (conn := self._lane.next(NEXT)) is not None:
            if not conn.next_comes():
                self.method_queue.defer(self.await_head, conn)
            elif conn.body is not None or not conn.read_ahead().startswith((b"GET ", b"HEAD ")):
                self.method_queue.defer(self.dispatch, conn)
            else:
                self._serve(leader, conn)

    def _serve(self, leader: _Leader, conn: Connection) -> None:
        """Serve a request of the lane, and let others do what may take long."""
        keep = False
        leader.turns += 1
        conn.transfer = None
        try:
            keep = super().handle(conn)
        finally:
            leader.turns += 1
            self.places.leave(conn)
            if not keep:
                conn.leave()
                self.method_queue.defer(self.part_with, conn)
            elif conn.read_ahead():
                self.method_queue.defer(self.await_head, conn)
            else:
                self._lane.keep(conn)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether the connection can be used again, once the rest of a body is out of the way."""
        # Mostly there is none, and to look for it by reading takes two changes of the timeout.
        is_read = keepalive and conn.parser.mesg.is_read()
        return bool(is_read or super()._keepalive_after(conn, keepalive))

    def murder_keepalived(self, force: bool = False) -> None:
        """Close the connections that have waited too long for their next request, or all."""
        super().murder_keepalived(force)
        if force:
            self._lane.deadline = 0
        for conn in self._lane.expired():
            self.nr_conns -= 1
            conn.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """Let a stopping worker wait no longer for heads than for kept connections."""
        super()._cap_keepalive(deadline)
        self._lane.deadline = deadline
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)
