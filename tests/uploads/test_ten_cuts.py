"""Uploads of a large file that are cut ten times, by the command and by tus-js-client.

`make soak` does the same with 5 GiB: UPLOAD_MIB is the size in MiB, and CUTS_SEED repeats the order of the
cuts.
"""

import contextlib
import hashlib
import os
import random
import secrets
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.commands import environment, install
from tests.support.faults import disk
from tests.support.node import TusJs
from tests.support.pauses import paused
from tests.support.relay import Relay
from tests.support.resuming import holder, holders
from tests.support.servers import Server, gunicorn, matching, received, until

MIB = 1 << 20
SIZE = int(os.environ.get("UPLOAD_MIB", "256")) * MIB
# Bytes a second, so that each cut meets the upload.
RATE = max(100e6, SIZE / 60)
# What a cut may lose: bytes that were in buffers on the way.
LOST = 16 * MIB
SECONDS = 60 + 10 * SIZE / RATE


class Client(Protocol):
    """A program that uploads the file to an URL."""

    def start(self) -> None:
        """Start it, once more if it was killed or gave up."""

    def kill(self) -> None:
        """Kill it with -9."""

    def succeeded(self) -> bool | None:
        """Whether it has succeeded; None while it runs."""


class Command:
    """`wsgi-store put`."""

    def __init__(self, directory: Path, path: Path, url: str) -> None:
        program = install(directory / "here")
        self._line = [str(program), "put", str(path), "--url", url, "--retries", "50"]
        self._home, self._log = program.parent, directory / "command.log"
        self._process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start the command."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # pylint: disable=consider-using-with  # ended by `kill`
                self._line, env=environment(self._home), cwd=self._home, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def succeeded(self) -> bool | None:
        """Whether its exit status is 0."""
        status = self._process.poll()
        assert status in (None, 0) or "Traceback" not in self._log.read_text(), self._log.read_text()
        return None if status is None else status == 0


class Script:
    """tus-js-client, which remembers the URL of its upload in a file."""

    def __init__(self, directory: Path, path: Path, url: str, pool: ThreadPoolExecutor) -> None:
        self._path, self._url, self._pool = path, f"{url}/uploads", pool
        self._storage = str(directory / "urls")
        self._client: TusJs
        self._end: Future[object]

    def start(self) -> None:
        """Start it, and read what it prints."""
        resume = os.path.exists(self._storage)
        job = {"storage": self._storage, "resume": resume, "patience": 1000, "delay": 200}
        self._client = TusJs(4, self._path, self._url, **job)
        self._end = self._pool.submit(self._client.end)

    def kill(self) -> None:
        """Kill it."""
        self._client.process.kill()
        with contextlib.suppress(IndexError):  # it had said nothing
            self._end.result(20)
        self._client.kill()

    def succeeded(self) -> bool | None:
        """Whether it has told its success."""
        if not self._end.done():
            return None
        return any(event["event"] == "success" for event in self._client.events)


class Cuts:
    """A server on a disk of its own behind a line, and what can befall an upload to it."""

    def __init__(self, directory: Path, root: Path, choice: random.Random) -> None:
        self.directory, self.root, self._choice = directory, root, choice
        self.counts: Counter[str] = Counter()
        self._servers = 0
        self.server = self._start()
        self.relay = Relay(self.server.port, RATE)
        self.client: Client

    def _start(self) -> Server:
        self._servers += 1
        directory = self.directory / str(self._servers)
        directory.mkdir()
        (directory / "store").symlink_to(self.root)
        return gunicorn(directory, WSGI_STORE_ROOT=str(self.root), WSGI_STORE_HASH="sha256")

    def reset(self) -> None:
        """The line breaks."""
        self.relay.cut()

    def kill_server(self) -> None:
        """The server is killed, and another one is started."""
        self.server.kill()
        self.server = self._start()
        self.relay.target = self.server.port
        self.relay.cut()

    def kill_client(self) -> None:
        """The client is killed, and another one is started."""
        self.client.kill()
        self.client.start()

    def stop_worker(self) -> None:
        """The worker is stopped, and goes on when another one has taken over."""
        # Not a request that is about to end, because of the cut before.
        before = received(self.root)
        self._await(lambda: received(self.root) > before)
        for _ in range(20):
            with paused(pid := holder(self.server)):
                # Its request may have ended before it stopped.
                if holders(self.server) == {pid}:
                    self._continue_elsewhere()
                    return
        raise AssertionError("no process was stopped while it received the upload")

    def _continue_elsewhere(self) -> None:
        """Break the line, and wait until another worker receives the rest."""
        parts = len(self.parts())
        self.relay.cut()
        self._await(lambda: len(self.parts()) > parts or self.client.succeeded() is True)

    def fill_disk(self) -> None:
        """The disk is full, until an upload was refused for that."""
        self.server.expected.append("not enough free space|No space left on device")
        before = len(self.server.logged(" 507 "))
        with (self.root / ".filler").open("wb") as filler:
            # Others write meanwhile.
            for _ in range(100):
                status = os.statvfs(self.root)
                count = (status.f_bavail - 64) * status.f_frsize
                with contextlib.suppress(OSError):
                    if count > 0:
                        os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), count)
                    break
        try:
            self._await(lambda: len(self.server.logged(" 507 ")) > before)
        finally:
            (self.root / ".filler").unlink()

    def parts(self) -> list[Path]:
        """The parts of the upload."""
        return matching(self.root, ".uploads/*/*/[0-9]")

    def _restarted(self) -> bool:
        """Start the client again if it gave up; False."""
        if self.client.succeeded() is False:
            self.counts["starts after giving up"] += 1
            self.client.start()
        return False

    def run(self, client: Client) -> None:
        """Upload with ten cuts."""
        self.client = client
        acts = [self.reset, self.kill_server, self.kill_client, self.stop_worker, self.fill_disk] * 2
        self._choice.shuffle(acts)
        client.start()
        try:
            for number, act in enumerate(acts):
                moment = SIZE * (number + self._choice.random()) / (len(acts) + 1)
                self._await(  # type: ignore[misc]
                    lambda moment=moment: received(self.root) >= moment or client.succeeded() is True
                )
                assert client.succeeded() is None, f"it ended before {act.__name__}"
                self.counts[act.__name__] += 1
                act()
            self._await(lambda: client.succeeded() is True)
        finally:
            client.kill()

    def _await(self, condition: Callable[[], bool]) -> None:
        until(lambda: condition() or self._restarted(), "the upload to go on", SECONDS)

    def check(self, hash_: str) -> None:
        """Check that the file is stored and nothing else is left, and tell the bytes that were sent twice."""
        twice = self.relay.carried - SIZE
        print(f"{twice / MIB:.1f} MiB of {SIZE / MIB:.0f} sent twice", dict(self.counts))
        assert self.server.blobs() == {hash_}
        with (self.root / hash_[:2] / hash_).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == hash_
        assert not self.parts() and not self.server.staged()
        assert twice < sum(self.counts.values()) * LOST


@pytest.fixture(name="cuts")
def fixture_cuts(tmp_path: Path) -> Iterator[Cuts]:
    """A server on a disk with room for the parts of the upload, and for a file of them."""
    seed = os.environ.get("CUTS_SEED") or secrets.token_hex(4)
    print(f"CUTS_SEED={seed}")
    with disk("ext4", tmp_path / "store", 2 * SIZE + 256 * MIB):
        cuts = Cuts(tmp_path, tmp_path / "store", random.Random(seed))
        try:
            with cuts.relay:
                yield cuts
        finally:
            cuts.server.kill()


@pytest.fixture(name="file", scope="module")
def fixture_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The file, and its hash."""
    path = tmp_path_factory.mktemp("large") / "large"
    block, digest = os.urandom(MIB - 8), hashlib.sha256()
    with path.open("wb") as file:
        for number in range(SIZE // MIB):
            data = number.to_bytes(8, "big") + block
            file.write(data)
            digest.update(data)
    yield path, digest.hexdigest()
    path.unlink()


@pytest.mark.races
def test_the_command(tmp_path: Path, cuts: Cuts, file: tuple[Path, str]) -> None:
    """The command finishes a large upload after ten cuts, and sends little of it twice."""
    path, hash_ = file
    cuts.run(Command(tmp_path, path, cuts.relay.url))
    cuts.check(hash_)


@pytest.mark.clients
def test_tus_js_client(tmp_path: Path, cuts: Cuts, file: tuple[Path, str]) -> None:
    """tus-js-client finishes a large upload after ten cuts, and sends little of it twice."""
    path, hash_ = file
    with ThreadPoolExecutor() as pool:
        cuts.run(Script(tmp_path, path, cuts.relay.url, pool))
    cuts.check(hash_)
