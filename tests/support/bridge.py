"""Objects of puppeteer, called from Python (see tests/node/browser.mjs)."""

import itertools
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from tests.support.node import node

# Seconds that a call may take. Puppeteer gives up earlier on most of what it waits for.
PATIENCE = 120


class Failed(AssertionError):
    """A call failed."""


def function(source: str) -> dict[str, str]:
    """A function of JavaScript as an argument, from its source."""
    return {"function": source}


class Bridge:
    """A process of Node with puppeteer; ends with its browsers."""

    def __init__(self) -> None:
        command = node("browser.mjs")
        # Firefox does not start where its home cannot be written, and a crash leaves profiles behind.
        self._directory = tempfile.mkdtemp()
        env = {**os.environ, "HOME": self._directory, "TMPDIR": self._directory}
        self._process = subprocess.Popen(  # pylint: disable=consider-using-with  # ended below
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._told: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._answers: dict[int, dict[str, Any]] = {}
        self._ids = itertools.count()
        self._listeners: dict[int, Callable[[str, Any], None]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        # At the end of its input it kills the browsers that are left.
        self._process.stdin.close()
        self._reader.join(20)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        # A browser that was killed may still be writing.
        for _ in range(100):
            shutil.rmtree(self._directory, ignore_errors=True)
            if not os.path.exists(self._directory):
                break
            time.sleep(0.05)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._told.put(json.loads(line))
        self._told.put(None)

    def begin(self, on: int, call: str, *arguments: Any) -> int:
        """Start a call; returns its id."""
        identity = next(self._ids)
        assert self._process.stdin is not None
        message = {"id": identity, "on": on, "call": call, "with": [_plain(one) for one in arguments]}
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return identity

    def wait(self, identity: int, seconds: float = PATIENCE) -> Any:
        """Wait for the end of a call; returns its value, and reports the events on the way."""
        end = time.monotonic() + seconds
        while identity not in self._answers:
            try:
                self._take(self._told.get(timeout=max(0, end - time.monotonic())))
            except queue.Empty:
                raise Failed(f"no answer in {seconds} s") from None
        answer = self._answers.pop(identity)
        if "error" in answer:
            raise Failed(answer["error"])
        return self._object(answer["value"])

    def _take(self, message: dict[str, Any] | None) -> None:
        if message is None:
            raise Failed("the process of Node has ended")
        if "id" in message:
            self._answers[message["id"]] = message
        else:
            self._listeners[message["on"]](message["event"], self._object(message["value"]))

    def listen(self, thing: "Remote", listener: Callable[[str, Any], None], *events: str) -> None:
        """Report these events of an object."""
        self._listeners[thing.number] = listener
        thing.call("listen", *events)

    def _object(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._object(one) for one in value]
        if isinstance(value, dict):
            if "$" in value:
                return Remote(self, value["$"])
            return {key: self._object(one) for key, one in value.items()}
        return value


class Remote:
    """An object in the process of Node."""

    def __init__(self, bridge: Bridge, number: int = 0) -> None:
        self.bridge = bridge
        self.number = number

    def call(self, path: str, *arguments: Any) -> Any:
        """Call a member, or read it if it is no function; returns data, or objects as this one."""
        return self.bridge.wait(self.begin(path, *arguments))

    def begin(self, path: str, *arguments: Any) -> int:
        """Start such a call; `bridge.wait` waits for its end."""
        return self.bridge.begin(self.number, path, *arguments)


def _plain(value: Any) -> Any:
    if isinstance(value, Remote):
        return {"$": value.number}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value
