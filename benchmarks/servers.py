"""Servers under test: started on a free loopback port, watched through /proc, stopped by process id."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from benchmarks.client import Body, Connection, Failure

WORKERS = 2
# Environment variables that change how servers run.
STEERING = ("WSGI_STORE_", "GUNICORN_", "WEB_CONCURRENCY", "SCRIPT_NAME", "PYTHON")
START_SECONDS = 30.0


class Target(NamedTuple):
    """The target of an upload."""

    method: str
    path: str


class Server:
    """A server with its own processes and its own data directory.

    A subclass defines how to start it and how to send it requests. Use it as a context manager: leaving
    it stops the server.
    """

    title = ""
    takes = frozenset({"raw", "chunked"})  # kinds of bodies; empty for a server without uploads
    form_fields: tuple[tuple[str, str], ...] = ()  # fields of a form beside the file
    file_field = "file"
    ready = "/"
    keeps = True  # whether uploads can be downloaded
    names_by_digest = True
    project = Path(__file__).parent.parent  # its working directory

    def __init__(self, directory: Path, *, sync: bool = False) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.sync = sync
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._kept: set[str] = set()
        self.data.mkdir(parents=True)

    def command(self) -> list[str]:
        """Return the program and its arguments; `self.port` is set."""
        raise NotImplementedError

    def environ(self) -> dict[str, str]:
        """Return the variables to add to the environment."""
        return {}

    def target(self, name: str) -> Target:
        """Return the target of an upload; `name` is for servers whose clients name files."""
        raise NotImplementedError

    def upload(self, connection: Connection, body: Body) -> None:
        """Send a body and wait for the answer."""
        connection.send(self.request(body.name, body.length, body.fields), body)
        answer = connection.answer()
        if answer.status not in (200, 201, 204):
            raise Failure(f"{self.title} answered {answer.status} to an upload: {answer.body[:200]!r}")

    def request(self, name: str, length: int | None, fields: tuple[str, ...] = ()) -> bytes:
        """Return the head of an upload."""
        method, path = self.target(name)
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        return head(method, path, framing, *fields)

    def path(self, digest: str) -> str:
        """Return the path of a blob's URL."""
        return f"/{digest}"

    def stored(self, body: Body) -> str:
        """Return the name of an upload: its hash, or the name that the client gave it."""
        return body.digest if self.names_by_digest else body.name

    def file(self, digest: str) -> Path:
        """Return the path of a blob on disk; a file linked there becomes a blob."""
        return self.data / digest[:2] / digest

    def place(self, source: Path, digest: str) -> None:
        """Add a blob without an upload."""
        file = self.file(digest)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, file)

    def start(self) -> float:
        """Start the server; return the seconds until its first answer."""
        inherited = unsteered()
        self.port = _free_port()
        command = self.command()
        begin = time.perf_counter()
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.project,
                # Temporary files must be on the measured file system.
                env={**inherited, **self.environ(), "TMPDIR": str(self.directory)},
                start_new_session=True,
            )
        try:
            self._await_answer(begin + START_SECONDS)
        except BaseException:
            self.stop()
            raise
        return time.perf_counter() - begin

    def stop(self) -> None:
        """Stop the server with all its processes."""
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def processes(self) -> list[int]:
        """Return the process ids, the parent first."""
        assert self.process is not None
        return list(descendants(self.process.pid))

    def cpu(self) -> float:
        """Return the CPU time of the running processes, in seconds."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pss(self) -> list[int]:
        """Return the PSS of each process in bytes, the parent first."""
        assert self.process is not None
        return memory(self.process.pid)

    def keep(self) -> None:
        """Remember the current files; `clear` removes all others."""
        self._kept = set(self._files())

    def clear(self) -> None:
        """Remove the uploads and wait for the disk."""
        for path in self._files():
            if path not in self._kept:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        if self.sync:
            os.sync()

    def _files(self) -> Iterator[str]:
        for directory, _, names in os.walk(self.data):
            yield from (f"{directory}/{name}" for name in names)

    def _await_answer(self, deadline: float) -> None:
        assert self.process is not None
        while True:
            with contextlib.suppress(OSError, Failure), Connection(self.port) as connection:
                if connection.ask(head("GET", self.ready)).status < 500:
                    return
            if self.process.poll() is not None or time.perf_counter() > deadline:
                log = (self.directory / "log").read_text(encoding="utf-8", errors="replace")
                raise Failure(f"{self.title} did not start: {log[-500:]}")
            time.sleep(0.002)


def unsteered() -> dict[str, str]:
    """Return the environment without variables that change how the programs run."""
    return {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}


def head(method: str, path: str, *fields: str) -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()


def memory(pid: int) -> list[int]:
    """Return the PSS of a process and of all that descend from it, in bytes (proc(5), smaps_rollup)."""
    found = []
    for one in descendants(pid):
        with contextlib.suppress(OSError):  # it has exited
            text = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii")
            found += [int(size) << 10 for size in re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE)]
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def descendants(pid: int) -> Iterator[int]:
    """Yield the ids of a process and of all that descend from it."""
    yield pid
    with contextlib.suppress(FileNotFoundError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii")
            for child in children.split():
                yield from descendants(int(child))
