"""Stopping the shipped gunicorn while its workers start."""

import signal
import time
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.crowds import SLOW_UPLOAD, Crowd, dripping

SLOW_START = """
import runpy
import time

globals().update(runpy.run_path({shipped!r}))
_post_fork = post_fork

def post_fork(server, worker):
    _post_fork(server, worker)
    if worker.age == 2:
        server.log.info("starting slowly")
        time.sleep(1)
"""

# Delay the main thread of a worker when it starts a thread for a request.
SLOW_THREAD = """
import runpy
import threading
import time

globals().update(runpy.run_path({shipped!r}))
_start = threading.Thread.start

def _start_slowly(thread):
    _start(thread)
    if "ThreadPoolExecutor" in thread.name:
        time.sleep(1)

def post_worker_init(worker):
    threading.Thread.start = _start_slowly
"""

SAYS_GOODBYE = """
import runpy

globals().update(runpy.run_path({shipped!r}))

def worker_int(worker):
    worker.log.info("told to quit")

def worker_exit(server, worker):
    worker.log.info("goodbye")
"""


def started(directory: Path, settings: str, name: str, workers: int) -> servers.Server:
    """A server with these additional settings, to be stopped by the signal of that name."""
    conf = directory / "gunicorn.conf.py"
    conf.write_text(settings.format(shipped=str(servers.DEPLOY / "gunicorn.conf.py")))
    arguments = ("-c", str(conf), "--graceful-timeout", "20")
    # Without strict warnings: a quick end leaves gunicorn's sockets to the garbage collector.
    server = servers.gunicorn(directory, *arguments, python=(), whole=False, workers=workers)
    server.end_signal = signal.Signals[name]
    return server


def seconds_to_stop(server: servers.Server) -> float:
    """The seconds that a server takes to stop."""
    begin = time.monotonic()
    server.stop()
    return time.monotonic() - begin


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_a_signal_to_a_worker_that_starts(tmp_path: Path, name: str) -> None:
    """A signal that reaches a worker before its handlers are installed still ends it and the server."""
    with started(tmp_path, SLOW_START, name, workers=2) as server:
        server.await_log("starting slowly")
        assert seconds_to_stop(server) < 10


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_a_signal_to_a_worker_that_starts_a_thread(tmp_path: Path, name: str) -> None:
    """A signal that reaches a worker while it starts a thread still ends it and the server."""
    with started(tmp_path, SLOW_THREAD, name, workers=1) as server:
        assert seconds_to_stop(server) < 10


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT"])
def test_a_signal_during_a_transfer(tmp_path: Path, name: str) -> None:
    """On an immediate stop, a worker abandons its transfers, but still runs its exit hooks."""
    with started(tmp_path, SAYS_GOODBYE, name, workers=1) as server, Crowd() as crowd:
        client = crowd.join(server.port, SLOW_UPLOAD)
        server.until_staged()
        with dripping([client]):
            assert seconds_to_stop(server) < 10
        for last in ("told to quit", "Worker exiting", "goodbye"):
            assert len(server.logged(last)) == 1
