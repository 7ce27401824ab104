"""Settings of gunicorn for wsgi_store: `gunicorn -c python:wsgi_store.gunicorn.conf`.

What a command line, GUNICORN_CMD_ARGS or WEB_CONCURRENCY say wins over them. A change needs a
restart, or SIGUSR2.
"""

# pylint: disable=invalid-name  # the names are gunicorn's

import os
import shutil
import sys
from contextlib import suppress
from typing import Any

from wsgi_store import logs
from wsgi_store.banner import doubts, said
from wsgi_store.config import Config, MetricsAccess
from wsgi_store.errors import ConfigError, WSGIStoreError
from wsgi_store.gunicorn.open_files import fitting, raise_limit, too_many
from wsgi_store.gunicorn.log import Logger
from wsgi_store.gunicorn.unsupported_options import refuse_daemon, unheeded
from wsgi_store.gunicorn.processors import processors
from wsgi_store.gunicorn.startup import share_metrics, temporary_directory, try_store, warn_if_open

# Asked here, in the master, so that a refusal is one line and ends the start.
try:
    _config = Config.from_env()
except WSGIStoreError as error:
    sys.exit(f"wsgi-store: {error}")

refuse_daemon()

wsgi_app = "wsgi_store.wsgi:application"
bind = "127.0.0.1:8000"

# A thread waits while bytes move; two workers at least, for hashing holds a processor.
workers = int(os.environ.get("WEB_CONCURRENCY") or max(2, processors()))
worker_class = "wsgi_store.gunicorn.worker.Worker"
# A slow client holds a thread and little else; threads are started when they are needed.
threads = 256
# Slow clients beyond the threads wait without one. A process may have fewer open files than it could.
_files = raise_limit()
worker_connections = fitting(_files, threads)
keepalive = 5

# A thread worker reports that it lives whatever its threads do: this does not end transfers.
timeout = 60
# Transfers are cut when a stop takes longer than this.
graceful_timeout = 300
# A worker that had its number would accept nobody, and have no successor, until its transfers end.
max_requests = 0
# For heartbeats. Where nothing can be written a command line may still name a directory.
with suppress(ConfigError):
    worker_tmp_dir = temporary_directory(None)
# Its socket lies in the home directory, where two servers would share it.
control_socket_disable = True

# File names of 255 bytes, each written as %XX, and then some.
limit_request_line = 8190


# Where the workers count together, as soon as this master has begun.
_begun: list[str | None] = []


def _begin(cfg: Any) -> None:
    try:
        temporary_directory(cfg.worker_tmp_dir)
    except ConfigError as refusal:
        sys.exit(f"wsgi-store: {refusal}")
    try_store(_config, cfg)
    _begun.append(share_metrics(cfg) if _config.metrics is not MetricsAccess.OFF else None)


class _Logger(Logger):
    """Made before all else that knows every setting, and before a preloaded application opens the store."""

    def __init__(self, cfg: Any) -> None:
        if refusal := unheeded(cfg) or too_many(_files, cfg):
            sys.exit(f"wsgi-store: {refusal}")
        _begin(cfg)
        super().__init__(cfg)
        for line in said(_config):
            self.info("%s", line)
        for line in doubts(_config):
            self.warning("%s", line)


logger_class = _Logger
accesslog = "-"
errorlog = "-"


def on_starting(server: Any) -> None:
    """Begin late where somebody chose another logger."""
    if not _begun:
        _begin(server.cfg)


def when_ready(server: Any) -> None:
    """Say who can do what."""
    warn_if_open(server, _config)


def on_exit(server: Any) -> None:  # pylint: disable=unused-argument
    """Leave no figures in memory."""
    for path in filter(None, _begun):
        shutil.rmtree(path, ignore_errors=True)


def post_fork(server: Any, worker: Any) -> None:  # pylint: disable=unused-argument
    """Open this process's own log; see `logs.configure`."""
    logs.configure(_config.log_level, _config.log_format)
