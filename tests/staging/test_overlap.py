"""Large blocks are hashed while the next one is received, with the same digests and clean failures."""

import errno
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.kinds import content, digest_of
from wsgi_store import hashing
from wsgi_store.digest import Algorithm
from wsgi_store.errors import DigestMismatch, StorageFull
from wsgi_store.hashing import HELPER_MIN, Hasher
from wsgi_store.staging import WRITEBACK_INTERVAL, Staging
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.disk.store import LocalStore

NOISE = Random(0).randbytes(6 * HELPER_MIN)
SIZES = st.one_of(
    st.integers(0, 3), st.integers(HELPER_MIN - 2, HELPER_MIN + 2), st.integers(HELPER_MIN, 2 * HELPER_MIN)
)


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store; whatever a test does, no staged file may be left."""
    store = LocalStore(str(tmp_path / "store"), Algorithm.SHA256)
    yield store
    assert not os.listdir(store.staging_directory)


@pytest.fixture(name="helper", autouse=True)
def fixture_helper(monkeypatch: pytest.MonkeyPatch) -> "hashing._Helper":
    """Fresh helpers for each test; returns that for sha256."""
    helper = hashing._Helper()  # pylint: disable=protected-access
    monkeypatch.setattr(hashing, "_helpers", {Algorithm.SHA256: helper})
    return helper


def in_turns(sizes: list[int]) -> Iterator[memoryview]:
    """NOISE in chunks, through two buffers that are overwritten in turn."""
    buffers = [bytearray(2 * HELPER_MIN), bytearray(2 * HELPER_MIN)]
    start = 0
    for number, size in enumerate(sizes):
        data = NOISE[start : start + size]
        buffers[number % 2][: len(data)] = data
        yield memoryview(buffers[number % 2])[: len(data)]
        start += len(data)


@given(sizes=st.lists(SIZES, max_size=6), expected=st.sets(st.sampled_from(Algorithm)))
def test_chunks_in_buffers_used_in_turn(sizes: list[int], expected: set[Algorithm]) -> None:
    """Every digest is right for chunks of any size in reused buffers."""
    data = NOISE[: sum(sizes)]
    hasher = Hasher(Algorithm.SHA256, [digest_of(algorithm, data) for algorithm in expected])
    for chunk in in_turns(sizes):
        hasher.update(chunk)
    assert hasher.finish() == digest_of(Algorithm.SHA256, data)


def test_many_at_once(store: Store) -> None:
    """Uploads that find the helper busy get the right digest, too."""
    staging = Staging(store)

    def upload(number: int) -> bool:
        first = number.to_bytes(4, "big")
        receipt = staging.receive(itertools.chain([first], in_turns([HELPER_MIN] * 6)))
        return receipt.digest == digest_of(Algorithm.SHA256, first + NOISE) and receipt.created

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(upload, range(40)))


class Meeting:
    """A hash that waits in another thread until its fellow hashes, too."""

    barrier = threading.Barrier(2)

    def __init__(self) -> None:
        self.digest = hashlib.sha256().digest

    def update(self, _: memoryview) -> None:
        """Meet the other hash; raises BrokenBarrierError if it does not come."""
        if threading.current_thread().name == "wsgi_store-hash":
            self.barrier.wait(10)


def test_two_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is hashed by two algorithms at the same time."""
    monkeypatch.setattr(Algorithm, "new", Meeting)
    hasher = Hasher(Algorithm.SHA256, names=[Algorithm.MD5])
    for chunk in in_turns([HELPER_MIN] * 4):
        hasher.update(chunk)
    assert set(hasher.digests()) == {Algorithm.SHA256, Algorithm.MD5}


def test_what_is_stored(store: Store) -> None:
    """A file received in large blocks is stored unchanged."""
    receipt = Staging(store).receive(in_turns([HELPER_MIN] * 6), length=len(NOISE))
    assert content(store, receipt.digest) == NOISE


def test_where_no_thread_can_be_had(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no thread can be started, the bytes are hashed anyway, and the next upload tries again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        receipt = Staging(store).receive(in_turns([HELPER_MIN] * 6))
    assert receipt.digest == digest_of(Algorithm.SHA256, NOISE)
    assert not Staging(store).receive(in_turns([HELPER_MIN] * 6)).created


def broken_body(_: pytest.MonkeyPatch) -> None:
    """Do nothing: the error comes from `failing_chunks`."""


def full_disk(patch: pytest.MonkeyPatch) -> None:
    """Make the fourth write fail."""
    write = os.write
    calls = iter(range(100))

    def fail(fd: int, data: bytes) -> int:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    patch.setattr(os, "write", fail)


class BrokenHash:
    """A hash that fails in another thread than that of the upload."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, block: memoryview) -> None:
        """Hash a block, or raise MemoryError."""
        if threading.current_thread().name == "wsgi_store-hash":
            raise MemoryError("of the helper")
        self._hash.update(block)


def broken_hash(patch: pytest.MonkeyPatch) -> None:
    """Make hashing fail in the other thread."""
    patch.setattr(Algorithm, "new", BrokenHash)


def failing_chunks(error: BaseException | None) -> Iterator[memoryview]:
    """Chunks that end with the error if there is one."""
    yield from in_turns([HELPER_MIN] * 6)
    if error is not None:
        raise error


@pytest.mark.parametrize(
    ("arrange", "error", "caught"),
    [
        (broken_body, ConnectionResetError(), ConnectionResetError),
        (broken_body, SystemExit(1), SystemExit),
        (broken_body, KeyboardInterrupt(), KeyboardInterrupt),
        (full_disk, None, StorageFull),
        (broken_hash, None, MemoryError),
    ],
)
def test_failures(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[pytest.MonkeyPatch], None],
    error: BaseException | None,
    caught: type[BaseException],
) -> None:
    """After any failure nothing is stored, no thread is left over, and the next upload is right."""
    staging = Staging(store)
    staging.receive(in_turns([HELPER_MIN] * 3))
    threads, held = set(threading.enumerate()), len(list(store.iterate()))
    for _ in range(5):
        with monkeypatch.context() as patch, pytest.raises(caught):
            arrange(patch)
            staging.receive(failing_chunks(error))
    assert set(threading.enumerate()) == threads
    assert len(list(store.iterate())) == held
    assert staging.receive(in_turns([HELPER_MIN] * 6)).digest == digest_of(Algorithm.SHA256, NOISE)


def test_a_wrong_digest(store: Store) -> None:
    """A wrong digest is noticed when the difference is in the last block, hashed in the other thread."""
    wrong = digest_of(Algorithm.SHA256, NOISE[:-1] + b"?")
    with pytest.raises(DigestMismatch):
        Staging(store).receive(in_turns([HELPER_MIN] * 6), expected=[wrong])
    assert not list(store.iterate())


def test_what_the_helper_keeps(helper: "hashing._Helper") -> None:
    """The helper keeps no reference to a block after hashing it."""
    block = memoryview(bytearray(HELPER_MIN))
    pending = helper.hash(Algorithm.SHA256.new(), block)
    assert pending is not None
    pending.wait()
    block.release()  # raises while anything uses the block


@pytest.mark.parametrize("busy", [False, True])
def test_after_a_fork(store: Store, helper: "hashing._Helper", busy: bool) -> None:
    """A forked process has its own helper thread, even if it was forked while a block was hashed."""
    Staging(store).receive(in_turns([HELPER_MIN] * 3))
    if busy:
        helper._free.acquire()  # pylint: disable=protected-access,consider-using-with
    pid = os.fork()
    if not pid:
        try:
            hasher = Hasher(Algorithm.SHA256)
            for chunk in in_turns([HELPER_MIN] * 6):
                hasher.update(chunk)
            right = hasher.finish() == digest_of(Algorithm.SHA256, NOISE)
            own = "wsgi_store-hash" in {thread.name for thread in threading.enumerate()}
            os._exit(not (right and own))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("durability", Durability)
def test_the_way_to_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch, durability: Durability) -> None:
    """Writeback of bytes that will be synced starts while the rest arrives, once for each byte."""
    started: list[tuple[int, int]] = []

    def start(_: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        started.append((offset, length))

    monkeypatch.setattr(os, "posix_fadvise", start)
    Staging(store, durability=durability).receive([bytes(WRITEBACK_INTERVAL // 2)] * 5)
    synced = [(0, WRITEBACK_INTERVAL), (WRITEBACK_INTERVAL, WRITEBACK_INTERVAL)]
    assert started == ([] if durability is Durability.NONE else synced)
