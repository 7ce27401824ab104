"""Programs of Node: tus-js-client in a process of its own, and @tus/server (see tests/node)."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.servers import PROJECT, Server, start

DIRECTORY = PROJECT / "tests" / "node"


def installed() -> Path | None:
    """The program of Node that npm has installed for this machine, if it has."""
    return next(DIRECTORY.glob("node_modules/node-*/bin/node"), None)


def node(program: str, *arguments: str) -> list[str]:
    """The command that runs a program of tests/node."""
    if (runtime := installed()) is None:
        pytest.skip("the packages of tests/node are not installed: `make clients` does that if there is npm")
    return [str(runtime), str(DIRECTORY / program), *arguments]


class TusJs:
    """An upload by tus-js-client; `job` is described in tests/node/upload.mjs."""

    def __init__(self, version: int, path: Path, endpoint: str | None = None, **job: Any) -> None:
        options = {"endpoint": endpoint, **job.pop("options", {})}
        text = json.dumps({"version": version, "path": str(path), "options": options, **job})
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with  # ended below
            node("upload.mjs", text), stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _told(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            yield self.events[-1]

    def until(self, event: str, times: int = 1) -> dict[str, Any]:
        """Wait for an event; returns it."""
        for told in self._told():
            times -= told["event"] == event
            if not times:
                return told
        raise AssertionError(f"no {event} in {self.events}")

    def end(self) -> dict[str, Any]:
        """Wait for the end; returns the last event."""
        list(self._told())
        self.process.wait(60)
        return self.events[-1]

    def all(self, event: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        return [told for told in self.events if told["event"] == event]

    def requests(self) -> list[tuple[str, int]]:
        """The method and the offset of each request."""
        return [(told["method"], told["offset"]) for told in self.all("request")]

    def kill(self) -> None:
        """Kill it with -9."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def peer(directory: Path, largest: int = 0) -> Iterator[Server]:
    """@tus/server on an empty directory, with a limit in bytes."""
    root = directory / "peer"
    root.mkdir()
    command = node("peer.mjs", str(root), "0", str(largest))
    server = start(command, root, directory / "peer.log", {}, port=0)
    try:
        server.port = int(server.await_log(r"listening on http://127\.0\.0\.1:(\d+)/")[0][1])
        yield server
    finally:
        server.kill()
