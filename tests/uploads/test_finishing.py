"""The end of an upload: its file is stored once, and nobody is told so before."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from tests.support.kinds import BucketKind, content, digest_of, put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import (
    Denied,
    DigestMismatch,
    IncompleteBody,
    InconsistentLength,
    OffsetMismatch,
    StorageFull,
    StoreUnavailable,
    TooLarge,
    UploadLocked,
    UploadNotFound,
)
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added, Store
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.migrate import Limits as MigrationLimits
from wsgi_store.upkeep.migrate import migrate
from wsgi_store.uploads import finishing, part, records
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.upload import Upload
from wsgi_store.uploads.uploads import Uploads

SHA256, SHA512 = Algorithm.SHA256, Algorithm.SHA512
DATA = bytes(number % 251 for number in range(1_500_000))
SIZE = len(DATA)
DIGEST = digest_of(SHA256, DATA)
HALF = SIZE // 2


class Killed(BaseException):
    """The process was killed at this point."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests wait less for each other than on a server, and longer for a disk that is busy."""
    monkeypatch.setattr(part, "PATIENCE", 0.05)
    monkeypatch.setattr(finishing, "PATIENCE", 20.0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not wait for a file that is being stored."""
    monkeypatch.setattr(finishing, "PATIENCE", 0.2)


@contextmanager
def raising(error: BaseException) -> Iterator[None]:
    """Instead of the publication, this happens."""
    raise error
    yield


def complete(uploads: Uploads, **announced: Any) -> Upload:
    """An upload whose last request was killed before it stored the file."""
    upload = uploads.create("me", FileInfo(length=SIZE, **announced))
    with pytest.raises(Killed):
        upload.append([DATA], 0, publishing=raising(Killed()))
    return uploads.find("me", upload.identity)


class Slow:
    """A publication that takes until it is released."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self._error = error

    def __enter__(self) -> None:
        self.entered.set()
        assert self.release.wait(20)
        if self._error:
            raise self._error

    def __exit__(self, *_: object) -> None:
        pass


def until(act: Callable[[], Any]) -> Any:
    """Ask until the answer is not that the upload is locked."""
    for _ in range(200):
        try:
            return act()
        except UploadLocked:
            time.sleep(0.02)
    raise AssertionError("always locked")


def test_what_a_killed_request_left(store: Store, uploads: Uploads) -> None:
    """Whoever asks has the file stored, and is told so when that has happened."""
    state = complete(uploads).state()
    assert state.receipt is not None
    assert (state.offset, state.receipt.digest, state.receipt.created) == (SIZE, DIGEST, True)
    assert content(store, DIGEST) == DATA
    assert not any(one.name == "wsgi_store-finish" for one in threading.enumerate() if one.is_alive())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("offset", [None, 0, SIZE])
def test_nobody_waits_long(store: Store, uploads: Uploads, offset: int | None) -> None:
    """While the file is being stored, every request is answered soon, in this process and in others."""
    upload = complete(uploads)
    others = Uploads(Staging(store), store).find("me", upload.identity)
    slow = Slow()
    begin = time.monotonic()
    with pytest.raises(UploadLocked):
        upload.append((), offset, publishing=slow)
    assert slow.entered.is_set()
    for one in (upload, uploads.find("me", upload.identity), others):
        with pytest.raises(UploadLocked):
            one.append([DATA[:10]], offset)
        with pytest.raises(UploadLocked):
            one.state()
        with pytest.raises(UploadLocked):
            one.remove()
    assert time.monotonic() - begin < 5
    assert not list(store.iterate())
    slow.release.set()
    assert until(upload.state).receipt.created
    assert content(store, DIGEST) == DATA


@pytest.mark.usefixtures("hasty")
def test_a_failure_is_told_to_the_next_request(uploads: Uploads) -> None:
    """It is not lost with the request that did not wait for it; the upload is kept, and stored later."""
    upload = complete(uploads)
    slow = Slow(Denied("not any more"))
    with pytest.raises(UploadLocked):
        upload.state(slow)
    slow.release.set()
    with pytest.raises(Denied, match="not any more"):
        until(upload.state)
    assert upload.state().receipt


@pytest.mark.parametrize(
    "error", [StorageFull("full"), StoreUnavailable("away"), Denied("no"), TimeoutError()]
)
def test_failures_keep_the_upload(store: Store, uploads: Uploads, error: Exception) -> None:
    """Whatever keeps a file from being stored, the next request stores it."""
    upload = uploads.create("me", FileInfo(length=SIZE))
    expected = StoreUnavailable if isinstance(error, TimeoutError) else type(error)
    with pytest.raises(expected):
        upload.append([DATA], 0, publishing=raising(error))
    with pytest.raises(expected):
        upload.state(raising(error))
    assert not list(store.iterate())
    assert upload.append((), SIZE).receipt
    assert content(store, DIGEST) == DATA


def test_a_wrong_digest(uploads: Uploads, store: Store) -> None:
    """It removes the upload, also where the last request was killed."""
    wrong = digest_of(SHA256, b"something else")
    upload = uploads.create("me", FileInfo(length=SIZE, expected=(wrong,)))
    with pytest.raises(DigestMismatch):
        upload.append([DATA], 0)
    with pytest.raises(UploadNotFound):
        upload.state()
    upload = uploads.create("me", FileInfo(length=SIZE))
    upload.append([DATA[:-1]], 0)
    upload.join(FileInfo(expected=(digest_of(SHA512, b"x"),)))
    with pytest.raises(DigestMismatch):
        upload.append([DATA[-1:]], SIZE - 1)
    with pytest.raises(UploadNotFound):
        uploads.find("me", upload.identity)
    assert not list(store.iterate())


def test_without_threads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads do not run between requests, or none can be started, the request stores the file."""
    uploads = Uploads(Staging(store), store, threads=False)
    here: list[threading.Thread] = []

    class Here(nullcontext[None]):
        """Notes the thread."""

        def __enter__(self) -> None:
            here.append(threading.current_thread())

    assert complete(uploads).state(Here()).receipt
    uploads = Uploads(Staging(store), store)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert complete(uploads).state(Here()).receipt
    assert here == [threading.current_thread()] * 2
    assert complete(uploads).state(Here()).receipt
    assert here[2] is not threading.current_thread()


def test_the_context_of_the_request(uploads: Uploads) -> None:
    """A host application finds its context variables in the thread, too."""
    user = ContextVar("user", default="nobody")
    seen = []

    class Rights(nullcontext[None]):
        """Looks who asks."""

        def __enter__(self) -> None:
            seen.append(user.get())

    user.set("ann")
    assert complete(uploads).state(Rights()).receipt
    assert seen == ["ann"]


def test_failures_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process keeps only some of them."""
    monkeypatch.setattr(finishing, "KEPT", 3)
    monkeypatch.setattr(finishing, "PATIENCE", 0.0)
    background = finishing.Background(threads=True)

    def fail() -> Any:
        time.sleep(0.01)
        raise Denied("no")

    for number in range(10):
        with pytest.raises((UploadLocked, Denied)):
            background.store(str(number), fail)
        time.sleep(0.03)
    kept = []
    for number in range(10):
        try:
            background.wait(str(number))
        except Denied:
            kept.append(number)
    assert kept == [6, 7, 8, 9]


def test_killed_after_the_publication(
    uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was stored, but nobody was told: the answer says once that it is new."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    upload = uploads.create("me", FileInfo(length=SIZE))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(records, "finish", kill)
        upload.append([DATA], 0)
    assert content(store, DIGEST) == DATA
    state = upload.state()
    assert state.receipt is not None and state.receipt.created
    assert upload.state().receipt == state.receipt
    assert not put(Staging(store), DATA).created


def test_a_damaged_blob_is_healed(
    tmp_path: Path, uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload replaces it; killed after that, the upload still tells its result."""
    put(Staging(store), DATA)
    path = tmp_path / "store" / DIGEST.hex[:2] / DIGEST.hex
    path.chmod(0o644)
    os.truncate(path, 5)
    finish = records.finish

    def kill(*_: object, **__: object) -> None:
        monkeypatch.setattr(records, "finish", finish)
        raise Killed

    monkeypatch.setattr(records, "finish", kill)
    upload = uploads.create("me", FileInfo(length=SIZE))
    with pytest.raises(Killed):
        upload.append([DATA], 0)
    assert content(store, DIGEST) == DATA
    receipt = upload.state().receipt
    assert receipt is not None and receipt.created
    assert content(store, DIGEST) == DATA


def test_after_a_takeover(
    uploads: Uploads, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts become one file, read once; limits are those of the whole file."""
    monkeypatch.setattr(part, "PEACE", -1.0)
    upload = uploads.create("me", FileInfo(expected=(DIGEST,), max_size=SIZE))

    def chunks() -> Iterator[bytes]:
        yield DATA[:HALF]
        # Another request takes the upload over while this one is stuck.
        state = uploads.find("me", upload.identity).append([DATA[HALF:-10]], HALF)
        assert state.offset == SIZE - 10
        yield b"late"

    with pytest.raises(UploadLocked):
        upload.append(chunks(), 0)
    advised: list[tuple[int, int]] = []
    advise = os.posix_fadvise

    def note(fd: int, start: int, length: int, kind: int) -> None:
        advised.append((start, length))
        assert start + length <= os.fstat(fd).st_size
        advise(fd, start, length, kind)

    monkeypatch.setattr(os, "posix_fadvise", note)
    monkeypatch.setattr("wsgi_store.staging.filling.WRITEBACK_INTERVAL", 1)
    with pytest.raises(TooLarge):
        upload.append([DATA[-10:], b"x"], SIZE - 10)
    (folder,) = (tmp_path / "store" / ".uploads").glob(f"*/{upload.identity}")
    assert sorted(one.name for one in folder.glob("[0-9]")) == ["0", "1"]
    read: list[int] = []
    pread = os.pread

    def count(fd: int, size: int, offset: int) -> bytes:
        data = pread(fd, size, offset)
        read.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", count)
    receipt = upload.append((), SIZE, length=SIZE).receipt
    assert receipt is not None and (receipt.digest, receipt.size) == (DIGEST, SIZE)
    assert SIZE <= sum(read) < SIZE + 10_000
    assert advised
    assert content(store, DIGEST) == DATA


def test_a_part_that_was_cut(uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are shorter than what was told are a failure, not a short file."""
    monkeypatch.setattr(part, "PEACE", -1.0)
    upload = uploads.create("me", FileInfo(length=SIZE))

    def chunks() -> Iterator[bytes]:
        yield DATA[:HALF]
        with pytest.raises(Killed):
            uploads.find("me", upload.identity).append([DATA[HALF:]], HALF, publishing=raising(Killed()))
        yield b""

    with pytest.raises(UploadLocked):
        upload.append(chunks(), 0)
    (first,) = (tmp_path / "store" / ".uploads").glob(f"*/{upload.identity}/0")
    os.truncate(first, 5)
    with pytest.raises(StoreUnavailable, match="shorter"):
        until(upload.state)


def test_what_is_said_to_a_stored_file(uploads: Uploads) -> None:
    """Whoever lost the answer is told the result; more bytes are refused."""
    upload = uploads.create("me", FileInfo(length=SIZE))
    receipt = upload.append([DATA], 0).receipt
    assert upload.append((), SIZE).receipt == receipt
    assert upload.append((), SIZE, length=SIZE, complete=True).receipt == receipt
    with pytest.raises(OffsetMismatch) as caught:
        upload.append([DATA[HALF:]], HALF, incoming=SIZE - HALF)
    assert caught.value.evidence == {"expected": SIZE, "provided": HALF, "stored": True}
    for more in ({"incoming": 3}, {"length": SIZE + 1}):
        with pytest.raises(InconsistentLength):
            upload.append([b"abc"], SIZE, **more)


def test_lengths_that_contradict_each_other(uploads: Uploads) -> None:
    """They are refused before the body is touched, and change nothing."""

    def never() -> Iterator[bytes]:
        raise AssertionError("the body was touched")
        yield

    upload = uploads.create("me", FileInfo(length=SIZE))
    upload.append([DATA[:10]], 0)
    for offset, conditions in [
        (10, {"incoming": SIZE - 9}),
        (10, {"length": SIZE + 1}),
        (10, {"length": 5}),
    ]:
        with pytest.raises(InconsistentLength):
            upload.append(never(), offset, **conditions)
    with pytest.raises(OffsetMismatch):
        upload.append(never(), 9, incoming=1)
    # A body of unknown length: what was announced counts.
    with pytest.raises(InconsistentLength):
        upload.append([DATA[10:] + b"x"], 10)
    assert upload.state().offset == 10
    with pytest.raises(InconsistentLength, match="ends before"):
        upload.append([DATA[10:20]], 10, complete=True)
    assert upload.state().offset == 20
    later = uploads.create("me", FileInfo(max_size=100))
    later.append([DATA[:50]], 0)
    for conditions in ({"length": 101}, {"incoming": 51}):
        with pytest.raises(TooLarge):
            later.append(never(), 50, **conditions)
    with pytest.raises(InconsistentLength):
        later.append(never(), 50, length=49)
    state = later.append([DATA[50:60]], 50, complete=True)
    assert state.receipt and state.receipt.digest == digest_of(SHA256, DATA[:60])


def test_a_client_that_goes_away_with_the_last_byte(uploads: Uploads, store: Store) -> None:
    """Its file is stored all the same, and one whose length is not known waits for its last request."""
    upload = uploads.create("me", FileInfo(length=SIZE))

    def chunks() -> Iterator[bytes]:
        yield DATA
        raise IncompleteBody

    with pytest.raises(IncompleteBody):
        upload.append(chunks(), 0)
    assert upload.state().receipt
    assert content(store, DIGEST) == DATA
    upload = uploads.create("me", FileInfo())
    with pytest.raises(IncompleteBody):
        upload.append(chunks(), 0)
    assert upload.state().receipt is None
    assert upload.append((), SIZE, complete=True).receipt


def test_a_disk_that_is_not_mounted(tmp_path: Path, uploads: Uploads) -> None:
    """Uploads are not told to be gone, none is created in the empty directory, and they go on afterwards."""
    upload = uploads.create("me", FileInfo(length=SIZE, expected=(DIGEST,)))
    upload.append([DATA[:HALF]], 0)
    root, away = tmp_path / "store", tmp_path / "away"
    root.rename(away)
    root.mkdir()
    for ask in (
        lambda: uploads.find("me", upload.identity),
        lambda: uploads.create("me", FileInfo(length=SIZE, expected=(DIGEST,))),
    ):
        with pytest.raises(StoreUnavailable):
            ask()
    assert not list(root.iterdir())
    root.rmdir()
    away.rename(root)
    assert uploads.find("me", upload.identity).append([DATA[HALF:]], HALF).receipt


def test_a_store_that_vanishes_at_the_end(tmp_path: Path, uploads: Uploads) -> None:
    """The upload is kept if the store is not there when its file is complete."""
    upload = uploads.create("me", FileInfo(length=SIZE))
    marker = tmp_path / "store" / "store.json"

    class Away(nullcontext[None]):
        """Takes the marker away."""

        def __enter__(self) -> None:
            marker.rename(tmp_path / "marker")

    with pytest.raises(StoreUnavailable):
        upload.append([DATA], 0, publishing=Away())
    (tmp_path / "marker").rename(marker)
    assert uploads.find("me", upload.identity).state().receipt


@pytest.mark.parametrize("killed", [False, True])
def test_a_migration_meanwhile(tmp_path: Path, killed: bool) -> None:
    """A file gets the names that the store gives when it is complete."""
    root = str(tmp_path / "store")
    store = open_store(root, Algorithm.MD5, create=True)
    uploads = Uploads(Staging(store), store)
    upload = uploads.create("me", FileInfo(length=SIZE, expected=(DIGEST,)))
    publishing = raising(Killed()) if killed else None
    upload.append([DATA[:HALF]], 0)
    for _ in migrate(open_store(root), SHA256, MigrationLimits()):
        pass
    if killed:
        with pytest.raises(Killed):
            upload.append([DATA[HALF:]], HALF, publishing=publishing)
        receipt = upload.state().receipt
    else:
        receipt = upload.append([DATA[HALF:]], HALF).receipt
    assert receipt is not None
    assert receipt.names == (DIGEST, digest_of(Algorithm.MD5, DATA))
    assert all(content(store, name) == DATA for name in receipt.names)


def test_servers_of_one_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that share the staging directory take over each other's uploads, and finish them."""
    monkeypatch.setattr(part, "PEACE", -1.0)
    kind = BucketKind()
    stores = [kind.open(tmp_path / "store", SHA256) for _ in range(2)]
    first, second = (Uploads(kind.staging(one), one) for one in stores)
    announced = FileInfo(length=SIZE, expected=(DIGEST,))
    upload = first.create("me", announced)
    upload.append([DATA[:1000]], 0)

    def chunks() -> Iterator[bytes]:
        yield DATA[1000:HALF]
        assert second.find("me", upload.identity).append([DATA[HALF:-1]], HALF).offset == SIZE - 1
        yield b"late"

    with pytest.raises(UploadLocked):
        first.find("me", upload.identity).append(chunks(), 1000)
    assert first.create("me", announced).identity == upload.identity
    receipt = first.find("me", upload.identity).append([DATA[-1:]], SIZE - 1).receipt
    assert receipt is not None and receipt.added is Added.CREATED
    assert second.find("me", upload.identity).state().receipt == receipt
    assert content(stores[1], DIGEST) == DATA
    again = second.create("me", announced)
    assert again.append([DATA], 0).receipt.added is Added.HELD  # type: ignore[union-attr]
    assert second.create("me", announced, reads=True).state().offset == SIZE
    assert complete(second).state().receipt
    # A server with a directory of its own knows nothing of them.
    other = kind.open(tmp_path / "other", SHA256)
    with pytest.raises(UploadNotFound):
        Uploads(kind.staging(other), other).find("me", upload.identity)


def test_the_hash_follows_another_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that goes on with an upload catches up while bytes arrive, and reads nothing twice."""
    first, second = (Uploads(Staging(store), store) for _ in range(2))
    upload = first.create("me", FileInfo(length=SIZE))
    cut = SIZE // 2
    upload.append([DATA[:cut]], 0)
    hashed: list[int] = []
    pread = os.pread

    def count(fd: int, size: int, offset: int) -> bytes:
        data = pread(fd, size, offset)
        if os.fstat(fd).st_size > 10_000:
            hashed.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", count)
    chunk = 50_000
    blocks = [DATA[start : start + chunk] for start in range(cut, SIZE, chunk)]
    sums: list[int] = []

    def chunks() -> Iterator[bytes]:
        for block in blocks:
            yield block
            sums.append(sum(hashed))

    receipt = second.find("me", upload.identity).append(chunks(), cut).receipt
    assert receipt is not None and receipt.digest == DIGEST
    assert sums[len(sums) // 2] == sum(hashed) < SIZE
    assert max(after - before for before, after in zip(sums, sums[1:], strict=False)) <= 4 * chunk
    assert hashlib.sha256(DATA).hexdigest() == DIGEST.hex
