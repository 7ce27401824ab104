"""How many processors this process may use."""

import math
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path


def processors(proc: str = "/proc/self/cgroup", mounts: str = "/sys/fs/cgroup") -> int:
    """Return how many processors this process may use at once, by affinity and cgroup quota (cgroups(7)).

    A fraction counts as one more.
    """
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    return math.ceil(min([available, *_quotas(Path(proc), Path(mounts))]))


def _quotas(proc: Path, mounts: Path) -> Iterator[float]:
    """Yield the quotas of the process's cgroup and of all above it; the least one applies."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        # In version 1 each line names controllers; in version 2 the one line names none.
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be that of the host, invisible inside: the root is then the group of
        # the container itself.
        group = Path(posixpath.normpath(path).lstrip("/"))
        for directory in (group, *group.parents):
            yield _quota(mounts / controllers / directory)


def _quota(directory: Path) -> float:
    """Return how many processors a cgroup allows; infinity without a limit."""
    try:
        limit, period = (directory / "cpu.max").read_text(encoding="ascii").split()
    except OSError:
        try:
            limit = (directory / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (directory / "cpu.cfs_period_us").read_text(encoding="ascii")
        except OSError:
            return math.inf
    return math.inf if limit == "max" or int(limit) < 0 else int(limit) / int(period)
