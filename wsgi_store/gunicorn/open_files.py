"""How many connections fit into the number of files that a process may have open."""

import resource
import sys
from typing import Any

# The usual limit of connections for a worker. Most of them wait, and cost a descriptor and a few KiB.
CONNECTIONS = 4096
# Descriptors that a transfer needs besides its connection, and a worker besides its transfers.
FILES = 2
OTHERS = 256


def file_limit() -> int:
    """Return how many files a process may open at most: the hard limit (getrlimit(2))."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def raise_limit() -> None:
    """Raise the limit of this process, and of the workers it forks, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def fitting_connections(files: int, threads: int) -> int:
    """Return how many connections fit: CONNECTIONS at most, and always more than threads."""
    return max(threads + 1, min(CONNECTIONS, _most(files, threads)))


def too_many_connections(files: int, cfg: Any) -> str | None:
    """Return a message if gunicorn's settings ask for more connections than fit."""
    most = _most(files, cfg.threads)
    if cfg.worker_connections <= max(most, fitting_connections(files, cfg.threads)):
        return None
    return (
        f"--worker-connections: {cfg.worker_connections} are too many: {files} open files (ulimit -Hn) "
        f"and {cfg.threads} threads leave room for {most}"
    )


def _most(files: int, threads: int) -> int:
    return max(files - FILES * threads - OTHERS, 1)
