"""gunicorn's settings for this service: `gunicorn -c python:wsgi_store.gunicorn.conf`.

The command line, GUNICORN_CMD_ARGS and WEB_CONCURRENCY override them. A change needs a restart, or SIGUSR2.
"""

# pylint: disable=invalid-name  # the names are gunicorn's

import os
import shutil
import sys
from contextlib import suppress
from typing import Any

from wsgi_store import logs
from wsgi_store.banner import announce
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config
from wsgi_store.errors import ConfigError, WSGIStoreError
from wsgi_store.gunicorn.log import Logger
from wsgi_store.gunicorn.open_files import file_limit, fitting_connections, raise_limit, too_many_connections
from wsgi_store.gunicorn.processors import processors
from wsgi_store.gunicorn.startup import share_metrics, temporary_directory, try_store, warn_if_open
from wsgi_store.gunicorn.unsupported_options import refuse_daemon

# Read before gunicorn starts anything, so that a bad setting ends the start with one line.
try:
    _config = Config.from_env()
except WSGIStoreError as error:
    sys.exit(f"wsgi-store: {error}")

# gunicorn reads this file only to start a server.
refuse_daemon()

wsgi_app = "wsgi_store.wsgi:application"
bind = "127.0.0.1:8000"

# At least two, because hashing keeps a processor busy while other clients wait.
workers = int(os.environ.get("WEB_CONCURRENCY") or max(2, processors()))
worker_class = "wsgi_store.gunicorn.worker.Worker"
# Threads spend their time waiting for clients. They are started when needed and take little memory.
threads = 256
# Connections beyond the threads wait without one.
worker_connections = fitting_connections(file_limit(), threads)
keepalive = 5

# The worker reports to the master whatever its threads do: this does not limit transfers.
timeout = 60
# A stop cuts transfers that take longer than this.
graceful_timeout = 300
# No limit: after reaching it, a worker would stop accepting until its transfers finish.
max_requests = 0
# For heartbeats. If nothing is writable, the command line may still name a directory.
with suppress(ConfigError):
    worker_tmp_dir = temporary_directory(None)
# The socket is in the home directory, where two servers would share it.
control_socket_disable = True

# Room for a file name of 255 bytes, each as %XX, in the query of an upload.
limit_request_line = 8190

logger_class = Logger
accesslog = "-"
errorlog = "-"

# The directory for shared metrics, None without one; empty until the start has been prepared.
_metrics_directories: list[str | None] = []


def nworkers_changed(server: Any, _new_value: int, old_value: int | None) -> None:
    """Prepare the start in the first hook that gunicorn calls."""
    # With --preload gunicorn calls on_starting after it has loaded the application, which would open the
    # store as the wrong user, and count without the directory for shared metrics.
    if old_value is None:
        on_starting(server)


def on_starting(server: Any) -> None:
    """Check settings and store; a refusal ends the process with one line before a port is opened."""
    if _metrics_directories:
        return
    if message := too_many_connections(file_limit(), server.cfg):
        sys.exit(f"wsgi-store: {message}")
    raise_limit()
    try:
        temporary_directory(server.cfg.worker_tmp_dir)
    except ConfigError as refusal:
        sys.exit(f"wsgi-store: {refusal}")
    # A program that embeds gunicorn has an application of its own class.
    algorithms = try_store(_config, server.cfg, getattr(server.app, "app_uri", ""))
    _metrics_directories.append(
        share_metrics(server.cfg) if _config.metrics is not MetricsAccess.OFF else None
    )
    announce(_config, algorithms, server.log)


def when_ready(server: Any) -> None:
    """Warn when the service is open to the network."""
    warn_if_open(server, _config)


def on_exit(_server: Any) -> None:
    """Remove the shared metrics."""
    for path in filter(None, _metrics_directories):
        shutil.rmtree(path, ignore_errors=True)


def post_fork(_server: Any, _worker: Any) -> None:
    """Open the worker's own log; see `logs.configure`."""
    logs.configure(_config.log_level, _config.log_format)
