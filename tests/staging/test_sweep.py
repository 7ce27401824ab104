"""Files left by a killed process are swept by the next one, and no others."""

import contextlib
import fcntl
import functools
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crowds import running
from tests.support.kinds import KINDS, LocalKind, content, digest_of, put
from tests.support.servers import Server, gunicorn, until
from tests.support.tracing import Trace, python_path, uploader
from tests.support.wire import Connection, message
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.staged import LINK_AGE, StagedFile, leftovers, sweep

NAMELESS, NAMED = KINDS
DATA = "some bytes"
HASH = hashlib.md5(DATA.encode()).hexdigest()
LEFTOVER = "0" * 31


@pytest.fixture(name="store")
def fixture_store(root: Path) -> LocalStore:
    """An empty store on a local disk, in which tests leave files."""
    return LocalStore(str(root), Algorithm.MD5)


@contextlib.contextmanager
def uploading(store: LocalStore, kind: LocalKind = NAMED) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in the middle of an upload that continues when its standard input ends."""
    command, environ = uploader(Path(store.root), kind, Durability.FULL, f"slowly={DATA}")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environ, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.read(len("opened\nhalf\n")) == b"opened\nhalf\n"
            yield process
        finally:
            process.kill()


def staged(store: LocalStore) -> list[str]:
    """The staged files that have a name."""
    return os.listdir(store.staging_directory)


def leave(store: LocalStore, *names: str) -> None:
    """Create files as a killed process leaves them."""
    for name in names:
        Path(store.staging_directory, name).write_bytes(b"half of")
        Path(store.staging_directory, name).chmod(0o444)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_killed_process(store: LocalStore, kind: LocalKind) -> None:
    """The staged file of a killed process is swept at the next start."""
    with uploading(store) as process:
        assert len(staged(store)) == 1
        process.kill()
    assert len(staged(store)) == 1
    kind.staging(store)
    assert not staged(store)
    assert not list(store.iterate())


def test_a_killed_process_that_staged_without_a_name(store: LocalStore) -> None:
    """Where staged files have no names, a killed process leaves nothing to sweep."""
    with uploading(store, NAMELESS) as process:
        assert not staged(store)
        process.kill()
    assert sweep(store.staging_directory) == 0


def test_a_live_process(store: LocalStore) -> None:
    """No other process sweeps the staged file of a live process, and its upload succeeds."""
    leave(store, LEFTOVER + "0", LEFTOVER + "f")
    with uploading(store) as process:
        leave(store, LEFTOVER + "1", LEFTOVER + "e")
        assert sweep(store.staging_directory) == 2
        assert len(staged(store)) == 1
        Staging(store)
        NAMED.staging(store)
        assert len(staged(store)) == 1
        told, _ = process.communicate(timeout=20)
        assert told == f"slowly={DATA}\n".encode()
    assert process.returncode == 0
    assert not staged(store)
    assert content(store, digest_of(Algorithm.MD5, DATA.encode())) == DATA.encode()


def test_the_same_process(store: LocalStore) -> None:
    """A staged file of this process also counts as in use."""
    with StagedFile.named(store.staging_directory):
        assert sweep(store.staging_directory) == 0
        assert len(staged(store)) == 1
    assert not staged(store)


def test_a_killed_claim(tmp_path: Path) -> None:
    """An unfinished marker is swept by the start that creates the marker."""
    trace = Trace(tmp_path / "trace", tmp_path / "store")
    command, environ = uploader(trace.root, NAMED, Durability.FULL)
    before = trace.command("-e", "inject=/^link(at)?$:signal=KILL:when=1")
    done = subprocess.run([*before, *command], env=environ, check=False, stdout=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(trace.root) == [".staging"]
    assert len(os.listdir(trace.root / ".staging")) == 1
    Staging(LocalStore(str(trace.root), Algorithm.MD5))
    assert sorted(os.listdir(trace.root)) == [".staging", "store.json"]
    assert not os.listdir(trace.root / ".staging")


def busy(server: Server) -> set[int]:
    """The workers that are receiving an upload."""
    return {
        pid
        for pid in server.processes()
        if any("/.staging/" in os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    }


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_servers_on_one_root(tmp_path: Path, kind: LocalKind) -> None:
    """An upload survives the start of another server and of another worker."""
    start = functools.partial(gunicorn, PYTHONPATH=python_path(kind), workers=2, WSGI_STORE_HASH="md5")
    (tmp_path / "second").mkdir()
    with start(tmp_path) as server, Connection(server.port) as client:
        store = LocalStore(str(server.root), Algorithm.MD5)
        named = 0 if kind.nameless else 1
        client.send(message("POST", "/", DATA.encode())[:-1])
        server.until_staged()
        leave(store, LEFTOVER + "0")
        with start(tmp_path / "second", WSGI_STORE_ROOT=store.root):
            assert len(staged(store)) == named
        (idle,) = server.processes() - busy(server)
        leave(store, LEFTOVER + "0")
        server.expected.append("SIGKILL")
        os.kill(idle, signal.SIGKILL)
        until(lambda: len(staged(store)) == named, "the sweep of the worker that comes instead")
        server.workers.discard(idle)
        client.send(DATA[-1:].encode())
        assert client.receive().status == 200
        assert server.blobs() == {HASH}
        assert not staged(store)


def test_swept_before_it_was_locked(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is swept before it could be locked is created again."""
    swept = []

    def late(fd: int, operation: int) -> None:
        monkeypatch.undo()
        swept.append(sweep(store.staging_directory))
        fcntl.flock(fd, operation)

    monkeypatch.setattr("wsgi_store.store.staged.fcntl.flock", late)
    with StagedFile.named(store.staging_directory) as file:
        assert swept == [1]
        assert staged(store) == [os.path.basename(file.path or "")]
        assert sweep(store.staging_directory) == 0


def test_locked_before_it_was_swept(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is locked after a sweep opened it is not swept."""
    leave(store, LEFTOVER + "0")
    path = Path(store.staging_directory, LEFTOVER + "0")
    with path.open("rb") as user:

        def late(fd: int, operation: int) -> None:
            monkeypatch.undo()
            fcntl.flock(user, fcntl.LOCK_EX)
            fcntl.flock(fd, operation)

        monkeypatch.setattr("wsgi_store.store.staged.fcntl.flock", late)
        assert sweep(store.staging_directory) == 0
    assert sweep(store.staging_directory) == 1


@contextlib.contextmanager
def sweeping(store: LocalStore) -> Iterator[None]:
    """Sweep continuously."""
    end = threading.Event()

    def loop() -> None:
        while not end.is_set():
            sweep(store.staging_directory)

    with running(end, *(threading.Thread(target=loop) for _ in range(2))):
        yield


def test_uploads_while_others_sweep(store: LocalStore) -> None:
    """Uploads succeed while others sweep continuously."""
    staging = NAMED.staging(store, Durability.NONE)
    with sweeping(store):
        for number in range(500):
            assert put(staging, str(number).encode()).created
    assert len(list(store.iterate())) == 500
    assert not staged(store)


def test_starts_while_others_sweep(store: LocalStore) -> None:
    """A server that starts while others sweep still detects that nameless files work."""
    names: list[str] = []

    def chunks() -> Iterator[bytes]:
        names.extend(staged(store))
        yield b""

    with sweeping(store):
        stagings = [Staging(store) for _ in range(500)]
    for staging in stagings:
        staging.receive(chunks())
    assert not names


def test_what_is_not_swept(store: LocalStore, tmp_path: Path) -> None:
    """Files with other names are left alone, and one that cannot be swept does not stop the sweep."""
    directory = Path(store.staging_directory)
    foreign = [
        "README",
        "0" * 31,
        "0" * 33,
        "A" * 32,
        "g" * 32,
        "0" * 31 + "\n",
        "0" * 32 + "\n",
        "." + "0" * 31,
    ]
    leave(store, *foreign)
    target = tmp_path / "target"
    target.write_bytes(b"not in the store")
    (directory / ("1" * 32)).symlink_to(target)
    (directory / ("2" * 32)).mkdir()
    os.mkfifo(directory / ("3" * 31 + ".fifo"))
    leave(store, *(digit * 32 for digit in "0abcdef"))
    assert sweep(store.staging_directory) == 7
    assert sorted(staged(store)) == sorted([*foreign, "1" * 32, "2" * 32, "3" * 31 + ".fifo"])
    assert target.read_bytes() == b"not in the store"


def test_links_that_a_killed_process_left(store: LocalStore) -> None:
    """A link that was to become a name is removed when it is old; a new one may be in use."""
    old, new = (Path(store.staging_directory, digit * 32) for digit in "ab")
    for link, age in ((old, LINK_AGE + 1), (new, LINK_AGE - 1)):
        link.symlink_to("../ab/" + "ab" * 32)
        then = time.time() - age
        os.utime(link, (then, then), follow_symlinks=False)
    assert not list(leftovers(store.staging_directory, remove=False))
    assert sorted(staged(store)) == [old.name, new.name]
    assert sweep(store.staging_directory) == 0
    assert staged(store) == [new.name]


def test_a_pipe_in_the_place_of_a_staged_file(store: LocalStore) -> None:
    """A pipe without a writer does not block a start."""
    os.mkfifo(Path(store.staging_directory, "0" * 32))
    Staging(store)


@pytest.mark.uncounted  # coverage data could not be written
def test_a_directory_that_cannot_be_read(store: LocalStore) -> None:
    """Sweeping an unreadable directory raises an error, but a server starts anyway."""
    os.rmdir(store.staging_directory)
    Path(store.staging_directory).touch()
    with pytest.raises(StoreUnavailable, match="cannot sweep the staged files"):
        sweep(store.staging_directory)
    Staging(store)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("complete", [True, False])
def test_a_disk_that_is_read_only(store: LocalStore, kind: LocalKind, complete: bool) -> None:
    """A store on a read-only disk can be read, with leftovers or without a staging directory."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    digest = put(Staging(store), b"bytes").digest
    if complete:
        leave(store, LEFTOVER + "0")
    else:
        os.rmdir(store.staging_directory)
    subprocess.run(["mount", "--bind", store.root, store.root], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", store.root], check=True)
        opened = LocalStore(store.root, Algorithm.MD5)
        staging = kind.staging(opened)
        assert content(opened, digest) == b"bytes"
        with pytest.raises(StoreUnavailable):
            put(staging, b"others")
        with pytest.raises(StoreUnavailable):
            staging.check()
    finally:
        subprocess.run(["umount", store.root], check=True)
    if complete:
        assert staged(store) == [LEFTOVER + "0"]
        assert sweep(store.staging_directory) == 1
        staging.check()
