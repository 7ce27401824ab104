"""Temporary faults below a running server: full disks, failing system calls."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.support.exchanges import told
from tests.support.servers import Server, gunicorn, until
from tests.support.wire import Answer, Connection, message
from wsgi_store.readiness import REMEMBERED

FULL = (507, "storage_full")
UNAVAILABLE = (503, "store_unavailable")
# Small enough to be drained when it is refused, so that the connection stays open.
SMALL = 40_000
WORKERS = 2


def fresh(number: int, size: int = SMALL) -> bytes:
    """Different bytes for each number."""
    return Random(number).randbytes(size)


def hash_of(data: bytes) -> str:
    """The hash of a blob."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def serving(
    directory: Path, *, min_free: str = "0", hash_: str = "sha256", before: tuple[str, ...] = ()
) -> Iterator[Server]:
    """The shipped gunicorn on the store in a directory."""
    settings = {"WSGI_STORE_MIN_FREE": min_free, "WSGI_STORE_HASH": hash_, "WEB_CONCURRENCY": str(WORKERS)}
    with gunicorn(directory, before=before, **settings) as server:
        yield server


def upload(data: bytes) -> bytes:
    """The request that uploads these bytes."""
    return message("POST", "/", data)


def stored(client: Connection, data: bytes) -> str:
    """Upload bytes and read them back on the same connection; returns their hash."""
    hash_, size, _ = told(client.ask(upload(data)))
    assert (hash_, size) == (hash_of(data), len(data))
    assert fetched(client, hash_) == data
    return hash_


def fetched(client: Connection, hash_: str) -> bytes:
    """Download a blob."""
    answer = client.ask(message("GET", f"/{hash_}"))
    assert answer.status == 200, answer.status
    return answer.body


def refused(server: Server, answer: Answer, told_as: tuple[int, str], cause: str = "") -> None:
    """Check a problem: the code, no path in it, and one line in the log with the cause."""
    kind = answer.fields["content-type"]
    assert kind == "application/problem+json", f"{answer.status} {kind}, {len(answer.body)} bytes"
    payload = json.loads(answer.body)
    assert (answer.status, payload["code"]) == told_as, payload
    assert payload["status"] == answer.status
    assert "/" not in answer.body.decode().replace("Input/output", "")
    assert ("retry-after" in answer.fields) == (answer.status == 503)
    line = rf" ERROR +\[\d+\] .*{re.escape(cause)}.* id={answer.fields['x-request-id']}$"
    server.expected.append(line)
    assert len(server.await_log(line)) == 1


def ready(server: Server, client: Connection, *, whether: bool) -> None:
    """Check the answer of /readyz; /healthz succeeds in any case."""
    assert client.ask(message("GET", "/healthz")).status == 200
    # One request id for all polls, because each pattern is searched in each line.
    if (known := " ERROR .* id=until-ready$") not in server.expected:
        server.expected.append(known)

    def found() -> bool:
        answer = client.ask(message("GET", "/readyz", X_Request_ID="until-ready"))
        return (answer.status == 200) == whether

    # The result of a check is reused for a second.
    until(found, f"/readyz to say {whether}", seconds=REMEMBERED + 10)
    if not whether:
        refused(server, client.ask(message("GET", "/readyz")), UNAVAILABLE)


def intact(server: Server) -> set[str]:
    """Check that nothing is staged and every file is whole; returns the hashes in the store."""
    assert not server.staged()
    assert not [name for name in server.descriptors() if "/.staging" in name]
    for path in server.root.glob("[0-9a-f][0-9a-f]/*"):
        assert hash_of(path.read_bytes()) == path.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    return server.blobs()


@contextmanager
def mounted(target: Path, kind: str, options: str, source: str = "none") -> Iterator[None]:
    """Mount a file system on a new directory, and unmount it at the end."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    target.mkdir()
    command = ["mount", "-t", kind, "-o", options, source, str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"mounting is not allowed here: {result.stderr.strip()}")
    try:
        yield
    finally:
        unmount(target)


def unmount(target: Path) -> None:
    """Unmount a file system as soon as nobody uses it."""
    find = ["findmnt", "--noheadings", "--output", "SOURCE", "--mountpoint", str(target)]
    source = subprocess.run(find, capture_output=True, text=True, check=True).stdout.split()[-1]
    device = Path("/sys/block", Path(source).name, "loop")
    image = device / "backing_file"
    before = content_of(image)
    # A device that losetup(8) has set up keeps its image.
    cleared = content_of(device / "autoclear").strip() == "1"

    def unmounted() -> bool:
        return subprocess.run(["umount", str(target)], capture_output=True, check=False).returncode == 0

    try:
        until(unmounted, f"{target} to be free", seconds=10)
    except BaseException:
        # Detached now, and unmounted when its last user ends.
        subprocess.run(["umount", "--lazy", str(target)], check=True)
        raise
    if before and cleared:
        # A mount namespace that another test has made meanwhile has it mounted until that test ends;
        # to mount its image again would show the same file system, shut down as it is.
        until(lambda: content_of(image) != before, f"the image of {target} to be free", seconds=60)


def content_of(path: Path) -> str:
    """The text of a file; empty if there is no file."""
    try:
        return path.read_text()
    except OSError:
        return ""


def make_ext4(image: Path, size: int, inodes: int = 2000) -> None:
    """Make a sparse file of this size with an empty ext4."""
    with image.open("wb") as file:
        file.truncate(size)
    # No space is reserved for root, because the tests run as root.
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(inodes), str(image))


def run(name: str, *arguments: str, fine: tuple[int, ...] = (0,)) -> None:
    """Run a program that handles disks."""
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed")
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode in fine, result.stdout + result.stderr


@contextmanager
def disk(kind: str, target: Path, size: int, *, inodes: int = 2000) -> Iterator[None]:
    """A separate disk: `tmpfs` in memory, `ext4` in a file."""
    if kind == "tmpfs":
        with mounted(target, kind, f"size={size},nr_inodes={inodes}"):
            yield
        return
    image = target.with_suffix(".img")
    make_ext4(image, size, inodes)
    with mounted(target, kind, "loop", str(image)):
        yield


@contextmanager
def exfat(target: Path) -> Iterator[None]:
    """A file system without links, to which upper and lower case are the same."""
    image = target.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(16 << 20)
    run("mkfs.exfat", str(image))
    target.mkdir()
    found = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=True)
    device = found.stdout.strip()
    try:
        run("mount.exfat-fuse", device, str(target))
        try:
            yield
        finally:
            unmount(target)
    finally:
        run("losetup", "--detach", device)


def remount(target: Path, option: str) -> None:
    """Remount a file system with another option."""
    run("mount", "-o", f"remount,{option}", str(target))


@contextmanager
def full(directory: Path, leave: int = 0) -> Iterator[None]:
    """Fill a disk except for this many bytes, and free the space at the end."""
    filler = directory / ".filler"
    try:
        with filler.open("wb", buffering=0) as file:
            step = 1 << 20
            while step:
                try:
                    if file.write(bytes(step)) < step:
                        step //= 2
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    step //= 2
            file.truncate(file.tell() - leave)
            os.fsync(file.fileno())
        yield
    finally:
        filler.unlink()


@contextmanager
def without_inodes(directory: Path) -> Iterator[None]:
    """Create files until there are no inodes left, and remove them at the end."""
    fillers = directory / ".fillers"
    fillers.mkdir()
    try:
        with pytest.raises(OSError, match="No space left on device"):
            for number in range(100_000):
                (fillers / str(number)).touch()
        yield
    finally:
        shutil.rmtree(fillers)


@contextmanager
def injected(server: Server, *faults: str, paths: Iterable[Path | str] = ()) -> Iterator[None]:
    """Make system calls of the workers fail, in the syntax of strace(1): `fsync:error=EIO:when=2+`.

    With `paths` only calls that use one of these paths fail.
    """
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    if os.geteuid() != 0:
        pytest.skip("tracing a running server takes root")
    calls = ",".join(fault.partition(":")[0] for fault in faults)
    command = [program, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
    for fault in faults:
        command += ["-e", f"inject={fault}"]
    for path in paths:
        command += ["-P", str(path)]
    for pid in server.workers:
        command += ["-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            until(lambda: tracer.poll() is not None or _tracers(server) == {tracer.pid}, "strace to attach")
            assert tracer.poll() is None, tracer.communicate()[1]
            yield
        finally:
            tracer.terminate()
            try:
                tracer.wait(20)
            except subprocess.TimeoutExpired:
                tracer.kill()  # the kernel detaches it from the workers
    until(lambda: _tracers(server) == {0}, "strace to detach")


def _tracers(server: Server) -> set[int]:
    """The processes that trace the threads of the workers."""
    found: set[int] = set()
    for pid in server.workers:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            try:
                text = status.read_text(encoding="ascii")
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread has ended
            found.update(int(number) for number in re.findall(r"TracerPid:\s+(\d+)", text))
    return found


def staged_names(root: Path) -> list[Path]:
    """The names under which a tmpfs will show the next nameless staged files.

    A tmpfs numbers its files in the order of their creation (/proc/PID/fd shows `#number`).
    """
    probe = root / ".probe"
    probe.touch()
    number = probe.stat().st_ino
    probe.unlink()
    return [root / ".staging" / f"#{number + after}" for after in range(1, 30)]
