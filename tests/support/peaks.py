"""The peak memory of processes (proc(5))."""

import re
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# Seconds between two looks at a process that may end.
PACE = 0.02


def peak(pid: int) -> int:
    """The peak resident memory of a process, in bytes; raises OSError or ValueError when it has ended."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    if found is None:
        raise ValueError(f"process {pid} has no memory any more")
    return int(found[1]) << 10


class Peak:
    """How much more memory processes have needed since this object was made than they had then."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.before: dict[int, int] = {}
        """The memory of each process when this object was made, in bytes."""
        for pid in pids:
            # 5 resets the high-water mark to the current resident memory.
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
            self.before[pid] = peak(pid)

    def growth(self) -> int:
        """The growth of all of them so far, in bytes."""
        return sum(peak(pid) - before for pid, before in self.before.items())


def peak_until_end(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a process to end; returns its peak memory in bytes, as seen until shortly before."""
    highest = 0
    while process.poll() is None:
        with suppress(OSError, ValueError):
            highest = max(highest, peak(process.pid))
        time.sleep(PACE)
    return highest
