"""The hashes of pieces: what they are, and how a store on a disk keeps them."""

import errno
import hashlib
import os
import threading
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.kinds import LocalKind, digest_of, put
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, Busy, ReadOnly, StoreUnavailable, Unsupported
from wsgi_store.store import pieces as of_pieces
from wsgi_store.store.disk import pieces as keeping
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.open import open_store
from wsgi_store.store.pieces import LENGTH, MOST, PieceHasher, PieceHashes, length_for
from wsgi_store.upkeep.collect import Kind, collect
from wsgi_store.upkeep.verify import verify

KIND = LocalKind(nameless=True)
DATA = bytes(range(256)) * 8192 + b"and the last piece"
PIECES = [hashlib.sha256(DATA[start : start + LENGTH]).digest() for start in range(0, len(DATA), LENGTH)]
SHA256, MD5 = Algorithm.SHA256, Algorithm.MD5


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    """The directory of a store."""
    return tmp_path / "store"


@pytest.fixture(name="store")
def fixture_store(root: Path) -> LocalStore:
    """A store with a blob of three pieces."""
    store = LocalStore(str(root), SHA256, create=True)
    put(KIND.staging(store), DATA)
    return store


def name(data: bytes = DATA, algorithm: Algorithm = SHA256) -> Digest:
    """The name of a blob."""
    return digest_of(algorithm, data)


def records(root: Path) -> list[Path]:
    """What is kept."""
    return [path for path in root.glob(".pieces/*/*") if path.is_file()]


@given(st.binary(max_size=100), st.lists(st.integers(0, 40)), st.integers(1, 16))
def test_any_cuts(data: bytes, cuts: list[int], length: int) -> None:
    """However the bytes arrive, the hashes are those of the pieces; a record is read as it was written."""
    with mock.patch.object(of_pieces, "LENGTH", length), mock.patch.object(of_pieces, "MOST", 4):
        hasher, rest = PieceHasher(len(data)), data
        for cut in cuts:
            hasher.update(rest[:cut])
            rest = rest[cut:]
        hasher.update(rest)
        found = hasher.finish()
        assert len(list(found)) <= 4 and found.length % length == 0
        starts = range(0, len(data), found.length)
        assert list(found) == [hashlib.sha256(data[at : at + found.length]).digest() for at in starts]
        assert PieceHashes.from_bytes(found.to_bytes(), len(data)) == found


@given(st.binary(max_size=300) | st.builds(lambda size: PieceHasher(size).finish().to_bytes(), st.just(0)))
def test_any_record(data: bytes) -> None:
    """What is not a record of this blob is refused."""
    with pytest.raises(ValueError):
        PieceHashes.from_bytes(data, 3 * LENGTH)


def test_of_huge_blobs_the_pieces_are_longer() -> None:
    """However large a blob is, it has a bounded number of pieces."""
    assert length_for(LENGTH * MOST) == LENGTH
    assert length_for(LENGTH * MOST + 1) == 2 * LENGTH
    assert (1 << 60) // length_for(1 << 60) <= MOST


def test_kept(root: Path, store: LocalStore) -> None:
    """The second request reads no blob, also after a restart; readers of the store see nothing new."""
    assert list(store.pieces(name())) == PIECES
    (record,) = records(root)
    assert record.name == name().hex and record.stat().st_mode & 0o777 == 0o644
    with mock.patch.object(keeping, "hashed", side_effect=AssertionError):
        assert list(store.pieces(name())) == PIECES
        assert list(LocalStore(str(root), SHA256).pieces(name())) == PIECES
    assert [blob.digest for blob in store.iterate()] == [name()]
    assert not os.listdir(store.staging_directory)


def test_a_small_blob(root: Path, store: LocalStore) -> None:
    """Of a blob that is one piece nothing is kept."""
    for data in (b"", b"one", bytes(LENGTH)):
        put(KIND.staging(store), data)
        assert list(store.pieces(name(data))) == ([hashlib.sha256(data).digest()] if data else [])
    assert not records(root)


def test_an_absent_blob(store: LocalStore) -> None:
    """A blob that is not there has no pieces."""
    with pytest.raises(BlobNotFound):
        store.pieces(name(b"never"))


def test_a_damaged_blob(root: Path, store: LocalStore) -> None:
    """Of bytes that do not have their name nothing is told or kept."""
    KIND.damage(root, name(), DATA[:-1] + b"!")
    with pytest.raises(StoreUnavailable, match="damaged"):
        store.pieces(name())
    assert not records(root)


@pytest.mark.parametrize("damage", [b"", b"x" * 200, None], ids=["empty", "other bytes", "one bit"])
def test_a_damaged_record(root: Path, store: LocalStore, damage: bytes | None) -> None:
    """A record that is damaged is made again."""
    store.pieces(name())
    (record,) = records(root)
    good = record.read_bytes()
    record.write_bytes(bytes([good[0] ^ 1]) + good[1:] if damage is None else damage)
    assert list(store.pieces(name())) == PIECES
    assert record.read_bytes() == good


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_more(root: Path, store: LocalStore, code: int) -> None:
    """Where nothing can be kept, the answer comes all the same, and nothing is left."""
    with mock.patch.object(keeping, "write_all", side_effect=OSError(code, "")):
        assert list(store.pieces(name())) == PIECES
    assert not records(root) and not os.listdir(store.staging_directory)


def test_a_store_that_is_only_read(root: Path, store: LocalStore) -> None:
    """A read-only store tells the pieces and writes nothing."""
    replica = open_store(str(root), SHA256, read_only=True)
    assert isinstance(replica, LocalStore) and list(replica.pieces(name())) == PIECES
    assert not (root / ".pieces").exists()
    with pytest.raises(ReadOnly):
        replica.keep_pieces(replica.stat(name()), None, store.pieces(name()))
    with pytest.raises(Unsupported):
        verify(replica, pieces=True)


def test_requests_at_once(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of several requests reads the blob; the others wait for it, or are told to come back."""
    monkeypatch.setattr(keeping, "PATIENCE", 0.1)
    begun, go = threading.Event(), threading.Event()
    real, reads = keeping.hashed, []

    def slowly(reader: keeping.LocalReader) -> PieceHashes:
        reads.append(reader)
        begun.set()
        assert go.wait(30)
        return real(reader)

    monkeypatch.setattr(keeping, "hashed", slowly)
    answers: list[list[bytes]] = []
    first = threading.Thread(target=lambda: answers.append(list(store.pieces(name()))))
    first.start()
    assert begun.wait(30)
    with pytest.raises(Busy):
        store.pieces(name())
    monkeypatch.setattr(keeping, "PATIENCE", 30)
    second = threading.Thread(target=lambda: answers.append(list(store.pieces(name()))))
    second.start()
    go.set()
    for thread in (first, second):
        thread.join()
    assert answers == [PIECES, PIECES] and len(reads) == 1


def gone(store: LocalStore) -> list[int]:
    """The sizes of the records that a collection removes."""
    return [one.size for one in collect(store) if one.kind is Kind.PIECES]


def test_swept_with_the_blob(root: Path, store: LocalStore) -> None:
    """What is kept goes with the next collection after the blob."""
    store.pieces(name())
    (record,) = records(root)
    size = record.stat().st_size
    (root / ".pieces" / "README").write_bytes(b"a note of a person")
    assert not gone(store)
    store.remove(name())
    assert [one.kind for one in collect(store, dry_run=True)] == [Kind.PIECES]
    assert gone(store) == [size] and not records(root)


def damaged(root: Path, store: LocalStore) -> None:
    """Move the blob to quarantine."""
    KIND.damage(root, name(algorithm=MD5), b"x")
    assert store.quarantine(name(algorithm=MD5))


@pytest.mark.parametrize(
    "removed",
    [
        lambda root, store: store.remove(name(algorithm=MD5)),
        lambda root, store: store.expire(name(algorithm=MD5), store.stat(name(algorithm=MD5)).modified),
        damaged,
    ],
    ids=["removed", "expired", "in quarantine"],
)
def test_names_that_may_come_back(root: Path, removed: object) -> None:
    """Another file may get the same md5 later, so nothing is kept for a blob that is gone."""
    assert callable(removed)
    store = LocalStore(str(root), MD5, create=True)
    put(KIND.staging(store), DATA)
    store.pieces(name(algorithm=MD5))
    assert records(root)
    removed(root, store)
    assert not records(root)


def test_a_blob_that_goes_meanwhile(root: Path) -> None:
    """Nothing is kept under an md5 whose blob was replaced while it was read."""
    store = LocalStore(str(root), MD5, create=True)
    put(KIND.staging(store), DATA)
    digest = name(algorithm=MD5)
    with closing(store.open(digest)) as reader:
        stamp, blob = reader.stamp, reader.blob
    found = store.pieces(digest)
    store.remove(digest)
    put(KIND.staging(store), DATA)
    store.keep_pieces(blob, stamp, found)
    assert not records(root)


def test_by_any_name(root: Path) -> None:
    """A further name leads to the same record."""
    store = LocalStore(str(root), SHA256, names=[MD5], create=True)
    put(KIND.staging(store), DATA)
    assert list(store.pieces(name(algorithm=MD5))) == PIECES
    assert [record.name for record in records(root)] == [name().hex]
    assert not gone(store)


def test_made_by_verify(root: Path, store: LocalStore) -> None:
    """`verify` makes what is missing, for large and good blobs alone, in one go through the bytes."""
    for number in range(3):
        put(KIND.staging(store), DATA + bytes([number]))
        put(KIND.staging(store), bytes([number]))
    bad = DATA + bytes([1])
    KIND.damage(root, name(bad), b"x" * len(bad))
    *_, report = verify(store, pieces=True)
    assert report.corrupt == [name(bad)]
    large = [DATA, DATA + bytes([0]), DATA + bytes([2])]
    assert {record.name for record in records(root)} == {name(data).hex for data in large}
    with mock.patch.object(keeping, "hashed", side_effect=AssertionError):
        assert list(store.pieces(name())) == PIECES
    before = [record.stat().st_ino for record in records(root)]
    *_, report = verify(store, pieces=True)
    assert [record.stat().st_ino for record in records(root)] == before
