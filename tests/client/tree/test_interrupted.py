"""Restores that are killed, or find no room, and go on."""

import errno
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.support.commands import in_own_group, install
from tests.support.faults import disk, remount
from tests.support.relay import Break, Relay, Way
from tests.support.restoring import File, Folder, Link, Thing, expected, failures, found, put_tree, restored
from tests.support.servers import Server, until
from wsgi_store.client import Client
from wsgi_store.client.tree import files

BYTES = random.Random(17)
THINGS: dict[str, Thing] = {
    "a/one": File(b"one"),
    "a/two": File(b"one", 0o600),
    "a/b/three": File(b"three"),
    "a/link": Link("b/three"),
    "closed/inside": File(b"inside"),
    "closed": Folder(0o500),
    "large": File(BYTES.randbytes(files.SMALL + 1)),
    "a/large": File(BYTES.randbytes(files.SMALL + 1), 0o444),
}
# Calls before which the process is killed.
CALLS = ("open", "os.rename", "os.mkdir", "os.chmod", "os.utime", "os.symlink", "os.remove", "os.rmdir")


@pytest.fixture(name="memory")
def fixture_memory() -> Iterator[Path]:
    """A directory in memory, because a disk would be synced for each round."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def killed_at(number: int, port: int, tree: str, directory: Path) -> bool:
    """Restore in a process that is killed before a call; whether it was."""

    def run() -> None:
        left = number

        def count(event: str, _: tuple[object, ...]) -> None:
            nonlocal left
            if event in CALLS:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        with Client(f"http://127.0.0.1:{port}") as client:
            assert client.algorithm
            sys.addaudithook(count)
            assert not failures(restored(client, tree, directory))

    process = get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def check_unfinished(directory: Path, things: dict[str, Thing]) -> None:
    """Whatever has its name is whole."""
    whole = expected(things)
    for path, seen in found(directory).items():
        if ".part" not in path and len(seen) == 3:
            assert seen == whole[path]


def rounds(server: Server, client: Client, memory: Path, step: int) -> None:
    """Kill a restore at every so many calls, and once more; then let it finish."""
    tree = put_tree(client, THINGS)
    number = 0
    while killed_at(number, server.port, tree, memory / "new"):
        if (memory / "new").exists():
            check_unfinished(memory / "new", THINGS)
        killed_at(number + 3, server.port, tree, memory / "new")
        assert not failures(restored(client, tree, memory / "new"))
        assert found(memory / "new") == expected(THINGS)
        shutil.rmtree(memory / "new")
        number += step
    assert number > 40


def test_kills(server: Server, client: Client, memory: Path) -> None:
    """A restore that is killed, and killed again, leaves whole files, and the next one does the rest."""
    rounds(server, client, memory, 7)


@pytest.mark.races
def test_kills_everywhere(server: Server, client: Client, memory: Path) -> None:
    """The same before each call."""
    rounds(server, client, memory, 1)


@pytest.mark.parametrize("kind", ["small", "large", "tree"])
def test_a_full_disk(client: Client, tmp_path: Path, kind: str) -> None:
    """A full disk ends the restore, without a broken file; with room, it goes on."""
    size = {"small": 40_000, "large": files.SMALL + 1, "tree": 0}[kind]
    count = 5000 if kind == "tree" else 40
    things: dict[str, Thing] = {f"{number:05}": File(BYTES.randbytes(size)) for number in range(count)}
    tree = put_tree(client, things)
    with disk("tmpfs", tmp_path / "disk", 1 << 18 if kind == "tree" else 1 << 20, inodes=10_000):
        target = tmp_path / "disk/new"
        with pytest.raises(OSError, match="No space left") as caught:
            restored(client, tree, target)
        assert caught.value.errno == errno.ENOSPC
        if kind == "tree":
            assert os.listdir(target) == [f".{tree}.part"]
        else:
            check_unfinished(target, things)
        remount(tmp_path / "disk", "size=32m")
        assert not failures(restored(client, tree, target))
        assert found(target) == expected(things)


def test_ctrl_c(server: Server, client: Client, tmp_path: Path) -> None:
    """Ctrl-C ends the command soon, even if the server is silent, and it says how to go on."""
    things: dict[str, Thing] = {"large": File(BYTES.randbytes(4 << 20)), "small": File(b"1")}
    tree = put_tree(client, things)
    program = install(tmp_path / "bin")
    with Relay(server.port) as relay:
        relay.break_after(Break.STALL, Way.DOWN, 7 << 19)
        command = (program, "get", "-r", "--url", relay.url, tree, "new")
        with in_own_group(tmp_path, *command) as process:
            part = tmp_path / f"new/.{tree}.part"
            until(
                lambda: part.exists() and any(one.stat().st_size >= 1 << 20 for one in part.iterdir()),
                "bytes",
            )
            os.killpg(process.pid, signal.SIGINT)
            _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert told == b"wsgi-store: interrupted: start the command again to continue where it stopped\n"
    assert not failures(restored(client, tree, tmp_path / "new"))
    assert found(tmp_path / "new") == expected(things)
