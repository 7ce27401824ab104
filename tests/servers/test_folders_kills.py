"""The command or the server is killed in the middle of a folder, and what has arrived is not sent again."""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from tests.support.commands import install, run, start
from tests.support.faults import intact
from tests.support.homes import check_same, odd, random_files
from tests.support.relay import Relay, Way
from tests.support.servers import gunicorn, until

FILES = 1000
RATE = 10e6
# What a file costs beside its bytes: its hash and size in a list, and the head of its part of a form or of
# its entry in an archive, which is filled up to blocks of 512 bytes.
BESIDE = 1600
# The tree, the lists of hashes that are held, and what the line has already taken when it is read.
BESIDE_ALL = 500_000
# Requests on their way to a server that is killed are sent once more.
ON_THE_WAY = 6_000_000
pytestmark = pytest.mark.races
KILLS = 12


class Course:
    """A folder, a server, and a command that moves the one to the other over a slow line."""

    way: Way

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.folder, self.back = directory / "folder", directory / "back"
        self._random = Random(seed := time.time_ns())
        print(f"seed {seed}")
        random_files(self.folder, FILES, seed)
        odd(self.folder / "odd")
        self.files = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        self.size = sum(map(len, self.files.values()))
        self._program = install(directory / "here")
        self.server = gunicorn(directory)
        self.relay = Relay(self.server.port, RATE, self.way)
        self._begin = 0

    def arguments(self) -> list[str]:
        """What the command is told."""
        raise NotImplementedError

    def most(self) -> int:
        """How many bytes may have to be carried for what has not arrived so far."""
        raise NotImplementedError

    @contextmanager
    def running(self) -> "Iterator[subprocess.Popen[bytes]]":
        """Run the command, and kill it in the end if it has not ended."""
        self._begin = self.relay.carried
        options = ["--timeout", "5", "--retries", "12", "--url", self.relay.url]
        with start(self._program, *self.arguments(), *options) as process:
            try:
                yield process
            finally:
                process.kill()

    def moments(self) -> Iterator[int]:
        """Yield how many bytes have to be carried until each kill, since the one before."""
        moments = sorted(self._random.uniform(0.05, 0.8) * self.size for _ in range(KILLS))
        for before, moment in pairwise([0, *moments]):
            yield int(moment - before)

    def reach(self, moment: int, process: "subprocess.Popen[bytes]") -> bool:
        """Wait until so many bytes are carried; returns whether the command still runs."""
        until(lambda: self.carried() >= moment or process.poll() is not None, f"{moment} bytes", 60)
        return process.poll() is None

    def carried(self) -> int:
        """The bytes that were carried since the command or the server was started."""
        return self.relay.carried - self._begin

    def restart(self) -> None:
        """Kill the server and start it again."""
        self.server.kill()
        self._begin = self.relay.carried
        self.server = gunicorn(self._directory)
        self.relay.target = self.server.port

    def at_once(self, *arguments: str) -> bytes:
        """Run the command to its end without the slow line; returns its output."""
        url = f"http://127.0.0.1:{self.server.port}"
        done = run(self._program, *arguments, "--url", url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def check(self, out: bytes) -> None:
        """Check all when the command has printed this and ended."""
        raise NotImplementedError


class Put(Course):
    """The folder is sent."""

    way = Way.UP

    def arguments(self) -> list[str]:
        return ["put", "-r", "--tree", str(self.folder)]

    def most(self) -> int:
        there = self.server.blobs()
        lacking = {data for data in self.files.values() if hashlib.sha256(data).hexdigest() not in there}
        return BESIDE_ALL + sum(len(data) + BESIDE for data in lacking)

    def check(self, out: bytes) -> None:
        assert intact(self.server)
        self.at_once("get", "-r", out.split()[0].decode(), str(self.back))
        check_same(self.folder, self.back)


class Get(Course):
    """The folder comes back."""

    way = Way.DOWN

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._hash = self.at_once("put", "-r", "--tree", str(self.folder)).split()[0].decode()

    def arguments(self) -> list[str]:
        return ["get", "-r", self._hash, str(self.back)]

    def most(self) -> int:
        most = BESIDE_ALL
        for path, data in self.files.items():
            place = self.back / path.relative_to(self.folder)
            if place.is_file():
                assert place.read_bytes() == data, path
            else:
                most += len(data) + BESIDE
        return most

    def check(self, out: bytes) -> None:
        check_same(self.folder, self.back)


@pytest.fixture(name="course", params=[Put, Get])
def fixture_course(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Course]:
    """A course that is ended."""
    course: Course = request.param(tmp_path)
    try:
        with course.relay:
            yield course
    finally:
        course.server.stop()


def ended(process: "subprocess.Popen[bytes]") -> bytes:
    """Wait for the end of a command that has to succeed; returns its output."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_the_command_is_killed(course: Course) -> None:
    """Another start goes on where the killed command ended."""
    idle, hits = course.server.descriptors(), 0
    for moment in course.moments():
        most = course.most()
        with course.running() as process:
            hits += course.reach(moment, process)
        course.server.until_unused(idle)
        assert course.carried() <= most
    assert hits
    most = course.most()
    assert most < course.size
    with course.running() as process:
        out = ended(process)
    assert course.carried() <= most
    course.check(out)


def test_the_server_is_killed(course: Course) -> None:
    """The command waits until the server is there again, and goes on."""
    with course.running() as process:
        most = course.most()
        for moment in course.moments():
            course.reach(moment, process)
            assert course.carried() <= most
            course.restart()
            most = course.most() + ON_THE_WAY
        out = ended(process)
        assert course.carried() <= most
    course.check(out)
