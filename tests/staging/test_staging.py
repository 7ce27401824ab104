"""Staging: bytes are counted, hashed, checked and published whole, or leave nothing."""

import errno
import hashlib
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.kinds import Kind, content, digest_of
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    DigestMismatch,
    IncompleteBody,
    StorageFull,
    StoreError,
    StoreUnavailable,
    TooLarge,
)
from wsgi_store.staging import SPACE_INTERVAL, Staging
from wsgi_store.store.contract import Durability, Store

pytestmark = pytest.mark.long(40)
DATA = b"some bytes"
MIB = 1 << 20


class Untouched:
    """Chunks that must not be read."""

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the body was touched")


def staged_file(store: Store) -> int:
    """The descriptor of the only file being received."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the directory itself
            if os.readlink(f"/proc/self/fd/{name}").startswith(store.staging_directory):
                return int(name)
    raise AssertionError("no file is staged")


def disk_with(free: int, patch: pytest.MonkeyPatch) -> None:
    """Make every disk one of 1,000 blocks of 4,096 bytes with this many bytes free."""
    numbers = (4096, 4096, 1000, free // 4096, free // 4096, 0, 0, 0, 0, 255)
    patch.setattr(os, "statvfs", lambda _: os.statvfs_result(numbers))


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)))
def test_any_chunks_of_the_same_bytes(store: Store, staging: Staging, data: bytes, cuts: list[int]) -> None:
    """The receipt is the same however the bytes are cut into chunks, including empty ones."""
    edges = [0, *sorted(cuts), len(data)]
    chunks = [data[start:stop] for start, stop in zip(edges, edges[1:], strict=False)]
    receipt = staging.receive(chunks, length=len(data))
    assert receipt.digest == digest_of(Algorithm.MD5, data)
    assert receipt.size == len(data)
    assert receipt.created
    assert content(store, receipt.digest) == data
    store.remove(receipt.digest)


@pytest.mark.parametrize("length", [0, 1, len(DATA) - 1, len(DATA) + 1, 1000])
def test_another_length_than_announced(store: Store, staging: Staging, length: int) -> None:
    """A body shorter or longer than announced is refused and not stored."""
    with pytest.raises(IncompleteBody) as caught:
        staging.receive([DATA[:4], DATA[4:]], length=length)
    assert caught.value.evidence == {"expected": length, "actual": len(DATA)}
    assert not list(store.iterate())


def test_announced_digests_that_are_right(store: Store, staging: Staging) -> None:
    """Right digests of one or more algorithms are accepted."""
    expected = [digest_of(algorithm, DATA) for algorithm in Algorithm]
    assert staging.receive([DATA], expected=expected).digest == expected[0]
    assert store.stat(expected[0]).size == len(DATA)


@pytest.mark.parametrize("algorithm", Algorithm, ids=lambda one: one.value)
def test_an_announced_digest_that_is_wrong(store: Store, staging: Staging, algorithm: Algorithm) -> None:
    """A wrong digest among right ones is reported with both values, and nothing is stored."""
    wrong = digest_of(algorithm, b"others")
    with pytest.raises(DigestMismatch) as caught:
        right = Algorithm.MD5 if algorithm is Algorithm.SHA1 else Algorithm.SHA1
        staging.receive([DATA], expected=[digest_of(right, DATA), wrong])
    assert caught.value.evidence == {"expected": str(wrong), "actual": str(digest_of(algorithm, DATA))}
    assert not list(store.iterate())


def test_the_largest_file(store: Store) -> None:
    """A file of the maximum size is accepted; one more byte is refused as soon as it is known."""
    staging = Staging(store, max_size=len(DATA))
    assert staging.receive([DATA], length=len(DATA)).created
    with pytest.raises(TooLarge) as caught:
        staging.receive(Untouched(), length=len(DATA) + 1)
    assert caught.value.evidence == {"limit": len(DATA)}
    taken = []

    def chunks() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"x"

    with pytest.raises(TooLarge):
        staging.receive(chunks())
    assert len(taken) == len(DATA) + 1
    assert len(list(store.iterate())) == 1


def test_the_space_that_stays_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that would leave less than the reserved space is refused unread."""
    disk_with(500 * 4096, monkeypatch)
    staging = Staging(store, min_free=100 * 4096)
    staging.admit(400 * 4096)
    with pytest.raises(StorageFull) as caught:
        staging.receive(Untouched(), length=400 * 4096 + 1)
    room = {"needed": 400 * 4096 + 1, "available": 400 * 4096, "reserve": 100 * 4096}
    assert caught.value.evidence == room
    staging.check()


def test_less_than_the_space_that_stays_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the reserve every body is refused, even one of unknown length."""
    disk_with(99 * 4096, monkeypatch)
    staging = Staging(store, min_free=100 * 4096)
    refusals: list[tuple[type[StoreError], Callable[[], object]]] = [
        (StorageFull, lambda: staging.receive(Untouched())),
        (StoreUnavailable, staging.check),
    ]
    for kind, ask in refusals:
        with pytest.raises(kind) as caught:
            ask()
        assert caught.value.evidence["available"] == 0


def test_space_that_runs_out_on_the_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of unknown length is stopped soon after the free space runs out."""
    piece = SPACE_INTERVAL // 10
    staging = Staging(store, min_free=4096)
    disk_with(10 * SPACE_INTERVAL, monkeypatch)
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        while taken < 10 * SPACE_INTERVAL:
            taken += piece
            if taken > 2.5 * SPACE_INTERVAL:
                disk_with(0, monkeypatch)
            yield bytes(piece)

    with pytest.raises(StorageFull):
        staging.receive(chunks())
    assert 2.5 < taken / SPACE_INTERVAL <= 3.6
    assert not list(store.iterate())


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), OSError(errno.ENOSPC, "of a socket"), KeyboardInterrupt(), SystemExit(1)],
    ids=repr,
)
def test_a_body_that_fails(store: Store, staging: Staging, error: BaseException) -> None:
    """An exception raised by the body is passed on unchanged, and nothing is stored."""

    def chunks() -> Iterator[bytes]:
        yield DATA
        raise error

    with pytest.raises(type(error)) as caught:
        staging.receive(chunks())
    assert caught.value is error
    assert not os.listdir(store.staging_directory)
    assert not list(store.iterate())


@pytest.mark.parametrize("place", [0, 1, 2])
def test_bytes_of_somebody_else(store: Store, staging: Staging, place: int) -> None:
    """A staged file that something else wrote to is dropped, because its bytes are not those hashed."""

    def chunks() -> Iterator[bytes]:
        for number in range(3):
            if number == place:
                os.write(staged_file(store), b"\0")
            if number < 2:
                yield DATA

    with pytest.raises(StoreUnavailable, match="something else wrote"):
        staging.receive(chunks())
    assert not os.listdir(store.staging_directory)
    assert not list(store.iterate())


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_short_writes(store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Short writes are continued until all bytes are written."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:most]))
    data = bytes(range(256)) * 10
    digest = staging.receive([data[:7], data[7:]]).digest
    monkeypatch.undo()
    assert content(store, digest) == data


def test_check(store: Store, staging: Staging) -> None:
    """A store that can accept a file passes the check, which leaves nothing behind."""
    staging.check()
    assert not os.listdir(store.staging_directory)
    assert not list(store.iterate())


def test_check_without_a_directory(kind: Kind, tmp_path: Path) -> None:
    """A store whose staging directory has disappeared with its parent fails the check."""
    staging = kind.staging(kind.open(tmp_path / "store", Algorithm.MD5))
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StoreUnavailable, match="No such file|is missing"):
        staging.check()


def test_check_when_no_file_can_be_made(
    staging: Staging, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory in which no file can be created fails the check, even with free space."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable, match="No space left"):
        patch.setattr(os, "open", refuse)
        staging.check()
    assert not os.listdir(store.staging_directory)


def stream(count: int) -> Iterable[bytes]:
    """This many MiB of distinct bytes, each chunk a new object."""
    return (number.to_bytes(8, "big") * (MIB // 8) for number in range(count))


@pytest.mark.races
def test_memory_stays_constant(kind: Kind) -> None:
    """A body of 256 MiB is received and read again in a few MiB of memory."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        store = kind.open(Path(directory), Algorithm.MD5)
        staging = kind.staging(store, Durability.NONE)
        tracemalloc.start()
        try:
            receipt = staging.receive(stream(256), length=256 * MIB)
            hashed = hashlib.md5(usedforsecurity=False)
            with closing(store.open(receipt.digest)) as reader:
                while block := reader.read(MIB):
                    hashed.update(block)
            assert staging.receive(stream(256)).created is False
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert receipt.digest == Digest(Algorithm.MD5, hashed.digest())
    assert receipt.size == 256 * MIB
    # The last chunk and four blocks of a comparison: two being compared while the next two are read.
    assert peak < 6 * MIB
