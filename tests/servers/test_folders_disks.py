"""A disk that is too small for a folder, on either side: what has arrived stays, and with room it goes on."""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import install, run
from tests.support.faults import disk, full, intact, remount
from tests.support.homes import check_same, random_files
from tests.support.relay import Relay, Way
from tests.support.servers import Server, gunicorn

DISKS = pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
MIB = 1 << 20
FILES = 600
# The exit status of the command when a disk is full.
FULL = 7
# What a file costs on the line beside its bytes, and all of them together.
BESIDE, BESIDE_ALL = 1600, 500_000


class Both:
    """A folder, a server on a disk of 40 MiB, and the command."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.server = server
        self.folder = directory / "folder"
        random_files(self.folder, FILES, 1)
        self.files = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        self.program = install(directory / "here")

    def lacking(self) -> list[bytes]:
        """The files that the server does not have."""
        there = self.server.blobs()
        return [data for data in self.files.values() if hashlib.sha256(data).hexdigest() not in there]

    def put(self, url: str, **env: str) -> "subprocess.CompletedProcess[bytes]":
        """Send the folder."""
        return run(self.program, "put", "-r", "--tree", str(self.folder), "--url", url, **env)

    def get(self, url: str, hash_: str, back: Path) -> "subprocess.CompletedProcess[bytes]":
        """Get the folder back."""
        return run(self.program, "get", "-r", hash_, str(back), "--url", url)


@pytest.fixture(name="both")
def fixture_both(tmp_path: Path, kind: str) -> Iterator[Both]:
    """A server on a disk of its own."""
    with disk(kind, tmp_path / "store", 40 * MIB, inodes=4000), gunicorn(tmp_path) as server:
        yield Both(tmp_path, server)


def hash_in(done: "subprocess.CompletedProcess[bytes]") -> str:
    """The hash of the tree that a command has sent."""
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[0].decode()


def check_refused(done: "subprocess.CompletedProcess[bytes]") -> None:
    """Check that a command ended because a disk is full, and says so in each of its few lines."""
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (FULL, b""), done.stderr
    assert 0 < len(lines) <= FILES
    assert all(re.search(rb"No space left on device$|not enough free space", line) for line in lines)


@pytest.mark.races
@DISKS
def test_the_disk_of_the_server(tmp_path: Path, both: Both) -> None:
    """Put says that the disk of the server is full; later it sends the rest."""
    both.server.expected.append(r"not enough free space|No space left on device")
    url = f"http://127.0.0.1:{both.server.port}"
    with full(both.server.root, leave=5 * MIB):
        check_refused(both.put(url))
        assert intact(both.server)
        check_refused(both.put(url))
    lacking = both.lacking()
    assert 0 < len(lacking) < FILES
    with Relay(both.server.port) as line:
        hash_ = hash_in(both.put(line.url))
        assert line.carried <= sum(map(len, lacking)) + len(lacking) * BESIDE + BESIDE_ALL
    assert intact(both.server)
    assert both.get(url, hash_, tmp_path / "back").returncode == 0
    check_same(both.folder, tmp_path / "back")


def whole(both: Both, back: Path) -> list[bytes]:
    """Check that each file that is there is whole, with nothing beside them; returns those that are not."""
    lacking, known = [], set()
    for path, data in both.files.items():
        place = back / path.relative_to(both.folder)
        known.add(place)
        if place.exists():
            assert place.read_bytes() == data
        else:
            lacking.append(data)
    files = {
        path for path in back.rglob("*") if path.is_file() and ".part/" not in str(path.relative_to(back))
    }
    assert files <= known
    return lacking


@pytest.mark.races
@pytest.mark.parametrize(
    ("kind", "inodes", "leave"), [("tmpfs", 4000, 5), ("ext4", 4000, 5), ("tmpfs", 400, 30)]
)
def test_the_disk_of_the_folder(tmp_path: Path, both: Both, kind: str, inodes: int, leave: int) -> None:
    """Get says that the disk is full and leaves whole files; later it fetches the rest."""
    hash_ = hash_in(both.put(f"http://127.0.0.1:{both.server.port}"))
    back = tmp_path / "disk" / "back"
    with disk(kind, tmp_path / "disk", 40 * MIB, inodes=inodes):
        with Relay(both.server.port, way=Way.DOWN) as line:
            with full(tmp_path / "disk", leave=leave * MIB):
                for _ in range(2):
                    check_refused(both.get(line.url, hash_, back))
                    lacking = whole(both, back)
                    assert 0 < len(lacking) < FILES
            if inodes < FILES:
                remount(tmp_path / "disk", "nr_inodes=4000")
            before = line.carried
            done = both.get(line.url, hash_, back)
            assert done.returncode == 0, done.stderr
            assert line.carried - before <= sum(map(len, lacking)) + len(lacking) * BESIDE + BESIDE_ALL
        check_same(both.folder, back)


@pytest.mark.parametrize("kind", ["tmpfs"])
def test_the_disk_of_the_tree(tmp_path: Path, both: Both) -> None:
    """Put says that there is no room for the tree that it writes; the files are sent by then."""
    url = f"http://127.0.0.1:{both.server.port}"
    with disk("tmpfs", tmp_path / "small", 64 << 10):
        check_refused(both.put(url, TMPDIR=str(tmp_path / "small")))
    with Relay(both.server.port) as line:
        hash_ = hash_in(both.put(line.url))
        assert line.carried <= FILES * BESIDE
    assert both.get(url, hash_, tmp_path / "back").returncode == 0
    check_same(both.folder, tmp_path / "back")
