"""Upkeep of a store whose blobs have several names: each blob is seen once, and its names are mended."""

import hashlib
import os
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.kinds import put
from tests.support.upkeep import fill, flip, last, named
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, ConfigError
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.open import open_store
from wsgi_store.upkeep import seen as seeing
from wsgi_store.upkeep.collect import Collected, Kind, collect
from wsgi_store.upkeep.ledger import Ledger
from wsgi_store.upkeep.migrate import Limits, migrate
from wsgi_store.upkeep.plan import Tuning
from wsgi_store.upkeep.report import Report, Result
from wsgi_store.upkeep.run import Effort
from wsgi_store.upkeep.usage import manifest, usage
from wsgi_store.upkeep.verify import verify

NUMBER = 30
CONTENTS = [b"%d" % number * number for number in range(NUMBER)]
SHA256, MD5 = Algorithm.SHA256, Algorithm.MD5


@pytest.fixture(name="store")
def fixture_store(root: Path) -> LocalStore:
    """A store with sha256 and md5 names, with blobs that are not new."""
    store = LocalStore(str(root), SHA256, Durability.NONE, names=[MD5], create=True)
    for data in CONTENTS:
        put(Staging(store, durability=Durability.NONE), data)
        os.utime(root / named(SHA256, data), (1e9, 1e9))
    return store


def lead(root: Path, name: bytes, to: bytes) -> Path:
    """Make the md5 name of some bytes lead to the blob of others; returns its path."""
    link = root / named(MD5, name)
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(f"../{named(SHA256, to)}")
    return link


def right(root: Path, contents: list[bytes]) -> None:
    """Check that the store has just these blobs, under both their names."""
    files = {path for path in root.glob("??/*") if not path.is_symlink()}
    links = {path for path in root.glob("??/*") if path.is_symlink()}
    assert files == {root / named(SHA256, data) for data in contents}
    assert links == {root / named(MD5, data) for data in contents}
    for data in contents:
        assert os.readlink(root / named(MD5, data)) == f"../{named(SHA256, data)}"


@pytest.mark.parametrize("way", [{}, {"processes_from": 1, "batch_blobs": 7}], ids=["threads", "processes"])
def test_a_good_store(store: LocalStore, root: Path, way: dict[str, int]) -> None:
    """A store with names is clean, and each blob is read once."""
    report = last(verify(store, workers=2, tuning=Tuning(**way)))
    assert (report.result, report.checked_blobs, report.total_blobs) == (Result.CLEAN, NUMBER, NUMBER)
    assert report.named == NUMBER
    right(root, CONTENTS)


def test_a_missing_name(store: LocalStore, root: Path) -> None:
    """A blob gets a name that it lacks."""
    (root / named(MD5, CONTENTS[3])).unlink()
    assert last(verify(store)).result is Result.CLEAN
    right(root, CONTENTS)


def test_a_file_under_a_further_name(store: LocalStore, root: Path) -> None:
    """A file that was copied under a further name gets its primary name; a damaged one goes to quarantine."""
    for data in (b"good", b"bad"):
        path = root / named(MD5, data)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    bad = flip(root / named(MD5, b"bad"))
    report = last(verify(store))
    assert (report.result, report.adopted) == (Result.CORRUPT, 1)
    assert [one.hex for one in report.corrupt] == [bad]
    assert report.total_blobs == NUMBER + 2
    right(root, [*CONTENTS, b"good"])


def test_a_name_that_leads_nowhere(store: LocalStore, root: Path) -> None:
    """A name of no blob is no finding; collect sweeps it."""
    lead(root, b"gone", b"gone")
    (root / named(SHA256, CONTENTS[4])).unlink()
    report = last(verify(store))
    assert (report.result, report.misnamed) == (Result.CLEAN, {})
    swept = {one.name for one in collect(store, dry_run=True)}
    assert swept == {Path(named(MD5, data)).name for data in (b"gone", CONTENTS[4])}
    assert (root / named(MD5, b"gone")).is_symlink()
    assert {one.name for one in collect(store)} == swept
    right(root, [data for data in CONTENTS if data != CONTENTS[4]])


def test_a_name_of_another_blob(store: LocalStore, root: Path) -> None:
    """A name that leads to the wrong blob is reported, and leads to the right one afterwards."""
    wrong = lead(root, CONTENTS[5], CONTENTS[6])
    report = last(verify(store))
    assert (report.result, [one.hex for one in report.misnamed]) == (Result.CORRUPT, [wrong.name])
    assert not report.corrupt
    right(root, CONTENTS)
    assert last(verify(store)).result is Result.CLEAN


@pytest.mark.parametrize("way", [{}, {"processes_from": 1, "batch_blobs": 7}], ids=["threads", "processes"])
def test_a_name_of_no_blob_that_leads_to_one(store: LocalStore, root: Path, way: dict[str, int]) -> None:
    """A name whose own blob the store has not is removed if it leads to another."""
    wrong = lead(root, b"not stored", CONTENTS[6])
    report = last(verify(store, workers=2, tuning=Tuning(**way)))
    assert (report.result, [one.hex for one in report.misnamed]) == (Result.CORRUPT, [wrong.name])
    right(root, CONTENTS)
    with pytest.raises(BlobNotFound):
        store.stat(MD5.parse(wrong.name))


def test_only_a_whole_run_finds_such_names(store: LocalStore, root: Path) -> None:
    """A run with a budget or of a sample checks that names are there, and leaves others alone."""
    wrong = lead(root, b"not stored", CONTENTS[6])
    assert last(verify(store, budget=1 << 20)).result is Result.CLEAN
    assert last(verify(store, sample=1.0)).result is Result.CLEAN
    assert wrong.is_symlink()


def test_changes_during_a_run(store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads and deletions meanwhile are no findings, and few blobs are read again because of them."""
    read: list[Digest] = []
    real = seeing.Sums.doubtful

    def doubtful(self: seeing.Sums, *given: object) -> object:
        put(Staging(store, durability=Durability.NONE), b"uploaded")
        store.remove(Digest(MD5, hashlib.md5(CONTENTS[8]).digest()))
        store.remove(Digest(SHA256, hashlib.sha256(CONTENTS[9]).digest()))
        put(Staging(store, durability=Durability.NONE), CONTENTS[10])
        for pair in real(self, *given):  # type: ignore[arg-type]
            read.extend(pair[:1] if pair else ())
            yield pair

    monkeypatch.setattr(seeing.Sums, "doubtful", doubtful)
    report = last(verify(store))
    assert (report.result, report.misnamed) == (Result.CLEAN, {})
    assert not read
    list(collect(store))
    right(root, [*(data for number, data in enumerate(CONTENTS) if number not in (8, 9)), b"uploaded"])


def test_names_that_cannot_be_made(store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are verified even if names cannot be mended; the report says why."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    bad = flip(root / named(SHA256, CONTENTS[7]))
    (root / named(MD5, CONTENTS[3])).unlink()
    monkeypatch.setattr(os, "symlink", fail)
    report = last(verify(store, workers=1))
    assert report.failure is not None and "No space left" in report.failure.message
    assert [one.hex for one in report.corrupt] == [bad]
    assert report.checked_blobs == NUMBER


def test_a_copy_that_is_only_read(store: LocalStore, root: Path) -> None:
    """A store that is only read is verified, and stays as it is."""
    wrong = lead(root, b"not stored", CONTENTS[6])
    path = root / named(MD5, b"copied")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"copied")
    report = last(verify(open_store(store.root, read_only=True)))
    assert (report.result, report.checked_blobs, report.adopted) == (Result.CLEAN, NUMBER + 1, 0)
    assert wrong.is_symlink() and not path.is_symlink()


@pytest.fixture(name="half")
def fixture_half(root: Path) -> Store:
    """A store that is being migrated from md5 to sha256, with half of its blobs done."""
    fill(root, MD5, CONTENTS)
    store = open_store(str(root), None, Durability.NONE)
    for data in CONTENTS:
        os.utime(root / named(MD5, data), (1e9, 1e9))
    last(
        migrate(
            store, SHA256, Limits(sum(map(len, CONTENTS)) // 2, effort=Effort(tuning=Tuning(batch_blobs=2)))
        )
    )
    return store


def test_during_a_migration(half: Store, root: Path) -> None:
    """Each blob is counted, listed and verified once, by its old or its new name."""
    strays = [path.name for path in root.glob("??/*") if path.is_file() and len(path.name) == 32]
    links = [name for name in strays if (root / name[:2] / name).is_symlink()]
    used = usage(half)
    assert (used.blobs, used.bytes, used.names) == (NUMBER, sum(map(len, CONTENTS)), len(links))
    assert 0 < used.names < NUMBER
    listed = [*manifest(half, MD5)]
    assert [line[:32] for line in listed] == sorted(hashlib.md5(data).hexdigest() for data in CONTENTS)
    assert len([*manifest(half)]) == used.names
    report = last(verify(half))
    assert (report.result, report.checked_blobs, report.total_blobs) == (Result.CLEAN, NUMBER, NUMBER)
    assert report.adopted == NUMBER - used.names
    right(root, CONTENTS)
    assert Ledger.load(half).oldest > 1e9


def test_collecting_during_a_migration(half: Store, root: Path) -> None:
    """Old blobs are removed by whatever name they have, and their other names with them."""
    removed = [*collect(half, max_bytes=sum(map(len, CONTENTS)) // 2)]
    kept = usage(half)
    assert kept.bytes <= sum(map(len, CONTENTS)) // 2
    assert kept.blobs + sum(one.kind is Kind.BLOB for one in removed) == NUMBER
    assert {one.digest.algorithm for one in removed if one.digest} == {SHA256, MD5}
    assert sum(one.kind is Kind.BLOB for one in collect(half, older=3600)) == kept.blobs
    assert not [*root.glob("??/*")]
    assert half.refresh() == (SHA256, MD5)


def test_usage_and_manifest(store: LocalStore, root: Path) -> None:
    """Names are counted with what they take of the disk, and checked by the programs of their algorithms."""
    used = usage(store)
    assert (used.blobs, used.names) == (NUMBER, NUMBER)
    taken = sum(path.lstat().st_blocks * 512 for path in root.glob("??/*") if path.is_symlink())
    assert used.names_bytes == taken
    for algorithm in (None, MD5):
        lines = "".join(f"{line}\n" for line in manifest(store, algorithm))
        program = "md5sum" if algorithm else "sha256sum"
        subprocess.run([program, "-c", "--strict", "--quiet"], cwd=root, input=lines.encode(), check=True)
        assert lines.count("\n") == NUMBER
    with pytest.raises(ConfigError, match="has no sha1 names, but sha256, md5"):
        list(manifest(store, Algorithm.SHA1))


def test_names_of_a_dropped_algorithm(store: LocalStore, root: Path) -> None:
    """Collect removes the names of an algorithm that the store keeps no more, and nothing else."""
    sha1 = root / named(Algorithm.SHA1, CONTENTS[2])
    sha1.parent.mkdir(exist_ok=True)
    sha1.symlink_to(f"../{named(SHA256, CONTENTS[2])}")
    foreign = root / named(MD5, b"foreign")
    foreign.parent.mkdir(exist_ok=True)
    foreign.symlink_to("/etc/hostname")
    assert [*collect(store)] == [Collected(Kind.NAME, 0, name=sha1.name)]
    assert foreign.is_symlink()


def test_the_oldest_verification(store: LocalStore) -> None:
    """The ledger counts names as nothing: one run verifies the whole store."""
    began = time.time()
    report = last(verify(store))
    assert isinstance(report, Report) and report.oldest is not None and report.oldest >= began
    assert Ledger.load(store).oldest >= began
    with closing(store.open(Digest(MD5, hashlib.md5(CONTENTS[1]).digest()))) as reader:
        assert reader.read() == CONTENTS[1]
