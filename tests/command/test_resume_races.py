"""`wsgi-store put` of a large file through everything that can break an upload."""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.commands import install, start
from tests.support.faults import disk, full
from tests.support.pauses import paused
from tests.support.relay import Break, Relay, Way
from tests.support.resuming import holders
from tests.support.servers import gunicorn, received, until
from wsgi_store.client import Client

pytestmark = pytest.mark.races

SIZE = 256 << 20
# Bytes that one process writes at once.
BLOCK = 1 << 20
OPTIONS = ["--timeout", "3", "--retries", "12"]


class Course:
    """A command that sends a file to a service, and is started again when it has ended."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._program = install(directory / "here")
        self.file = self._program.parent / "big"
        self.size = size
        self.hash = hashlib.sha256()
        with self.file.open("wb") as file:
            for number in range(size // BLOCK):
                block = Random(number).randbytes(BLOCK)
                self.hash.update(block)
                file.write(block)
        self.server = gunicorn(directory)
        # Slow enough that something can happen meanwhile.
        self.relay = Relay(self.server.port, 50e6)
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the command."""
        return start(self._program, "put", "big", *OPTIONS, "--url", self.relay.url)

    def end(self) -> None:
        """Stop everything."""
        self.process.kill()
        self.process.communicate()
        self.relay.__exit__()
        self.server.kill()

    def reach(self, percent: int, what: str) -> None:
        """Wait until the service has so much of the file, and let the line carry little more."""

        def reached() -> bool:
            # A fault may take longer to arrange than the line needs for the rest of the file.
            lacking = self.size * percent // 100 - received(self.server.root)
            self.relay.let(max(0, lacking) + BLOCK)
            return lacking <= 0

        until(reached, what, 60)

    def holder(self) -> int:
        """The process that receives the file."""
        found: set[int] = set()

        def finds() -> bool:
            # The request that another break before this one left behind may need bytes to begin.
            self.relay.let(BLOCK)
            found.update(holders(self.server))
            return bool(found)

        until(finds, "the process that receives the file")
        return found.pop()

    # The faults that happen meanwhile.

    def cut(self) -> None:
        """Close the connection, and reset the next one."""
        self.relay.break_after(Break.CUT, Way.UP, 3_000_000, times=1)

    def restart(self) -> None:
        """Kill the service and start it again."""
        self.server.kill()
        self.server = gunicorn(self._directory)
        self.relay.target = self.server.port

    def kill(self) -> None:
        """Kill the command and start it again."""
        self.process.kill()
        self.process.communicate()
        self.process = self.start()

    def stop(self) -> None:
        """Stop the process that receives the file for five seconds."""
        with paused(self.holder()):
            # More than the buffers before it take, so that the command goes on at another process.
            self.relay.let(16 * BLOCK)
            time.sleep(5)

    def fill(self) -> None:
        """Let the disk be full until the command has ended, and start it again."""
        with full(self.server.root):
            self.relay.let()
            _, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 7, err
        assert b"the server keeps what has arrived, and another start continues there\n" in err, err
        self.process = self.start()


@pytest.fixture(name="course")
def fixture_course(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Course]:
    """A command that sends a file to a service on a disk of its own."""
    size = getattr(request, "param", SIZE)
    with disk("tmpfs", tmp_path / "store", 3 * size):
        course = Course(tmp_path, size)
        try:
            yield course
        finally:
            course.end()


def test_ten_breaks(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    """A file arrives although the line, the service, its worker, its disk and the command break ten times."""
    seed = time.time_ns()
    random = Random(seed)
    breaks = [course.cut] * 3 + [course.restart] * 2 + [course.kill] * 3 + [course.stop, course.fill]
    random.shuffle(breaks)
    moments = sorted(random.sample(range(5, 90), len(breaks)))
    begin = time.monotonic()
    for happen, moment in zip(breaks, moments, strict=True):
        course.reach(moment, f"{moment} % with seed {seed}")
        happen()
    course.relay.let()
    out, err = course.process.communicate(timeout=120)
    hash_ = course.hash.hexdigest()
    assert course.process.returncode == 0, (seed, err)
    assert out.split()[0].decode() == hash_
    assert b"continued at " in err
    assert course.server.blobs() == {hash_}
    assert (course.server.root / hash_[:2] / hash_).stat().st_size == SIZE
    assert hashlib.sha256((course.server.root / hash_[:2] / hash_).read_bytes()).hexdigest() == hash_
    twice = course.relay.carried - SIZE
    with capsys.disabled():
        print(f" [{twice / 1e6:.1f} MB sent twice, {time.monotonic() - begin:.0f} s] ", end="")
    # At each break, what is on the line, in sockets and in the block that the server reads.
    assert twice < 10 * 12e6


@pytest.mark.parametrize("course", [64 << 20], indirect=True)
def test_two_commands(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    """Two commands that send the same file at once end with one blob, and it is sent about once."""
    hash_ = course.hash.hexdigest()
    until(lambda: received(course.server.root), "the first bytes")
    other = course.start()
    for process in (course.process, other):
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.split()[:1]) == (0, [hash_.encode()]), err
    assert course.server.blobs() == {hash_}
    with capsys.disabled():
        print(f" [{(course.relay.carried - course.size) / 1e6:.1f} MB sent twice] ", end="")
    assert course.relay.carried < 1.3 * course.size, course.server.text()
    with Client(course.relay.url) as client:
        assert client.stat(hash_).size == course.size
