"""Several files received in one go: each has an outcome of its own, and what is broken leaves nothing."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.kinds import content, digest_of
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BadRequest,
    DigestCollision,
    DigestMismatch,
    ReadOnly,
    StorageFull,
    StoreUnavailable,
    TooLarge,
    WSGIStoreError,
)
from wsgi_store.staging import Receipt, Staging, batch
from wsgi_store.store.contract import Added, Store
from wsgi_store.store.disk.replica import LocalReplica
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.testing.helpers import COLLIDING

pytestmark = pytest.mark.long(40)
MIB = 1 << 20
Outcome = Receipt | WSGIStoreError


def staged_files(store: Store) -> Iterator[int]:
    """The descriptors of the files that are being received."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the directory itself
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"{store.staging_directory}/"):
                yield int(name)


class Untouched:
    """Chunks that must not be read."""

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the chunks were read")


def plain(files: Iterable[bytes]) -> Iterator[tuple[list[bytes], tuple[Digest, ...]]]:
    """Files in one chunk each, without digests."""
    return (([data], ()) for data in files)


def names(store: Store) -> set[Digest]:
    """The blobs of a store."""
    return {blob.digest for blob in store.iterate()}


def added(outcomes: Sequence[Outcome]) -> list[Added | type[WSGIStoreError]]:
    """What became of each file."""
    return [outcome.added if isinstance(outcome, Receipt) else type(outcome) for outcome in outcomes]


def then(data: bytes, action: Callable[[], object]) -> Iterator[bytes]:
    """A file that does something after its bytes were read."""
    yield data
    action()


@given(files=st.lists(st.binary(max_size=3), max_size=8))
def test_files_as_if_one_by_one(store: Store, staging: Staging, files: list[bytes]) -> None:
    """Each file has the outcome that it has alone, also one that is equal to an earlier one."""
    outcomes = staging.receive_all(plain(files))
    for number, (data, outcome) in enumerate(zip(files, outcomes, strict=True)):
        assert isinstance(outcome, Receipt)
        digest = digest_of(Algorithm.MD5, data)
        assert outcome == Receipt(digest, len(data), outcome.added, (digest,))
        assert outcome.created is (data not in files[:number])
        assert content(store, digest) == data
    assert names(store) == {digest_of(Algorithm.MD5, data) for data in files}
    for digest in names(store):
        store.remove(digest)


def test_more_files_than_wait_at_once(
    store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many files are published in several batches, the others before the chunks of the next one are read."""
    monkeypatch.setattr(batch, "FILES", 3)
    seen: list[int] = []

    def files() -> Iterator[tuple[Iterator[bytes], tuple[Digest, ...]]]:
        for number in range(8):
            yield then(b"%d" % number, lambda: seen.append(len(names(store)))), ()

    assert added(staging.receive_all(files())) == [Added.CREATED] * 8
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6]
    assert len(names(store)) == 8


def test_more_bytes_than_wait_at_once(
    store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are published when together they have many bytes."""
    monkeypatch.setattr(batch, "BYTES", 10)
    seen: list[int] = []
    files = [(then(b"%05d" % number, lambda: seen.append(len(names(store)))), ()) for number in range(5)]
    assert added(staging.receive_all(files)) == [Added.CREATED] * 5
    assert seen == [0, 0, 2, 2, 4]


def test_a_file_alone_waits_for_the_end(
    store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large it is, a file that is followed by a failure and by no other file is not published."""
    monkeypatch.setattr(batch, "BYTES", 10)

    def files() -> Iterator[tuple[list[bytes], tuple[Digest, ...]]]:
        yield [bytes(100)], ()
        raise BadRequest("what follows is broken")

    with pytest.raises(BadRequest, match="what follows is broken"):
        staging.receive_all(files())
    assert not names(store)


@pytest.mark.parametrize(
    "failure",
    [BadRequest("broken"), TooLarge(limit=1), StoreUnavailable("theirs"), DigestMismatch(), KeyError()],
    ids=lambda failure: type(failure).__name__,
)
@pytest.mark.parametrize("where", ["files", "chunks"])
def test_a_failure_of_the_source(store: Store, staging: Staging, failure: Exception, where: str) -> None:
    """What the files or their chunks raise is raised, whatever it is, and nothing is stored."""

    def fail() -> None:
        raise failure

    def files() -> Iterator[tuple[Iterable[bytes], tuple[Digest, ...]]]:
        yield [b"one"], ()
        yield [b"two"], ()
        if where == "chunks":
            yield then(b"three", fail), ()
        fail()

    with pytest.raises(type(failure)) as caught:
        staging.receive_all(files())
    assert caught.value is failure
    assert not names(store)


def test_files_that_are_refused(store: Store, staging: Staging) -> None:
    """A file that is too large or has another digest is refused, and the others are stored."""
    wrong = digest_of(Algorithm.SHA256, b"others")
    right = digest_of(Algorithm.SHA256, b"mismatch")
    two = (wrong, right)
    files: list[tuple[Iterable[bytes], tuple[Digest, ...]]] = [
        ([b"first"], ()),
        ([b"too", b" large"], ()),
        ([b"mismatch"], (wrong,)),
        (Untouched(), two),
        ([b"mismatch"], (right,)),
        ([b"last"], ()),
    ]
    outcomes = staging.receive_all(files, max_size=8)
    created = Added.CREATED
    refused = [TooLarge, DigestMismatch, DigestMismatch]
    assert added(outcomes) == [created, *refused, created, created]
    assert [outcome.evidence for outcome in outcomes if isinstance(outcome, TooLarge)] == [{"limit": 8}]
    assert isinstance(outcomes[2], DigestMismatch)
    assert outcomes[2].evidence == {"expected": str(wrong), "actual": str(right)}
    assert names(store) == {digest_of(Algorithm.MD5, one) for one in (b"first", b"mismatch", b"last")}


def test_the_rest_of_a_refused_file_is_not_read(staging: Staging) -> None:
    """Of a file that is refused no more is read, and its chunks can still be read by others."""
    chunks = iter([b"12", b"34", b"56", b"78"])
    files = [(chunks, ())]
    assert added(staging.receive_all(files, max_size=3)) == [TooLarge]
    assert list(chunks) == [b"56", b"78"]

    def generated() -> Iterator[bytes]:
        yield from [b"12", b"34", b"56", b"78"]

    generator = generated()
    assert added(staging.receive_all([(generator, ())], max_size=3)) == [TooLarge]
    assert list(generator) == [b"56", b"78"]


def test_two_files_with_one_digest(store: Store, staging: Staging) -> None:
    """A different file with a digest that is taken is refused, and the others are stored."""
    outcomes = staging.receive_all(plain([COLLIDING[0], COLLIDING[1], b"another", COLLIDING[0]]))
    assert added(outcomes) == [Added.CREATED, DigestCollision, Added.CREATED, Added.HELD]
    assert content(store, digest_of(Algorithm.MD5, COLLIDING[1])) == COLLIDING[0]
    assert len(names(store)) == 2


def test_a_collision_does_not_end_it(store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a collision in a batch, files of the next one are received."""
    monkeypatch.setattr(batch, "FILES", 2)
    outcomes = staging.receive_all(plain([*COLLIDING, b"another"]))
    assert added(outcomes) == [Added.CREATED, DigestCollision, Added.CREATED]
    assert len(names(store)) == 2


def test_a_full_disk(store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that has no room is refused, those before it are stored, none behind it is taken."""
    real = os.write

    def write(fd: int, data: bytes) -> int:
        if bytes(data).startswith(b"full"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    files = iter([b"one", b"two", b"full", b"three", b"four"])
    assert added(staging.receive_all(plain(files))) == [Added.CREATED, Added.CREATED, StorageFull]
    assert list(files) == [b"three", b"four"]
    assert len(names(store)) == 2


def test_a_full_disk_before_the_next_batch(
    store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a batch cannot be published, the next file is not received, and has the same failure."""
    monkeypatch.setattr(batch, "FILES", 2)
    full = StorageFull("no room")
    monkeypatch.setattr(store, "add_all", lambda staged: [full] * len(staged))
    read: list[str] = []
    files = [([b"one"], ()), ([b"two"], ()), (then(b"three", lambda: read.append("three")), ())]
    assert staging.receive_all([*files, *files]) == [full, full, full]
    assert not read
    assert not names(store)


def test_the_space_that_stays_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files together keep the reserve to about a mebibyte."""
    free = 8 * MIB
    real = os.statvfs(store.staging_directory)

    def status(_: object) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 10000, free // 4096, free // 4096, *tuple(real)[5:]))

    staging = Staging(store, min_free=4 * MIB)
    monkeypatch.setattr(os, "statvfs", status)

    def files() -> Iterator[tuple[list[bytes], tuple[Digest, ...]]]:
        nonlocal free
        for number in range(4096):
            free -= 4096  # as any file takes a block
            yield [b"%d" % number], ()

    outcomes = staging.receive_all(files())
    assert added(outcomes[-1:]) == [StorageFull]
    assert 4 * MIB - 2 * MIB <= free <= 4 * MIB
    assert len(names(store)) == len(outcomes) - 1


def test_a_read_only_store(tmp_path: Path) -> None:
    """A read-only store refuses the first file, and none is taken behind it."""
    LocalStore(str(tmp_path / "store"), Algorithm.SHA256, create=True)
    staging = Staging(LocalReplica(str(tmp_path / "store"), Algorithm.SHA256))
    files = iter([b"one", b"two"])
    assert added(staging.receive_all(plain(files))) == [ReadOnly]
    assert list(files) == [b"two"]
