"""Settings of gunicorn for wsgi_store: `gunicorn -c deploy/gunicorn.conf.py`.

What a command line, GUNICORN_CMD_ARGS or WEB_CONCURRENCY say wins over this file.
"""

# pylint: disable=invalid-name  # the names are gunicorn's

import math
import os
import sys

from wsgi_store import logs
from wsgi_store.config import Config
from wsgi_store.errors import WSGIStoreError
from wsgi_store.stores import open_store


def _quota() -> float:
    """The processors that a cgroup allows, infinity without a limit (cgroups(7))."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:  # version 2
            limit, period = file.read().split()
    except (OSError, ValueError):
        try:  # version 1
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", encoding="ascii") as file:
                limit = file.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us", encoding="ascii") as file:
                period = file.read().strip()
        except OSError:
            return math.inf
    return math.inf if limit in ("max", "-1") else int(limit) / int(period)


# Asked here, in the master: a refusal in a worker would be tried again for ever.
try:
    _config = Config.from_env()
    open_store(_config.root, _config.hash, _config.durability)
except WSGIStoreError as error:
    sys.exit(f"wsgi-store: {error}")

wsgi_app = "wsgi_store.wsgi:application"
bind = "127.0.0.1:8000"

# A thread waits while bytes move; two workers at least, for hashing holds a processor.
_processors = math.ceil(min(len(os.sched_getaffinity(0)), _quota()))
workers = int(os.environ.get("WEB_CONCURRENCY") or max(2, _processors))
worker_class = "gthread"
threads = 32
keepalive = 5

# A thread worker reports that it lives whatever its threads do: this does not end transfers.
timeout = 60
# Transfers are cut when a stop takes longer than this.
graceful_timeout = 300
max_requests = 0
# The heartbeat file must not wait for a disk that is busy with uploads.
worker_tmp_dir = "/dev/shm"
# Its socket lies in the home directory, where two servers would share it.
control_socket_disable = True

# File names of 255 bytes, each written as %XX, and then some.
limit_request_line = 8190

logger_class = "wsgi_store.gunicorn.Logger"
accesslog = "-"
errorlog = "-"


def post_fork(server, worker):  # type: ignore[no-untyped-def]  # pylint: disable=unused-argument
    """Open this process's own log; see `logs.configure`."""
    logs.configure(_config.log_level, _config.log_format)
