"""How many connections fit the open files that a process may have."""

import resource
import sys
from typing import Any

# Connections of a worker, most of which may wait: they cost a descriptor and a few KiB.
CONNECTIONS = 4096
# What a transfer needs beside its connection, and a worker beside its transfers.
FILES = 2
OTHERS = 256


def raise_limit() -> int:
    """Let this process and its workers open as many files as the system lets them; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def fitting(files: int, threads: int) -> int:
    """The connections that fit, the usual number at most and more than there are threads."""
    return max(threads + 1, min(CONNECTIONS, _most(files, threads)))


def too_many(files: int, cfg: Any) -> str | None:
    """Say why so many connections do not fit, None where they do."""
    most = _most(files, cfg.threads)
    if cfg.worker_connections <= max(most, fitting(files, cfg.threads)):
        return None
    return (
        f"--worker-connections: {cfg.worker_connections} do not fit: with {cfg.threads} threads and at most "
        f"{files} open files (ulimit -Hn) {most} do"
    )


def _most(files: int, threads: int) -> int:
    return max(files - FILES * threads - OTHERS, 1)
