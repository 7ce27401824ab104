"""The memory of the command and of the server does not grow with the number of files."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import environment, install
from tests.support.peaks import Peak, peak_until_end
from tests.support.servers import PROJECT, Server, gunicorn

pytestmark = [pytest.mark.races, pytest.mark.alone]
# In memory by default, as the disk is not under test.
DIRECTORY = os.environ.get("TEST_FILE_DIRECTORY", "/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
FEW, MANY = 200, 100_000
LIMIT = 64 << 20
# Asks for blobs in pages, and prints how many are missing and how far its peak memory rose.
ASK = """
import hashlib, os, sys
from tests.support.peaks import Peak
from wsgi_store.client import Client

def asked(count):
    with Client(sys.argv[1]) as client:
        hashes = (hashlib.sha256(b"%d" % number).hexdigest() for number in range(count))
        return sum(1 for _ in client.missing((hash_, 4096) for hash_ in hashes))

asked(100)
peak = Peak([os.getpid()])
print(asked(int(sys.argv[2])), peak.growth())
"""


@pytest.fixture(scope="module", name="directory")
def fixture_directory() -> Iterator[Path]:
    """A directory with a folder of few and one of many files."""
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as name:
        directory = Path(name)
        for count in (FEW, MANY):
            for number in range(count):
                place = directory / str(count) / f"{number // 100:04}"
                if number % 100 == 0:
                    place.mkdir(parents=True)
                (place / f"{number % 100:02}").write_text(f"{count} {number}")
        install(directory / "here")
        yield directory


@pytest.fixture(scope="module", name="server")
def fixture_server(directory: Path) -> Iterator[Server]:
    """A server as in production."""
    with gunicorn(directory, python=(), WSGI_STORE_DURABILITY="none") as server:
        yield server


def check(directory: Path, server: Server, few: list[str], many: list[str]) -> list[str]:
    """Run the command on few files and on many, and check memory; returns the hashes that it printed last."""
    peaks, hashes = [], []
    for arguments in (few, many):
        seen = Peak(server.processes())
        with (directory / "output").open("w+b") as output:
            command = [directory / "here" / "wsgi-store", *arguments]
            with subprocess.Popen(
                [*command, "--url", f"http://127.0.0.1:{server.port}"],
                env=environment(directory),
                stdout=output,
                stderr=output,
            ) as process:
                peaks.append(peak_until_end(process))
            output.seek(0)
            lines = output.read().decode().splitlines()
        assert process.returncode == 0, lines[-5:]
        hashes.append(lines[-1].split()[0] if lines else "")
    told(" ".join(many[:3]), peaks[1] - peaks[0], seen.growth())
    return hashes


def told(what: str, client: int, server: int) -> None:
    """Check how far both sides have grown, and print it for pytest -rP."""
    print(f"{what}: client {client / 2**20:.1f} MiB, server {server / 2**20:.1f} MiB")
    assert max(client, server) <= LIMIT


def test_lists(directory: Path, server: Server) -> None:
    """Neither side keeps more than a page of the blobs that a client asks for."""
    command = [sys.executable, "-c", ASK, f"http://127.0.0.1:{server.port}", str(MANY)]
    seen = Peak(server.processes())
    env = {**environment(directory), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=env, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    count, growth = map(int, done.stdout.split())
    assert count == MANY
    told("lists", growth, seen.growth())


def test_folders(directory: Path, server: Server) -> None:
    """Neither side keeps what it knows of the files that it has done with."""
    few, many = directory / str(FEW), directory / str(MANY)
    check(directory, server, ["put", "-r", str(few)], ["put", "-r", str(many)])
    hashes = check(directory, server, ["put", "-r", "--tree", str(few)], ["put", "-r", "--tree", str(many)])
    for folder in (few, many):
        shutil.rmtree(folder)
    check(directory, server, ["get", "-r", hashes[0], str(few)], ["get", "-r", hashes[1], str(many)])
    assert sum(len(files) for _, _, files in os.walk(many)) == MANY
