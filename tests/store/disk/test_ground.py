"""Real file systems that lack a feature which a store needs, and what is said about them at start."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.faults import disk, exfat, mounted, ready, run, stored, unmount
from tests.support.kinds import content, put
from tests.support.servers import DEPLOY, gunicorn, refusal, until
from tests.support.strangers import snapshot
from tests.support.wire import Connection
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StorageFull, WrongStore
from wsgi_store.staging import Staging
from wsgi_store.store.disk.store import LocalStore

DATA = b"some bytes"


@contextmanager
def bindfs(target: Path, *options: str) -> Iterator[None]:
    """A directory seen through bindfs with these options, which has no nameless files."""
    source = target.with_name("source")
    source.mkdir()
    target.mkdir()
    run("bindfs", *options, str(source), str(target))
    try:
        yield
    finally:
        unmount(target)


@contextmanager
def rclone(target: Path) -> Iterator[None]:
    """A directory mounted by rclone, which has no links either."""
    source = target.with_name("remote")
    source.mkdir()
    target.mkdir()
    program = Path(sys.executable).with_name("rclone")
    command = [program, "mount", "--vfs-cache-mode", "writes", "--cache-dir", target.with_name("cache")]
    with subprocess.Popen([*command, source, target], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: os.path.ismount(target), "the mount")
            yield
        finally:
            run("fusermount3", "-u", str(target))
            process.wait(20)


Ground = Callable[[Path], AbstractContextManager[None]]
# File systems that cannot hold a store, and the errors.
UNFIT: dict[str, tuple[Ground, str]] = {
    "exfat": (exfat, "has no hard links"),
    "rclone": (rclone, "has no hard links"),
    "rename-deny": (lambda path: bindfs(path, "--rename-deny"), "cannot rename files"),
    "delete-deny": (lambda path: bindfs(path, "--delete-deny"), "cannot remove files"),
}
FIT: dict[str, Ground] = {
    "bindfs": bindfs,
    "chmod-deny": lambda path: bindfs(path, "--chmod-deny", "--chown-deny", "--chgrp-deny"),
    "ext4": lambda path: disk("ext4", path, 32 << 20),
    "tmpfs": lambda path: disk("tmpfs", path, 32 << 20),
}


@pytest.fixture(autouse=True)
def root_only() -> None:
    """Mounting takes root."""
    if os.geteuid():
        pytest.skip("needs root")


def refused(root: Path) -> str:
    """The output of a gunicorn that refuses to start and opens no port."""
    command = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"]
    status, lines = refusal(command, root)
    assert (status, len(lines)) == (1, 1), lines
    return lines[0]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.clients] if name == "rclone" else []) for name in UNFIT]
)
@pytest.mark.parametrize("copied", [False, True], ids=["new", "copied"])
def test_a_disk_that_cannot_hold_a_store(tmp_path: Path, name: str, *, copied: bool) -> None:
    """The start fails with one line that names what is missing, and leaves the directory as it was."""
    ground, reason = UNFIT[name]
    with ground(tmp_path / "disk"):
        root = tmp_path / "disk" / "store"
        if copied:
            (root / ".staging").mkdir(parents=True)
            (root / "store.json").write_text('{"algorithm": "md5", "layout": "ab/abcdef"}\n')
        before = snapshot(tmp_path / "disk")
        assert f"cannot hold a store: its file system {reason} (" in refused(root)
        if name != "delete-deny":  # files there cannot be removed again
            assert snapshot(tmp_path / "disk") == before


@pytest.mark.parametrize("name", FIT)
def test_a_disk_that_can(tmp_path: Path, name: str) -> None:
    """On a file system that only lacks modes or nameless files everything works."""
    with FIT[name](tmp_path / "disk"):
        with gunicorn(tmp_path / "disk", WSGI_STORE_MIN_FREE="0") as server:
            with Connection(server.port) as client:
                ready(server, client, whether=True)
                hash_ = stored(client, DATA)
                os.truncate(server.root / hash_[:2] / hash_, 0)
                assert stored(client, DATA) == hash_
        assert not server.staged()


def linked(root: Path, name: str) -> AbstractContextManager[None]:
    """Put a directory of the store on another file system, by a link."""
    return _moved(root, name, lambda place, elsewhere: place.symlink_to(elsewhere))


def bound(root: Path, name: str) -> AbstractContextManager[None]:
    """Put a directory of the store elsewhere by a bind mount of the same file system."""

    def bind(place: Path, elsewhere: Path) -> None:
        place.mkdir()
        run("mount", "--bind", str(elsewhere), str(place))

    return _moved(root, name, bind)


@contextmanager
def _moved(root: Path, name: str, put_there: Callable[[Path, Path], None]) -> Iterator[None]:
    place, elsewhere = root / name, root.with_name("elsewhere")
    elsewhere.mkdir()
    if place.exists():
        place.rename(elsewhere)
    put_there(place, elsewhere)
    try:
        yield
    finally:
        if not place.is_symlink():
            unmount(place)


@contextmanager
def another(root: Path, name: str) -> Iterator[None]:
    """Put a directory of the store on another file system."""
    if (root / name).exists():
        (root / name).rmdir()
    with mounted(root / name, "tmpfs", "size=1m"):
        yield


@pytest.mark.parametrize("name", ["ab", ".staging", ".quarantine"])
@pytest.mark.parametrize("way", [linked, bound, another])
def test_a_store_in_pieces(
    tmp_path: Path, way: Callable[..., AbstractContextManager[None]], name: str
) -> None:
    """A store with a directory elsewhere is refused at start, and by the check for `/readyz`."""
    root = tmp_path / "store"
    store = LocalStore(str(root), Algorithm.MD5)
    staging = Staging(store)
    put(staging, DATA)
    store.check()
    with way(root, name):
        before = snapshot(root)
        reason = "is a symbolic link" if way is linked else "is on another file system"
        for ask in (lambda: LocalStore(str(root), Algorithm.MD5), store.check):
            with pytest.raises(WrongStore, match=re.escape(f"{root}/{name} {reason}: ")):
                ask()
        assert snapshot(root) == before
        if way is bound:
            assert reason in refused(root)


def test_a_link_to_a_store(tmp_path: Path) -> None:
    """The whole store may be elsewhere, behind a link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").symlink_to("elsewhere")
    store = LocalStore(str(tmp_path / "store"), Algorithm.MD5)
    assert put(Staging(store), DATA).created


@pytest.mark.parametrize("name", FIT)
def test_further_names(tmp_path: Path, name: str) -> None:
    """On each of these file systems blobs get further names."""
    with FIT[name](tmp_path / "disk"):
        store = LocalStore(str(tmp_path / "disk" / "store"), Algorithm.SHA256, names=[Algorithm.MD5])
        names = put(Staging(store), DATA).names
        assert len(names) == 2
        for one in names:
            assert content(store, one) == DATA
        store.remove(names[1])
        assert put(Staging(store), DATA).created


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_without_room_for_names(tmp_path: Path, kind: str) -> None:
    """An upload is refused before its body when its names would not fit; those before have all of theirs."""
    with disk(kind, tmp_path / "disk", 16 << 20, inodes=64):
        store = LocalStore(
            str(tmp_path / "disk" / "store"), Algorithm.SHA256, names=[Algorithm.MD5, Algorithm.SHA1]
        )
        staging = Staging(store)
        stored = []
        with pytest.raises(StorageFull, match="inodes|space") as caught:
            for number in range(100):
                stored.append((put(staging, str(number).encode()), str(number).encode()))
        assert stored
        assert not list(store.sweep_names(remove=False))
        if "inodes" in str(caught.value):
            with pytest.raises(StorageFull, match="inodes"):
                staging.receive(iter(lambda: pytest.fail("it was read"), None))
        for receipt, data in stored:
            assert len(receipt.names) == 3
            assert all(content(store, one) == data for one in receipt.names)
