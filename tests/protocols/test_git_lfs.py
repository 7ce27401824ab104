"""The real git-lfs against this service: push, clone, fetch, fsck, broken pushes, and credentials."""

import hashlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.access import KEY, line
from tests.support.buckets import serving
from tests.support.relay import Break, Relay, Way
from tests.support.servers import Server, gunicorn, received

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not shutil.which("git-lfs"), reason="needs git-lfs"),
]
FILES = 200
LARGE = 2 << 30
BATCH = "POST /lfs/team/project/objects/batch 200"
TOKENS = line("writing", "read,write", "writer") + line("reading", "read", "reader")


class Repository:
    """A working copy whose large files are kept by a service."""

    def __init__(self, directory: Path, home: Path) -> None:
        self.directory = directory
        home.mkdir(exist_ok=True)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            # Never ask a person.
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "false",
        }

    def git(self, *arguments: str, fails: bool = False, **env: str) -> str:
        """Run git; returns what it printed."""
        command = ["git", *arguments]
        done = subprocess.run(
            command,
            cwd=self.directory if self.directory.exists() else self.directory.parent,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout
        return done.stdout

    def start(self, url: str) -> None:
        """Make the working copy and its bare remote."""
        remote = self.directory.with_suffix(".git")
        self.git("init", "-q", "-b", "main", "--bare", str(remote))
        self.git("init", "-q", "-b", "main", str(self.directory))
        for name, value in (("user.name", "A"), ("user.email", "a@example.org"), ("lfs.url", url)):
            self.git("config", name, value)
        self.git("lfs", "install", "--local", "--skip-smudge")
        self.git("remote", "add", "origin", str(remote))
        self.git("lfs", "track", "*.bin")

    def clone(self, name: str, url: str) -> "Repository":
        """Clone the remote beside this working copy, with all large files."""
        clone = Repository(self.directory.parent / name, Path(self.env["HOME"]))
        clone.git("lfs", "install", "--skip-repo")
        clone.git("clone", "-q", "-c", f"lfs.url={url}", str(self.directory.with_suffix(".git")), name)
        return clone

    def commit(self, *names: str) -> None:
        """Commit files."""
        self.git("add", ".gitattributes", *names)
        self.git("commit", "-q", "-m", "more")


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tokens and keys."""
    directory = tmp_path_factory.mktemp("lfs")
    (directory / "tokens").write_text(TOKENS)
    settings = {"WSGI_STORE_TOKENS": str(directory / "tokens"), "WSGI_STORE_SIGNING_KEYS": KEY}
    with gunicorn(directory, WSGI_STORE_PROTOCOLS="lfs", WSGI_STORE_HASH="sha256", **settings) as server:
        yield server


def url(server: Server, token: str = "writing", port: int = 0) -> str:
    """The URL of the service, with a token as the password."""
    return f"http://git:{token}@127.0.0.1:{port or server.port}/lfs/team/project"


@pytest.fixture(name="repository")
def fixture_repository(server: Server, tmp_path: Path) -> Repository:
    """A working copy."""
    repository = Repository(tmp_path / "work", tmp_path / "home")
    repository.start(url(server))
    return repository


def sent(server: Server) -> int:
    """How many objects were uploaded so far."""
    return len(re.findall(r" (?:PUT|PATCH) /\S+ 20[014] ", server.text()))


def test_many_files(server: Server, repository: Repository, tmp_path: Path) -> None:
    """A push of 200 files, another one that sends nothing, a clone, a fetch and a check."""
    numbers = random.Random(1)
    for number in range(FILES):
        (repository.directory / f"{number}.bin").write_bytes(numbers.randbytes(2000 + number))
    repository.commit(*(f"{number}.bin" for number in range(FILES)))
    before = sent(server)
    repository.git("push", "-q", "origin", "main")
    assert sent(server) - before == FILES
    asked = len(server.logged(BATCH))
    repository.git("lfs", "push", "--all", "origin")
    assert (sent(server) - before, len(server.logged(BATCH)) > asked) == (FILES, True)
    clone = repository.clone("clone", url(server, "reading"))
    for number in range(FILES):
        name = f"{number}.bin"
        assert (clone.directory / name).read_bytes() == (repository.directory / name).read_bytes()
    (clone.directory / ".git/lfs/objects").rename(tmp_path / "objects")
    assert "could not be checked" in clone.git("lfs", "fsck", fails=True)
    clone.git("lfs", "fetch", "--all")
    assert "Git LFS fsck OK" in clone.git("lfs", "fsck")


@pytest.mark.parametrize(("transfer", "size"), [("basic", LARGE), ("tus", LARGE // 16)])
def test_a_large_file(
    server: Server, repository: Repository, tmp_path: Path, transfer: str, size: int
) -> None:
    """A file of 2 GiB goes there and comes back."""
    path = repository.directory / "large.bin"
    with path.open("wb") as file:
        file.write(transfer.encode())
        file.truncate(size)
    repository.git("config", "lfs.tustransfers", str(transfer == "tus").lower())
    repository.commit("large.bin")
    repository.git("push", "-q", "origin", "main")
    oid = repository.git("lfs", "ls-files", "--long").split()[0]
    assert oid in server.blobs()
    objects = repository.directory / ".git/lfs/objects"
    objects.rename(tmp_path / "objects")
    repository.git("lfs", "fetch")  # the client checks the hash
    assert (objects / oid[:2] / oid[2:4] / oid).stat().st_size == size


def test_a_broken_push(server: Server, repository: Repository) -> None:
    """A push by tus that broke off goes on where it was."""
    size = 64 << 20
    (repository.directory / "cut.bin").write_bytes(random.Random(2).randbytes(size))
    with Relay(server.port, 16 << 20) as relay:
        repository.git("config", "lfs.url", url(server, port=relay.port))
        repository.git("config", "lfs.tustransfers", "true")
        repository.git("config", "lfs.transfer.maxretries", "1")
        repository.commit("cut.bin")
        relay.break_after(Break.CUT, Way.UP, size // 2)
        repository.git("push", "origin", "main", fails=True)
        relay.mend()
        assert (there := received(server.root)) > size // 4
        before = relay.carried
        repository.git("push", "origin", "main")
        assert relay.carried - before < size - there + (4 << 20)


def test_credentials(server: Server, repository: Repository, tmp_path: Path) -> None:
    """Tokens come from .netrc or a credential helper; wrong ones and those for reading are refused."""
    (repository.directory / "a.bin").write_bytes(b"of whom")
    repository.commit("a.bin")
    bare = f"http://127.0.0.1:{server.port}/lfs/team/project"
    repository.git("config", "lfs.url", url(server, "wrong"))
    assert re.search(
        "(?i)authentication|credentials|authorization", repository.git("push", "origin", "main", fails=True)
    )
    repository.git("config", "lfs.url", url(server, "reading"))
    assert "this needs the scope write" in repository.git("push", "origin", "main", fails=True)
    repository.git("config", "lfs.url", bare)
    repository.git("push", "origin", "main", fails=True)
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text("machine 127.0.0.1 login git password writing\n")
    netrc.chmod(0o600)
    repository.git("push", "-q", "origin", "main")
    netrc.unlink()
    (repository.directory / "b.bin").write_bytes(b"by a helper")
    repository.commit("b.bin")
    helper = '!f() { test "$1" = get && echo username=git && echo password=writing; }; f'
    repository.git("config", "credential.helper", helper)
    repository.git("push", "-q", "origin", "main")
    assert hashlib.sha256(b"by a helper").hexdigest() in server.blobs()


def test_a_bucket(tmp_path: Path) -> None:
    """The URLs lead to the bucket, from which the client gets the bytes."""
    (tmp_path / "tokens").write_text(TOKENS)
    settings = {"WSGI_STORE_TOKENS": str(tmp_path / "tokens"), "WSGI_STORE_SIGNING_KEYS": KEY}
    with serving(tmp_path, WSGI_STORE_PROTOCOLS="lfs", WSGI_STORE_REDIRECT="always", **settings) as server:
        repository = Repository(tmp_path / "work", tmp_path / "home")
        repository.start(url(server))
        for name in ("a.bin", "b.bin"):
            (repository.directory / name).write_bytes(name.encode() * 1000)
        repository.commit("a.bin", "b.bin")
        repository.git("push", "-q", "origin", "main")
        clone = repository.clone("clone", url(server, "reading"))
        for name in ("a.bin", "b.bin"):
            assert (clone.directory / name).read_bytes() == name.encode() * 1000
        assert len(server.logged(r" GET /[0-9a-f]{64} 307 ")) == 2
