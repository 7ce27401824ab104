"""How a worker process starts, takes signals and ends."""

import logging
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers import gthread

# The signals that end a worker.
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class _Threads(ThreadPoolExecutor):
    """A thread pool that goes on with the threads it has when the system gives it no more."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            logging.getLogger("gunicorn.error").warning("%s, there are %d", error, len(self._threads))


class MethodQueue(gthread.PollableMethodQueue):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's queue of calls for the event loop, with a pipe that outlives the loop."""

    def close(self) -> None:
        """Leave the pipe open.

        Threads that outlive the loop still write to it. If it were closed, its descriptor could be that of
        another file by then, an upload perhaps.
        """


@cache
def _unblock_in_master_after_forks() -> None:
    os.register_at_fork(after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, ENDING))


class WorkerProcess(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's thread worker, which loses no signal and always ends."""

    cfg: Any
    nr_conns: int

    @classmethod
    def setup(cls) -> None:
        """Prepare the master; gunicorn calls this whenever it looks the class up."""
        _unblock_in_master_after_forks()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a worker in the master, which then forks."""
        super().__init__(*args, **kwargs)
        self.method_queue = MethodQueue()
        self._quit_at_once = False
        # A new process has the master's handlers until it sets its own. They would take a signal for one
        # to the master and lose it, and a stop would last for graceful_timeout.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def init_signals(self) -> None:
        """Set the worker's handlers, then take the signals that have arrived meanwhile."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Return the threads that serve requests."""
        return _Threads(self.cfg.threads)

    def run(self) -> None:
        """Serve until a signal ends the worker."""
        # Python writes to this pipe on a signal. Read by the loop, it interrupts the wait for events.
        self.poller.register(self.PIPE[0], EVENT_READ, lambda pipe: os.read(pipe, 1 << 10))
        super().run()
        if self.nr_conns > 0:
            # Without the loop nobody would serve the next request on a connection that a thread keeps.
            self.log.warning("Ending connections that took longer than graceful_timeout: %d", self.nr_conns)
            self._abandon_threads()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End at once; the event loop does it."""
        # The signal may interrupt the loop while it holds the lock of the thread pool, which the end would
        # wait for, or while a new thread is not yet known to the pool, which could not tell it to end.
        self._quit_at_once = self.booted
        if not self._quit_at_once:
            super().handle_quit(sig, frame)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Run the event loop once, for `timeout` seconds at most."""
        super().wait_for_and_dispatch_events(timeout)
        if self._quit_at_once:
            self._abandon_threads()
            super().handle_quit(signal.SIGQUIT, None)

    def _abandon_threads(self) -> None:
        """End the process at exit, when Python would wait for threads and their transfers."""
        # pylint: disable-next=protected-access
        threading._register_atexit(os._exit, 0)  # type: ignore[attr-defined]
