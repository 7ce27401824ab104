"""Others change a blob between two steps of a run: it reports no finding, and loses nothing."""

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.crossing import crossed
from tests.support.kinds import digest_of, put
from tests.support.upkeep import flip, last, named
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added, Durability
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.testing.helpers import content
from wsgi_store.upkeep.collect import Collected, Kind, collect
from wsgi_store.upkeep.report import Result
from wsgi_store.upkeep.verify import verify

MD5, SHA256 = Algorithm.MD5, Algorithm.SHA256
NUMBER = 10
CONTENTS = [b"%d" % number * 100 for number in range(NUMBER)]
DATA = b"some bytes"


@pytest.fixture(name="store")
def fixture_store(root: Path) -> LocalStore:
    """A store with sha256 and md5 names."""
    store = LocalStore(str(root), SHA256, Durability.NONE, names=[MD5])
    for data in CONTENTS:
        put(Staging(store, durability=Durability.NONE), data)
        os.utime(root / named(SHA256, data), (1e9, 1e9))
    return store


def changing(store: LocalStore) -> Callable[[int, int], bool]:
    """Matches the lock that a write takes before it begins."""
    return lambda fd, _: os.readlink(f"/proc/self/fd/{fd}") == store.staging_directory


def adopting(name: Path) -> Callable[[int, int], bool]:
    """Matches the lock under which a file gets its primary name."""
    shard = str(name.parent)
    return lambda fd, operation: operation == fcntl.LOCK_EX and os.readlink(f"/proc/self/fd/{fd}") == shard


def heal(store: LocalStore, data: bytes = DATA) -> Added:
    """Upload these bytes from another process."""
    other = LocalStore(store.root, None, Durability.NONE)
    return put(Staging(other, durability=Durability.NONE), data).added


def test_a_damaged_blob_is_removed_before_it_is_moved(store: LocalStore, root: Path) -> None:
    """A blob that is gone when it is to be moved to quarantine is gone, not corrupt."""
    flip(root / named(SHA256, CONTENTS[3]))
    bad = digest_of(SHA256, CONTENTS[3])
    with crossed(fcntl, "flock", changing(store), lambda: LocalStore(store.root, None).remove(bad)):
        report = last(verify(store, workers=1))
    assert (report.result, report.gone, report.checked_blobs) == (Result.CLEAN, 1, NUMBER - 1)
    assert not list(store.quarantined())


def test_a_damaged_blob_is_healed_before_it_is_moved(store: LocalStore, root: Path) -> None:
    """A blob that an upload has replaced since it was read stays, and is not corrupt."""
    path = root / named(SHA256, CONTENTS[3])
    path.chmod(0o644)
    path.write_bytes(b"cut")
    with crossed(fcntl, "flock", changing(store), lambda: heal(store, CONTENTS[3])) as seen:
        report = last(verify(store, workers=1))
    assert seen
    assert (report.result, report.gone) == (Result.CLEAN, 0)
    assert not list(store.quarantined())
    for algorithm in (SHA256, MD5):
        assert content(store, digest_of(algorithm, CONTENTS[3])) == CONTENTS[3]
    assert last(verify(store)).checked_blobs == NUMBER


def copy(root: Path, data: bytes) -> Path:
    """Copy a file under its md5 name, as `cp` and rsync do."""
    path = root / named(MD5, data)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_copied_file_is_named_by_another(store: LocalStore, root: Path) -> None:
    """A file that an upload gives its primary name first is counted once, and has both names."""
    path = copy(root, DATA)
    with crossed(fcntl, "flock", adopting(path), lambda: heal(store)) as seen:
        report = last(verify(store, workers=1))
    assert seen
    assert (report.result, report.adopted, report.others) == (Result.CLEAN, 0, 1)
    for algorithm in (SHA256, MD5):
        assert content(store, digest_of(algorithm, DATA)) == DATA
    assert last(verify(store)).checked_blobs == NUMBER + 1


def test_a_copied_file_is_removed(store: LocalStore, root: Path) -> None:
    """A file that is gone when it is to be named is gone, and gets no name."""
    path = copy(root, DATA)
    with crossed(fcntl, "flock", adopting(path), path.unlink) as seen:
        report = last(verify(store, workers=1))
    assert seen
    assert (report.result, report.adopted, report.gone) == (Result.CLEAN, 0, 1)
    with pytest.raises(BlobNotFound):
        store.stat(digest_of(SHA256, DATA))


def test_something_else_in_the_place_of_a_name(store: LocalStore, root: Path) -> None:
    """One blob that cannot be named is reported; the others of its batch get the names that they lack."""
    names = [root / named(MD5, data) for data in CONTENTS]
    for name in names:
        name.unlink()
    names[4].mkdir()
    report = last(verify(store, workers=1))
    assert report.result is Result.INCOMPLETE
    assert [one.hex for one in report.unreadable] == [digest_of(SHA256, CONTENTS[4]).hex]
    assert report.checked_blobs == NUMBER - 1
    assert [name for name in names if not name.is_symlink()] == [names[4]]


def test_a_blob_is_healed_before_its_damaged_file_is_discarded(store: LocalStore, root: Path) -> None:
    """A file in quarantine that an upload has replaced meanwhile is not counted as collected."""
    for data in CONTENTS[:2]:
        flip(root / named(SHA256, data))
    assert len(last(verify(store)).corrupt) == 2
    first, second = store.quarantined()
    healed = next(data for data in CONTENTS if digest_of(SHA256, data) == first.digest)
    name = first.digest.hex
    with crossed(os, "unlink", lambda path, *_: path == name, lambda: heal(store, healed)) as seen:
        gone = list(collect(store, quarantined_older=-1.0))
    assert seen
    assert [one for one in gone if one.kind is Kind.QUARANTINED] == [
        Collected(Kind.QUARANTINED, second.size, second.digest)
    ]
    assert content(store, first.digest) == healed
    assert not list(store.quarantined())


@pytest.mark.parametrize("calls", [["open"], ["open", "stat"]], ids=str)
def test_the_names_of_a_blob_that_cannot_be_read(store: LocalStore, root: Path, calls: list[str]) -> None:
    """A run that could not read a blob does not know what its names should be, and removes none."""
    name = digest_of(SHA256, CONTENTS[5]).hex

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with ExitStack() as stack:
        for call in calls:
            stack.enter_context(crossed(os, call, lambda path, *_: path == name, fail, times=1000))
        report = last(verify(store, workers=1))
    assert (report.result, report.misnamed) == (Result.INCOMPLETE, {})
    assert [one.hex for one in report.unreadable] == [name]
    assert (root / named(MD5, CONTENTS[5])).is_symlink()
    assert last(verify(store)).result is Result.CLEAN
