"""Several gunicorns on one store that are killed with -9 in parts and started again."""

import contextlib
import fcntl
import hashlib
import os
import random
import select
import signal
from collections import Counter
from pathlib import Path
from typing import BinaryIO, Self

from tests.support.kinds import LocalKind
from tests.support.servers import TROUBLE, Server, gunicorn, matching, until
from tests.support.tracing import python_path
from wsgi_store.store.marker import NAME, Marker

TARGETS = ["one worker", "all workers", "master", "everything"]
# gunicorn's message about a worker that was killed.
KILLED = "was sent SIGKILL"


class Process:
    """A process that cannot be confused with a later one of the same id (pidfd_open(2))."""

    def __init__(self, pid: int) -> None:
        self.fd = os.pidfd_open(pid)

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def ended(self) -> bool:
        """Whether it has ended and released its files and locks."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))


class Fleet:
    """Several servers on one root."""

    def __init__(
        self, directory: Path, kind: LocalKind, number: int, marker: Marker, upload_expires: int
    ) -> None:
        self.root = directory / "store"
        self.servers: list[Server] = []
        self.counts: Counter[str] = Counter()
        self._directory = directory
        self._kind = kind
        self._number = number
        self._expires = upload_expires
        self.algorithms = tuple(algorithm.value for algorithm in marker.algorithms)
        self._started = 0
        self._whole: set[tuple[str, int]] = set()  # files already checked, by name and inode
        self._workers: list[Process] = []
        (self.root / ".staging").mkdir(parents=True)
        (self.root / NAME).write_bytes(marker.text())

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.push(self)
            for place in range(self._number):
                self.start(place)
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, place: int) -> None:
        """Start a first server, or one that replaces another."""
        self._started += 1
        directory = self._directory / str(self._started)
        directory.mkdir()
        self.servers[place : place + 1] = [
            gunicorn(
                directory,
                WSGI_STORE_ROOT=str(self.root),
                workers=2,
                PYTHONPATH=python_path(self._kind),
                WSGI_STORE_HASH=self.algorithms[0],
                WSGI_STORE_UPLOAD_EXPIRES=str(self._expires),
            )
        ]

    def kill(self, target: str, place: int, choice: random.Random) -> None:
        """Kill a part of a server, and start again whatever does not restart by itself."""
        server = self.servers[place]
        workers = self._watch(server)
        if target in ("master", "everything"):
            server.kill()
        victims = {
            "one worker": choice.sample(workers, min(1, len(workers))),
            "all workers": workers,
            "master": [],  # its workers notice that and exit
            "everything": workers,
        }[target]
        self._end(victims)
        self.counts[f"kills of {target}"] += 1
        left = self.abandoned()
        if target in ("master", "everything"):
            assert not _trouble(server)
            self.start(place)
            assert not left & self.staged()
        else:
            until(lambda: not left & self.staged(), "the sweep of the worker that comes instead")
        self.counts["leftovers swept"] += len(left)

    def end(self) -> None:
        """Kill everything."""
        for server in self.servers:
            if server.process.poll() is None:
                self._watch(server)
                server.kill()
        self._end(self._workers)
        for worker in self._workers:
            os.close(worker.fd)
        self._workers.clear()

    def staged(self) -> set[str]:
        """The names of staged files."""
        return set(os.listdir(self.root / ".staging"))

    def abandoned(self) -> set[str]:
        """The staged files that no process uses."""
        found = set()
        for name in self.staged():
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                with open(self.root / ".staging" / name, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    found.add(name)
        return found

    def uploads(self) -> list[Path]:
        """The uploads that are unfinished or have a result, and those that are being removed."""
        return [*matching(self.root, ".uploads/[0-9a-f]*/*"), *matching(self.root, ".uploads/.gone-*")]

    def names(self) -> set[str]:
        """The names that lead to a file; also counts those whose file has other bytes."""
        found = set()
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            # Also by a link that leads nowhere: its blob was deleted.
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                key = (path.name, os.fstat(file.fileno()).st_ino)
                if key not in self._whole and hash_like(path.name, file) != path.name:
                    self.counts["altered"] += 1
                self._whole.add(key)
                found.add(path.name)
        return found

    def _watch(self, server: Server) -> list[Process]:
        """The workers of a running server, tracked until they end."""
        workers = []
        for pid in sorted(server.processes()):
            with contextlib.suppress(ProcessLookupError):
                workers.append(Process(pid))
        for worker in [worker for worker in self._workers if worker.ended()]:
            self._workers.remove(worker)
            os.close(worker.fd)
        self._workers += workers
        return workers

    @staticmethod
    def _end(processes: list[Process]) -> None:
        for process in processes:
            process.kill()
        until(lambda: all(process.ended() for process in processes), "the end of what was killed")


def hash_like(name: str, file: BinaryIO) -> str:
    """The hash of a file by the algorithm of this name."""
    (algorithm,) = (one for one in ("md5", "sha1", "sha256") if len(name) == 2 * hashlib.new(one).digest_size)
    return hashlib.file_digest(file, algorithm).hexdigest()


def _trouble(server: Server) -> list[str]:
    """The lines in a server's log that should not be there."""
    return [line for line in server.text().splitlines() if TROUBLE.search(line) and KILLED not in line]
