"""A migration that is killed at each of its system calls in turn loses no blob, and the next one finishes."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.kinds import content, digest_of
from tests.support.servers import PROJECT
from tests.support.tracing import Trace
from tests.support.visitors import MARKER
from wsgi_store.digest import Algorithm
from wsgi_store.store.open import open_store

pytestmark = [pytest.mark.races, pytest.mark.uncounted]
OLD, NEW = Algorithm.MD5, Algorithm.SHA256
BLOBS = [b"one", b"two"]
PROGRAM = """
import sys
from wsgi_store.digest import Algorithm
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.migrate import Limits, migrate
from wsgi_store.upkeep.run import Effort
for _ in migrate(open_store(sys.argv[1]), Algorithm.SHA256, Limits(effort=Effort(workers=1))):
    pass
"""


def migrated(root: Path, *before: str) -> int:
    """Migrate a store in another process; returns its exit status."""
    command = [*before, sys.executable, "-c", PROGRAM, str(root)]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, env=environ, capture_output=True, check=False, timeout=60).returncode


def traced(directory: Path, *inject: str) -> tuple[int, Trace]:
    """Migrate a new store of version 0.1.0 under strace; returns the exit status and the trace."""
    trace = Trace(directory / "trace", directory / "store")
    (trace.root / ".staging").mkdir(parents=True)
    (trace.root / "store.json").write_bytes(MARKER)
    for data in BLOBS:
        name = digest_of(OLD, data).hex
        path = trace.root / name[:2] / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return migrated(trace.root, *trace.command(*(f"--inject={call}" for call in inject))), trace


def test_a_kill_at_each_call(tmp_path: Path) -> None:
    """After a kill every blob has its old name, and another run gives all of them both names."""
    status, trace = traced(tmp_path / "whole")
    assert status == 0
    points = sorted({call for text in trace.texts() for _, call in trace.events(text)})

    def kill(number: int) -> int:
        status, trace = traced(tmp_path / str(number), f"{points[number]}:signal=KILL")
        store = open_store(str(trace.root))
        assert [content(store, digest_of(OLD, data)) for data in BLOBS] == BLOBS
        assert migrated(trace.root) == 0
        assert store.refresh() == (NEW, OLD)
        for algorithm in (NEW, OLD):
            assert [content(store, digest_of(algorithm, data)) for data in BLOBS] == BLOBS
        return status

    with ThreadPoolExecutor(2) as pool:
        killed = list(pool.map(kill, range(len(points))))
    assert killed.count(-signal.SIGKILL) > 40
