"""The lower bound for a durable upload of 4 KiB: write, fsync, link and fsync of the directory in a loop."""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.client import Failure
from benchmarks.load import CONNECTIONS, SMALL, Load
from benchmarks.servers import WORKERS, Server, Target


class BareLoop(Server):
    """A loop instead of a server, in as many processes and threads."""

    title = "bare loop of syncs"
    takes = frozenset()

    def start(self) -> float:
        """Create the directories of the files, as in a store."""
        for number in range(256):
            (self.data / f"{number:02x}").mkdir(exist_ok=True)
        return 0.0

    def target(self, name: str) -> Target:
        """Raise NotImplementedError, because nothing is sent."""
        raise NotImplementedError

    def run(self, seconds: float) -> Load:
        """Store files for this many seconds."""
        command = [sys.executable, "-m", "benchmarks.durable", str(self.data), str(seconds)]
        project = Path(__file__).parent.parent
        # pylint: disable-next=consider-using-with  # waited for below
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=project) for _ in range(WORKERS)]
        outputs = [process.communicate(timeout=seconds + 60)[0] for process in running]
        if any(process.returncode for process in running):
            raise Failure("the bare loop failed")
        waited = sorted(value for output in outputs for value in json.loads(output))
        return Load(len(waited) / seconds, waited[len(waited) // 2], waited[len(waited) * 99 // 100])


def loop(directory: str, deadline: float, waited: list[float]) -> None:
    """Store files until the deadline."""
    data = secrets.token_bytes(SMALL)
    while (begin := time.monotonic()) < deadline:
        name = secrets.token_hex(32)
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o444)
        shard = os.open(f"{directory}/{name[:2]}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
            os.fsync(fd)
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=shard, follow_symlinks=True)
            os.fsync(shard)
        finally:
            os.close(shard)
            os.close(fd)
        waited.append(time.monotonic() - begin)


def main(directory: str, seconds: float) -> None:
    """Run one process of the loop; write the time of each file."""
    waited: list[float] = []
    deadline = time.monotonic() + seconds
    threads = [
        threading.Thread(target=loop, args=(directory, deadline, waited))
        for _ in range(CONNECTIONS // WORKERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(waited))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
