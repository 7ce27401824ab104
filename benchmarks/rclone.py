"""rclone and its own WebDAV server, to copy folders between them."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.client import Failure
from benchmarks.load import CONNECTIONS
from benchmarks.servers import Server, Target, unsteered

PROGRAM = str(Path(sys.executable).with_name("rclone"))


class Rclone(Server):
    """`rclone serve webdav`."""

    title = "rclone"
    takes = frozenset()

    def command(self) -> list[str]:
        """Return the command."""
        return [PROGRAM, "serve", "webdav", str(self.data), "--addr", f"127.0.0.1:{self.port}"]

    def environ(self) -> dict[str, str]:
        """Return the settings, which are not those of the user."""
        return {"RCLONE_CONFIG": "/dev/null"}

    def target(self, name: str) -> Target:
        """Raise NotImplementedError, because only rclone sends."""
        raise NotImplementedError

    def copy(self, source: str, target: str) -> float:
        """Copy a folder from or to the server, `:webdav:`; return the seconds without rclone's start."""
        start = self._run("version")
        return self._run("copy", source, target) - start

    def _run(self, *arguments: str) -> float:
        url = ["--webdav-url", f"http://127.0.0.1:{self.port}", "--webdav-vendor", "rclone"]
        # By default it sends no more than a hundred requests a second.
        url += ["--webdav-pacer-min-sleep", "0"]
        beside = ["--transfers", str(CONNECTIONS), "--checkers", str(CONNECTIONS)]
        begin = time.perf_counter()
        done = subprocess.run(
            [PROGRAM, *arguments, *url, *beside],
            env={**unsteered(), **self.environ()},
            capture_output=True,
            check=False,
            timeout=300,
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise Failure(f"rclone {arguments[0]}: {done.stderr[-500:].decode()}")
        return seconds
