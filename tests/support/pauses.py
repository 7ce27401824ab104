"""Processes that are stopped for a while (SIGSTOP)."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.servers import until


@contextmanager
def paused(*pids: int) -> Iterator[None]:
    """Stop processes, and let them go on at the end, the last one first."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        # Until a thread has noticed the signal, the others could accept one more connection.
        until(lambda: all(map(_is_stopped, pids)), "the processes to stop")
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    """Whether no thread of a process does anything any more (proc(5))."""
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # A process that has ended stays a zombie until its parent looks.
            if task.read_text().rpartition(")")[2].split()[0] not in "TZX":
                return False
    return True
