"""Uploads by the command: sources, exclusions, healing of damaged blobs."""

import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.cli_service import fixture_server, fixture_url, objects, run
from tests.support.commands import install
from tests.support.commands import run as run_program
from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.servers import Server, gunicorn, until
from wsgi_store.cli.main import main
from wsgi_store.client import Client

__all__ = ["fixture_server", "fixture_url"]  # imported for the tests that request them


def paths(stdout: str) -> list[str]:
    """The last field of each line."""
    return [row.split("\t")[-1] for row in stdout.splitlines()]


@contextmanager
def writing(pipe: Path, data: bytes) -> Iterator[None]:
    """Write to a pipe in a thread."""
    thread = threading.Thread(target=pipe.write_bytes, args=(data,))
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("damage", ["cut", "longer", "empty"])
def test_a_damaged_blob_is_healed(url: str, server: Server, tmp_path: Path, damage: str) -> None:
    """A large blob of the wrong size is sent again and reported as healed."""
    (tmp_path / "large").write_bytes(DATA)
    run("put", "large")
    there = server.root / HASH[:2] / HASH
    there.chmod(0o644)
    there.write_bytes({"cut": DATA[:-1], "longer": DATA + b"?", "empty": b""}[damage])
    (row,) = objects(run("put", "--json", "large").stdout)
    assert (row["created"], row["healed"]) == (True, True)
    assert there.read_bytes() == DATA
    (row,) = objects(run("put", "--json", "large").stdout)
    assert (row["created"], row["healed"]) == (False, False)
    assert url


def test_flipped_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a store of md5 --force, or an upload from Python, heals a damaged blob of the right size."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large").write_bytes(DATA)
    hash_ = hashlib.md5(DATA).hexdigest()
    with gunicorn(tmp_path, workers=1, WSGI_STORE_HASH="md5") as server:
        url = f"http://127.0.0.1:{server.port}"
        monkeypatch.setenv("WSGI_STORE_URL", url)
        run("put", "large")
        there = server.root / hash_[:2] / hash_
        there.chmod(0o644)
        for heal in (
            lambda: objects(run("put", "--json", "--force", "large").stdout)[0]["healed"],
            lambda: Client(url).put(tmp_path / "large").healed,
        ):
            there.write_bytes(b"?" + DATA[1:])
            assert heal() is True
            assert there.read_bytes() == DATA


def test_pipes(url: str, tmp_path: Path) -> None:
    """A named pipe is read to its end, however late a writer opens it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with writing(pipe, DATA):
        assert run("put", "pipe").stdout.startswith(f"{HASH}\t")
    with writing(pipe, DATA), Client(url, "all") as client:
        assert client.put(pipe).hash == HASH


def test_a_pipe_that_nobody_writes_to(url: str, tmp_path: Path) -> None:
    """While a pipe has no writer, the command says that it waits for one."""
    program = install(tmp_path / "here")
    pipe = program.parent / "pipe"
    os.mkfifo(pipe)
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen([program, "put", "pipe"], cwd=program.parent, stderr=err, stdout=-1)
    with process:
        said = "wsgi-store: pipe: waiting for a writer of this pipe\n"
        until(lambda: (tmp_path / "err").read_text() == said, "a word")
        pipe.write_bytes(DATA)
        out, _ = process.communicate(timeout=20)
    assert out.decode().startswith(f"{HASH}\t{url}") and not process.returncode


@pytest.mark.parametrize("how", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "-"])
@pytest.mark.parametrize("data", [b"", b"hello"])
def test_standard_input_by_other_names(url: str, tmp_path: Path, how: str, data: bytes) -> None:
    """Standard input is read under each of its names, even if it is empty."""
    program = install(tmp_path / "here")
    done = run_program(program, "put", how, stdin=data, WSGI_STORE_URL=url, WSGI_STORE_TOKEN="all")
    assert done.stdout.decode().startswith(hashlib.sha256(data).hexdigest()), done.stderr


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom", "/dev/full"])
def test_devices(url: str, device: str, tmp_path: Path) -> None:
    """A device is rejected, by name and as standard input."""
    said = "the device may have no end: pipe the part you want to -"
    assert run("put", device, status=1).stderr == f"wsgi-store: {device}: {said}\n"
    program = install(tmp_path / "here")
    with open(device, "rb") as file:
        done = subprocess.run([program, "put", "-"], stdin=file, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert said.encode() in done.stderr
    with Client(url, "all") as client:
        with pytest.raises(OSError, match="may have no end"):
            client.put(device)
        assert not list(client.list())


def test_files_of_the_kernel(url: str) -> None:
    """Kernel files, which report a wrong size, are uploaded with their real content."""
    path = Path("/proc/version")
    assert not path.stat().st_size
    hash_ = hashlib.sha256(path.read_bytes()).hexdigest()
    assert run("put", str(path)).stdout.startswith(hash_)
    with Client(url, "all") as client:
        assert client.put(path).hash == hash_
        with path.open("rb") as file:
            assert client.put(file).hash == hash_


def test_directories_and_sockets(url: str, tmp_path: Path) -> None:
    """A directory needs -r; pipes and sockets in it are skipped with a message."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("x")
    os.mkfifo(tmp_path / "d" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "d" / "socket"))
        assert "use -r to upload the files below it" in run("put", "d", status=1).stderr
        done = CliRunner().invoke(main, ["put", "-r", "d"])
        assert paths(done.stdout) == ["d/file"]
        assert done.stderr.splitlines() == [
            f"wsgi-store: d/{name}: not a file, skipped" for name in ("pipe", "socket")
        ]
        assert not done.exit_code
        assert run("put", "d/socket", status=1).stderr.startswith("wsgi-store: d/socket: ")
    with Client(url, "all") as client, pytest.raises(IsADirectoryError):
        client.put(tmp_path / "d")


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.tmp"], ["d/a/b/c", "d/a/keep", "d/cache/x"]),
        (["cache", "keep"], ["d/a/b/c", "d/a/b/t.tmp", "d/t.tmp"]),
        (["cache/"], ["d/a/b/c", "d/a/b/t.tmp", "d/a/keep", "d/t.tmp"]),
        (["keep/"], ["d/a/b/c", "d/a/b/t.tmp", "d/a/keep", "d/cache/x", "d/t.tmp"]),
        (["a/b"], ["d/a/keep", "d/cache/x", "d/t.tmp"]),
        (["a/*.tmp"], ["d/a/b/c", "d/a/keep", "d/cache/x", "d/t.tmp"]),
        (["/t.tmp"], ["d/a/b/c", "d/a/b/t.tmp", "d/a/keep", "d/cache/x"]),
        (["d"], []),
        (["*"], []),
    ],
)
def test_exclude(url: str, tmp_path: Path, patterns: list[str], left: list[str]) -> None:
    """A pattern excludes by name, or by path if it contains a slash."""
    for name in ("a/b/c", "a/b/t.tmp", "a/keep", "cache/x", "t.tmp"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text(name)
    options = [word for pattern in patterns for word in ("--exclude", pattern)]
    assert sorted(paths(run("put", "-r", "d", *options).stdout)) == left
    assert url


def test_dry_run(url: str, tmp_path: Path) -> None:
    """--dry-run lists what would be sent, and sends nothing."""
    (tmp_path / "large").write_bytes(DATA)
    (tmp_path / "small").write_text("hello")
    hello = hashlib.sha256(b"hello").hexdigest()

    def states() -> list[str]:
        done = run("put", "--dry-run", "large", "small", "-", stdin=b"hello")
        assert [row.split("\t")[1:] for row in done.stdout.splitlines()] == [
            [HASH, f"{url}/{HASH}", "large"],
            [hello, f"{url}/{hello}", "small"],
            [hello, f"{url}/{hello}", "-"],
        ]
        return [row.split("\t")[0] for row in done.stdout.splitlines()]

    assert states() == ["would send"] * 3
    assert run("ls").stdout == ""
    run("put", "large")
    assert states() == ["there", "would send", "would send"]
    (row,) = objects(run("put", "-n", "--json", "large").stdout)
    assert row["dry_run"] is True and row["created"] is False and row["size"] == SIZE


def test_quiet(url: str, tmp_path: Path) -> None:
    """--quiet prints only errors."""
    (tmp_path / "file").write_text("hello")
    assert run("put", "--quiet", "file").output == ""
    assert (
        run("put", "-q", "file", "gone", status=1).output == "wsgi-store: gone: No such file or directory\n"
    )
    assert run("get", "-q", hashlib.sha256(b"hello").hexdigest()).output == ""
    assert len(run("ls").stdout.splitlines()) == 1
    done = run("ls", "--url", "http://127.0.0.1:1", "--retries", "1", status=6)
    assert done.stderr.count("\n") == 2
    done = run("put", "-q", "file", "--url", "http://127.0.0.1:1", "--retries", "1", status=6)
    assert done.stderr.count("\n") == 1
    assert url
