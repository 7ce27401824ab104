"""Parts of uploads: what counts of them, who may write to them, and disks that fail or hold strange files."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.senders import DATA, DIGEST, Sent, boots, digest_of
from tests.support.turns import Killed
from tests.support.users import as_nobody
from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import (
    DigestMismatch,
    StorageFull,
    StoreUnavailable,
    UploadLocked,
    UploadNotFound,
    WSGIStoreError,
)
from wsgi_store.store.contract import Durability
from wsgi_store.uploads import finishing, note, part, records, removal
from wsgi_store.uploads.note import Note

HALF = len(DATA) // 2


@pytest.fixture(name="reboot")
def fixture_reboot(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that starts the system again."""
    with boots(tmp_path) as start:
        yield start


@pytest.fixture(name="memory")
def fixture_memory() -> Iterator[Path]:
    """A directory that another user can enter."""
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(name="sent")
def fixture_sent(root: Path) -> Sent:
    """An upload in a store of its own."""
    return Sent(root, length=len(DATA), durability=Durability.FULL)


@contextmanager
def stopped(sent: Sent, number: int = 0) -> Iterator[int]:
    """A request that holds a part and is stopped."""
    fd = os.open(sent.folder / str(number), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


@pytest.fixture(name="silent")
def fixture_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holders have been silent for long, and newcomers do not wait."""
    monkeypatch.setattr(part, "PATIENCE", 0.0)
    monkeypatch.setattr(part, "PEACE", -1.0)


def age(path: Path, seconds: float) -> None:
    """Let the last byte of a part have arrived so many seconds ago."""
    os.utime(path, times=(moment := time.time() - seconds, moment))


def test_peace(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder keeps the upload for 2 s after its last byte; a time in the future gives it no peace."""
    monkeypatch.setattr(part, "PATIENCE", 0.05)
    with stopped(sent):
        with pytest.raises(UploadLocked, match="is sending this file"):
            sent.process().upload.state()
        age(sent.folder / "0", 1.5)
        with pytest.raises(UploadLocked, match="is sending this file"):
            sent.process().upload.state()
        age(sent.folder / "0", 2.1)
        assert sent.process().upload.state().offset == 0
    with stopped(sent, 1):
        age(sent.folder / "1", -60)
        assert sent.process().upload.state().offset == 0
    assert (sent.folder / "2").exists()


def test_a_lock_that_becomes_free(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer that gets the lock within a second goes on in the same part."""
    with stopped(sent) as fd:
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(fd, fcntl.LOCK_UN))
        assert sent.process().upload.state().offset == 0
    assert not (sent.folder / "1").exists()


@pytest.mark.usefixtures("silent")
def test_a_complete_upload_is_not_taken_over(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file is being stored every other request is refused, DELETE too."""
    sender = sent.process()
    refused = []

    def publish(*_: object) -> None:
        for act in (sent.process().upload.state, sent.process().upload.remove):
            with pytest.raises(UploadLocked, match="is being stored"):
                act()
            refused.append(act)
        raise StorageFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(sender.store, "add", publish)
        with pytest.raises(StorageFull):
            sender.send(0, DATA, complete=True)
    assert len(refused) == 2
    sent.settle()


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_checked_bytes_count_once_they_are_verified(sent: Sent, how: str) -> None:
    """Whoever finds bytes of a request with a digest that is killed or stopped on its way drops them."""
    sent.process().send(0, DATA[:10], complete=False)
    pid = os.fork()
    if not pid:

        def chunks() -> Iterator[Chunk]:
            yield DATA[10:HALF]
            if how == "killed":
                os._exit(0)
            Path(sent.root, "reached").touch()
            time.sleep(60)

        with suppress(BaseException):
            sent.process().upload.append(chunks(), 10, expected=[digest_of(DATA[10:])])
        os._exit(1)
    try:
        if how == "killed":
            os.waitpid(pid, 0)
        else:
            while not Path(sent.root, "reached").exists():
                time.sleep(0.01)
        assert (sent.folder / "0").stat().st_size == HALF
        assert sent.process().upload.state().offset == 10
    finally:
        if how == "stopped":
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    sent.settle()


def test_damaged_bytes_are_dropped(sent: Sent) -> None:
    """Bytes that lack their digest do not count, and the same request can be made again."""
    sender = sent.process()
    sender.send(0, DATA[:10], complete=False)
    with pytest.raises(DigestMismatch):
        sender.upload.append([DATA[10:20], b"?"], 10, expected=[digest_of(DATA[10:21])])
    assert sender.upload.state().offset == (sent.folder / "0").stat().st_size == 10
    sender.send(10, DATA[10:21], complete=False, checked=True, pieces=3)
    assert sent.known == 21
    sent.settle()


@pytest.mark.parametrize(
    ("durability", "kept"), [(Durability.NONE, 0), (Durability.FILE, HALF), (Durability.FULL, HALF)]
)
def test_after_another_start(
    root: Path, reboot: Callable[[], None], durability: Durability, kept: int
) -> None:
    """Bytes that were not synced are dropped after another start of the system, and only then."""
    sent = Sent(root, length=len(DATA), durability=durability)
    sent.process().send(0, DATA[:HALF], complete=False)
    sent.process().break_off(HALF, 5)
    assert sent.process().upload.state().offset == HALF + 5
    sent.process().break_off(HALF + 5, 5)
    reboot()
    sent.known = 0
    assert sent.process().upload.state().offset == (kept and HALF + 5)
    sent.settle()


def test_another_durability_keeps_what_was_synced(root: Path, reboot: Callable[[], None]) -> None:
    """What was synced stays counted when the server goes on without syncs."""
    sent = Sent(root, length=len(DATA), durability=Durability.FULL)
    sent.process().send(0, DATA[:HALF], complete=False)
    sent.durability = Durability.NONE
    sent.process().send(HALF, DATA[HALF:-1], complete=False)
    reboot()
    sent.known = 0
    assert sent.process().upload.state().offset == HALF
    sent.settle()


def test_a_published_file_is_never_cut(
    root: Path, reboot: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After another start nothing is dropped of a file that is a blob by now, even if it was not synced."""
    sent = Sent(root, length=None, durability=Durability.NONE)

    def finish(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(records, "finish", finish)
        sent.process().upload.append([DATA], 0, complete=True)
    reboot()
    assert (root / DIGEST.hex[:2] / DIGEST.hex).read_bytes() == DATA
    assert sent.process().upload.state().receipt is not None
    assert (root / DIGEST.hex[:2] / DIGEST.hex).read_bytes() == DATA


def test_a_link_for_a_backup(sent: Sent, tmp_path: Path) -> None:
    """A part that somebody has linked elsewhere is not taken for a blob."""
    sent.process().send(0, DATA[:HALF], complete=False)
    os.link(sent.folder / "0", tmp_path / "backup")
    assert sent.process().upload.state().offset == HALF
    sent.settle()


def test_a_system_without_proc(sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where starts of the system cannot be told apart, only synced bytes pass from process to process."""
    monkeypatch.setattr(note, "BOOT_ID", str(tmp_path / "nothing"))
    note.boot.cache_clear()
    sent.process().send(0, DATA[:HALF], complete=False)
    sent.process().break_off(HALF, 5)
    note.boot.cache_clear()
    assert sent.process().upload.state().offset == HALF
    sent.settle()
    note.boot.cache_clear()


def failing(call: str, number: int, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
    """Let the next calls fail with this error number."""
    real, left = getattr(os, call), [times]

    def fail(*arguments: object, **options: object) -> object:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, StoreUnavailable), (errno.ENOSPC, StorageFull)], ids=["EIO", "ENOSPC"]
)
def test_a_failed_sync(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[WSGIStoreError]
) -> None:
    """Bytes whose sync failed are dropped: the kernel may have lost them, and the next sync succeeds."""
    sender = sent.process()
    sender.send(0, DATA[:HALF], complete=False)
    with monkeypatch.context() as patch:
        failing("fdatasync", number, patch)
        with pytest.raises(kind):
            sender.upload.append([DATA[HALF:-1]], HALF)
    assert sent.process().upload.state().offset == HALF
    # The hashes of the dropped bytes are dropped, too.
    sender.send(HALF, DATA[HALF:-5], complete=False)
    sent.settle()


@pytest.mark.usefixtures("silent")
def test_a_failed_sync_in_a_takeover(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer that cannot sync what the holder has received counts what was synced before."""
    sent.process().send(0, DATA[:HALF], complete=False)
    sent.process().break_off(HALF, 5)
    with stopped(sent), monkeypatch.context() as patch:
        failing("fdatasync", errno.EIO, patch)
        assert sent.process().upload.state().offset == HALF
    sent.settle()


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("call", ["mkdir", "rename", "fsync", "pwrite", "ftruncate"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_once(sent: Sent, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Whichever change fails in a takeover, nothing acknowledged is lost, and the upload goes on later."""
    sent.process().send(0, DATA[:HALF], complete=False)
    sent.process().break_off(HALF, 5)
    with stopped(sent):
        with monkeypatch.context() as patch:
            failing(call, number, patch)
            with suppress(StorageFull, StoreUnavailable):
                sent.process().upload.state()
        assert sent.process().upload.state().offset == HALF + 5
    sent.settle()


@pytest.mark.usefixtures("silent")
def test_whoever_fences_off_is_killed(sent: Sent) -> None:
    """An upload whose last part was not made goes on, is removed, and is taken over."""
    sent.process().send(0, DATA[:HALF], complete=False)
    with stopped(sent):
        assert sent.process().upload.state().offset == HALF
        for name in ("1", "1.note"):
            os.unlink(sent.folder / name)
    assert sent.process().upload.state().offset == HALF
    (sent.folder / "1.fence").touch()
    assert sent.process().upload.state().offset == HALF
    assert (sent.folder / "2").exists()
    os.unlink(sent.folder / "2")
    sent.process().upload.remove()
    with pytest.raises(UploadNotFound):
        sent.process().upload.state()


@pytest.mark.usefixtures("silent")
def test_a_removal_while_parts_are_joined(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that joins the parts of an upload which another process removes says that it is gone."""
    sender = sent.process()
    sender.send(0, DATA[:HALF], complete=False)
    with stopped(sent):
        sender.send(HALF, DATA[HALF:-1], complete=False)

    def remove(*_: object) -> int:
        removal.remove(str(sent.folder))
        return HALF

    monkeypatch.setattr(finishing, "end_of", remove)
    with pytest.raises(UploadNotFound):
        sender.upload.append([DATA[-1:]], len(DATA) - 1)
    assert not list(sender.store.iterate())


@pytest.mark.usefixtures("silent")
def test_takeovers_without_end(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request gives up when others keep taking over the upload from each other."""
    monkeypatch.setattr(part, "ROUNDS", 3)
    monkeypatch.setattr(part.Part, "is_fenced", True)
    with pytest.raises(UploadLocked, match="keep taking over"):
        sent.process().upload.state()


@pytest.mark.parametrize("name", ["0", "0.note"])
@pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
def test_strange_files(sent: Sent, tmp_path: Path, name: str, kind: str) -> None:
    """What is no regular file is neither followed nor waited for."""
    path = sent.folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        (tmp_path / "elsewhere").touch()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    with pytest.raises(StoreUnavailable):
        sent.process().upload.append([DATA], 0)
    assert not (tmp_path / "elsewhere").exists() or not (tmp_path / "elsewhere").read_bytes()


def lost(sent: Sent, name: str) -> None:
    """Remove a file of an upload, as a power failure without syncs does."""
    os.unlink(sent.folder / name)


def emptied(sent: Sent, name: str) -> None:
    """Empty a file of an upload, as a power failure without syncs does."""
    os.truncate(sent.folder / name, 0)


@pytest.mark.parametrize("damage", [lost, emptied])
@pytest.mark.parametrize("name", ["0", "0.note", "upload.json"])
@pytest.mark.parametrize("expected", [(), (DIGEST,)], ids=["random", "content"])
def test_a_damaged_upload(
    root: Path, name: str, damage: Callable[[Sent, str], None], expected: tuple[Digest, ...]
) -> None:
    """An upload that has lost a file begins again, or is gone and can be created again."""
    sent = Sent(root, length=len(DATA), expected=expected, durability=Durability.FULL)
    sent.process().send(0, DATA[:HALF], complete=False)
    damage(sent, name)
    sent.known, sent.removed = 0, True
    with suppress(UploadNotFound):
        assert sent.process().upload.state().offset == 0 or name == "upload.json"
    sent.create()
    sent.settle()


def test_a_damaged_result(sent: Sent) -> None:
    """An upload whose result is damaged is gone; the blob stays."""
    sender = sent.process()
    sender.send(0, DATA, complete=True)
    emptied(sent, "done.json")
    with pytest.raises(UploadNotFound):
        sender.upload.state()
    with pytest.raises(UploadNotFound):
        sender.upload.state()
    assert sender.store.stat(DIGEST).size == len(DATA)


def test_a_torn_note(tmp_path: Path) -> None:
    """A note that was torn while it was written leaves the one before it."""
    fd = os.open(tmp_path / "note", os.O_CREAT | os.O_RDWR)
    try:
        assert Note.read(fd) == Note()
        first = Note(key=bytes(range(16))).write(fd, sync=True, synced=1)
        second = first.write(fd, sync=False, synced=2)
        assert Note.read(fd) == second
        os.pwrite(fd, b"?", (second.number % 2) * note.SLOT + 8)
        assert Note.read(fd) == first
    finally:
        os.close(fd)


def test_a_value_is_settled_once(tmp_path: Path) -> None:
    """The first value that is settled for a name stays; no file system is needed that has hard links."""
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert records.value_of("name", fd) is None
        assert records.settle("name", "first", fd, sync=True) == "first"
        assert records.settle("name", "second", fd, sync=False) == "first"
        assert os.listdir(tmp_path) == ["name"]
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            records.settle("file", "value", fd, sync=False)
        assert sorted(os.listdir(tmp_path)) == ["file", "name"]
    finally:
        os.close(fd)


def test_another_user(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user other than root stores a complete file that could not be stored before."""

    def publish(*_: object) -> None:
        raise StorageFull("no room")

    root = memory / "store"
    root.mkdir()
    with as_nobody(root):
        sent = Sent(root, length=len(DATA), durability=Durability.FULL)
        sender = sent.process()
        with monkeypatch.context() as patch, pytest.raises(StorageFull):
            patch.setattr(sender.store, "add", publish)
            sender.send(0, DATA, complete=True)
        assert (sent.folder / "0").stat().st_mode & 0o777 == 0o444
        sent.settle()
