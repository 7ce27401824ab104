"""The real DVC 3 against this service: push, pull and status, with either kind of credentials."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.access import line
from tests.support.servers import Server, gunicorn

pytestmark = pytest.mark.clients
FILES = 1000
LARGE = 1 << 30


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


class Project:
    """A project of DVC without git."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.env = {
            **os.environ,
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


@pytest.mark.parametrize("auth", ["basic", "custom"])
def test_a_folder(server: Server, tmp_path: Path, auth: str) -> None:
    """A folder is pushed, is known to be there, and pulled by another project."""
    project = Project(tmp_path / "one")
    project.start(server, auth)
    folder = project.directory / "data"
    folder.mkdir()
    numbers = random.Random(auth)
    for number in range(FILES):
        (folder / str(number)).write_bytes(numbers.randbytes(500))
    project.dvc("add", "data")
    assert "new" in project.dvc("status", "-c")
    project.dvc("push")
    assert "in sync" in project.dvc("status", "-c")
    assert "up to date" in project.dvc("push")
    other = Project(tmp_path / "two")
    other.start(server, auth)
    (other.directory / "data.dvc").write_bytes((project.directory / "data.dvc").read_bytes())
    other.dvc("pull")
    for number in range(FILES):
        assert (other.directory / "data" / str(number)).read_bytes() == (folder / str(number)).read_bytes()


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
    path.unlink()
    project.dvc("gc", "--workspace", "--force", "--quiet")
    (project.directory / ".dvc/cache").rename(tmp_path / "cache")
    project.dvc("pull")
    assert path.stat().st_size == LARGE
