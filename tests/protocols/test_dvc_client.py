"""The real DVC 3 against this service: push, pull, status and gc, with either kind of credentials."""

import hashlib
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.access import line
from tests.support.servers import Server, gunicorn
from tests.support.wire import Connection, message

pytestmark = pytest.mark.clients
LARGE = 1 << 30
# Bytes of a blob that may travel to somebody who only looks whether it is there.
LOOK = 1 << 20
# The place of tcpi_bytes_received in struct tcp_info (linux/tcp.h).
RECEIVED = 128


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tokens whose blobs have names by md5, too."""
    directory = tmp_path_factory.mktemp("dvc")
    (directory / "tokens").write_text(line("mine", "read,write"))
    settings = {"WSGI_STORE_HASH": "sha256", "WSGI_STORE_NAMES": "md5"}
    with gunicorn(
        directory, WSGI_STORE_PROTOCOLS="dvc", WSGI_STORE_TOKENS=str(directory / "tokens"), **settings
    ) as server:
        yield server
        assert not server.logged("WARNING")


class Project:
    """A project of DVC without git."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory.parent),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(directory.parent / "site"),
        }

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        """Run DVC; returns what it printed."""
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(
            command, cwd=self.directory, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=280, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) is fails, done.stdout
        return done.stdout

    def start(self, server: Server, auth: str) -> None:
        """Begin a project whose files are kept by a service."""
        self.dvc("init", "--no-scm", "--quiet")
        self.dvc("remote", "add", "-d", "there", f"http://127.0.0.1:{server.port}/dvc")
        self.dvc("remote", "modify", "there", "auth", auth)
        if auth == "basic":
            self.dvc("remote", "modify", "there", "user", "me")
            self.dvc("remote", "modify", "there", "password", "mine")
        else:
            self.dvc("remote", "modify", "there", "custom_auth_header", "Authorization")
            self.dvc("remote", "modify", "there", "password", "Bearer mine")


@pytest.mark.parametrize(("auth", "count"), [("basic", 1000), ("custom", 10)])
def test_a_folder(server: Server, tmp_path: Path, auth: str, count: int) -> None:
    """A folder is pushed, is known to be there, and pulled by another project."""
    project = Project(tmp_path / "one")
    project.start(server, auth)
    folder = project.directory / "data"
    folder.mkdir()
    numbers = random.Random(auth)
    for number in range(count):
        (folder / str(number)).write_bytes(numbers.randbytes(500))
    project.dvc("add", "data")
    assert "new" in project.dvc("status", "-c")
    before = server.blobs()
    assert f"{count + 1} files pushed" in project.dvc("push")
    assert len(server.blobs() - before) == count + 1
    assert "in sync" in project.dvc("status", "-c")
    assert "up to date" in project.dvc("push")
    other = Project(tmp_path / "two")
    other.start(server, auth)
    (other.directory / "data.dvc").write_bytes((project.directory / "data.dvc").read_bytes())
    other.dvc("pull")
    for number in range(count):
        assert (other.directory / "data" / str(number)).read_bytes() == (folder / str(number)).read_bytes()


def test_what_does_not_work(server: Server, tmp_path: Path) -> None:
    """With a wrong token nothing is pushed, and `gc -c` fails and removes nothing from here."""
    project = Project(tmp_path / "one")
    project.start(server, "basic")
    path = project.directory / "file"
    path.write_text("first")
    project.dvc("add", "file")
    project.dvc("push")
    path.write_text("second")
    project.dvc("add", "file")
    before = server.blobs()
    project.dvc("remote", "modify", "there", "password", "wrong")
    assert "401" in project.dvc("push", fails=True)
    assert server.blobs() == before
    project.dvc("remote", "modify", "there", "password", "mine")
    project.dvc("push")
    before = server.blobs()
    project.dvc("gc", "--workspace", "--cloud", "--force", fails=True)
    assert server.blobs() == before and hashlib.sha256(b"first").hexdigest() in before


def test_a_large_file(server: Server, tmp_path: Path) -> None:
    """A file of 1 GiB goes there and comes back; whether it is there is found out without reading it."""
    project = Project(tmp_path / "one")
    project.start(server, "basic")
    path = project.directory / "large"
    with path.open("wb") as file:
        file.write(b"large")
        file.truncate(LARGE)
    project.dvc("add", "large")
    project.dvc("push")
    assert "in sync" in project.dvc("status", "-c")
    look(server, (project.directory / "large.dvc").read_text().partition("md5: ")[2][:32])
    path.unlink()
    (project.directory / ".dvc/cache").rename(tmp_path / "cache")
    project.dvc("pull")
    assert path.stat().st_size == LARGE
    with path.open("rb") as file:
        assert file.read(6) == b"large\0"


def look(server: Server, md5: str) -> None:
    """Look whether a file is there, as DVC does: by a GET whose body is not read."""
    with Connection(server.port) as connection:
        target = f"/dvc/files/md5/{md5[:2]}/{md5[2:]}"
        connection.send(message("GET", target, Authorization="Bearer mine"))
        answer = connection.receive_head()
        assert (answer.status, answer.fields["content-length"]) == (200, str(LARGE))
        time.sleep(1)  # as long as nobody reads, the server must send no more
        told = connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RECEIVED + 8)
        (received,) = struct.unpack_from("Q", told, RECEIVED)
        assert 0 < received <= LOOK
