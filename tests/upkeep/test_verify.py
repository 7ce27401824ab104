"""Verifying a store: its findings, its records, and that it can be stopped at any time."""

import errno
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.kinds import KINDS, BucketKind, Kind, put
from tests.support.upkeep import NUMBER, digests, filled, last
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added, BlobReader, Durability, Store
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.upkeep import check as checking
from wsgi_store.upkeep import workers as working
from wsgi_store.upkeep.ledger import Ledger
from wsgi_store.upkeep.plan import Batch, Tuning
from wsgi_store.upkeep.report import BatchReport, Report, Result
from wsgi_store.upkeep.verify import verify

pytestmark = pytest.mark.long(55)


@pytest.fixture(name="kind", params=[KINDS[0], BucketKind()], ids=str)
def fixture_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of store in turn."""
    kind: Kind = request.param
    return kind


@pytest.fixture(name="store")
def fixture_store(kind: Kind, root: Path) -> Store:
    """A store with some blobs, the first of them empty."""
    return filled(kind.open(root, Algorithm.MD5, Durability.NONE))


@pytest.fixture(name="way", params=["threads", "processes"])
def fixture_way(request: pytest.FixtureRequest) -> dict[str, int]:
    """Check blobs in threads, then in processes."""
    return {"processes_from": 1} if request.param == "processes" else {}


@pytest.fixture(name="counting", params=["at once", "in advance"])
def fixture_counting(request: pytest.FixtureRequest) -> dict[str, int]:
    """Hand out all blobs while the store is counted, then only the first ones."""
    return {"ahead": 7, "batch_blobs": 3} if request.param == "in advance" else {}


def test_a_good_store(store: Store, way: dict[str, int], counting: dict[str, int]) -> None:
    """All blobs of a good store are counted, and the oldest verification is in this run."""
    began = time.time()
    report = last(verify(store, workers=2, tuning=Tuning(**way, **counting)))
    assert report.result is Result.CLEAN
    assert (report.checked_blobs, report.total_blobs) == (NUMBER, NUMBER)
    assert report.checked_bytes == report.total_bytes == sum(range(NUMBER))
    assert report.oldest is not None and began <= report.oldest <= time.time()
    assert not os.listdir(store.staging_directory)


def test_an_empty_store(tmp_path: Path) -> None:
    """An empty store is clean, with no blobs and no oldest verification."""
    report = last(verify(LocalStore(str(tmp_path), Algorithm.MD5)))
    assert (report.result, report.checked_blobs, report.total_blobs) == (Result.CLEAN, 0, 0)
    assert report.oldest is None


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("damaged", [b"", b"x" * 9 + b"y", b"x" * 11], ids=["cut", "flipped", "longer"])
def test_a_damaged_blob(kind: Kind, store: Store, root: Path, damaged: bytes) -> None:
    """A damaged blob is found and moved to quarantine, and the next upload restores it."""
    digest = put(Staging(store), b"x" * 10).digest
    kind.damage(root, digest, damaged)
    report = last(verify(store, workers=2))
    assert (report.result, report.corrupt, report.unmoved) == (Result.CORRUPT, [digest], {})
    assert report.checked_blobs == NUMBER
    with pytest.raises(BlobNotFound):
        store.stat(digest)
    assert put(Staging(store), b"x" * 10).added is Added.HEALED
    assert last(verify(store)).result is Result.CLEAN


@pytest.mark.parametrize(("named", "reason"), [(False, "File exists"), (True, "Is a directory")])
def test_damage_that_cannot_be_moved(local: Store, root: Path, reason: str, *, named: bool) -> None:
    """A damaged blob counts as corrupt even if it cannot be moved to quarantine."""
    digest = digests(local)[3]
    KINDS[0].damage(root, digest, b"others")
    if named:
        (root / ".quarantine" / digest.hex).mkdir(parents=True)
    else:
        (root / ".quarantine").write_bytes(b"")
    report = last(verify(local))
    assert (report.result, report.corrupt) == (Result.CORRUPT, [digest])
    assert report.unmoved == {digest: f"cannot move the blob to quarantine: {reason}"}
    assert digest in digests(local)


@contextmanager
def reading(bad: Digest, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Change the bytes that are read from a blob to be hashed."""
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        length = real(fd, buffers, offset, flags)
        if os.readlink(f"/proc/self/fd/{fd}").endswith(bad.hex):
            buffers[0][:length] = change(bytes(buffers[0][:length]))
        return length

    with mock.patch("os.preadv", preadv):
        yield


def fail(data: bytes) -> bytes:
    """Fail as a bad sector does."""
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(len(data)))


def test_an_unreadable_blob(local: LocalStore) -> None:
    """An unreadable blob is reported and left in place, and the run is not clean."""
    bad = digests(local)[5]
    with reading(bad, fail):
        report = last(verify(local))
    assert report.result is Result.INCOMPLETE
    assert report.unreadable == {bad: "cannot read the blob: Input/output error"}
    assert report.checked_blobs == NUMBER - 1
    assert bad in digests(local)


@pytest.mark.parametrize("asked", [{"budget": 1}, {"sample": 0.001}, {}], ids=str)
def test_an_unreadable_blob_is_not_forgotten(
    local: LocalStore, counting: dict[str, int], asked: dict[str, float]
) -> None:
    """An unreadable blob counts as unverified, and no run is clean until it can be read."""
    tuning = Tuning(**counting)
    bad = digests(local)[5]
    age = time.time() - 1000
    os.utime(Path(local.root, str(local.local_path(bad))), (age, age))
    with reading(bad, fail):
        last(verify(local, tuning=tuning))
        for _ in range(2):
            report = last(verify(local, **asked, tuning=tuning))  # type: ignore[arg-type]
            assert (report.result, list(report.unreadable)) == (Result.INCOMPLETE, [bad])
            assert report.oldest == pytest.approx(age)
            assert (Ledger.load(local).oldest, Ledger.load(local).unreadable) == (0, {bad})
    report = last(verify(local, **asked, tuning=tuning))  # type: ignore[arg-type]
    assert report.result is Result.CLEAN
    assert report.checked_blobs <= report.total_blobs == NUMBER
    assert report.oldest is not None and report.oldest > age + 900
    assert Ledger.load(local).oldest > age + 900


def test_more_unreadable_blobs_than_are_remembered(local: LocalStore) -> None:
    """When too many blobs are unreadable to remember, their parts count as unverified."""
    # In threads, because a process would not see the patch below.
    tuning = Tuning(max_unreadable=3, batch_blobs=2, processes_from=1000)
    with mock.patch("os.preadv", side_effect=OSError(errno.EIO, os.strerror(errno.EIO))):
        assert len(last(verify(local, tuning=tuning)).unreadable) == NUMBER - 1  # the empty one is not read
    known = Ledger.load(local)
    assert len(known.unreadable) == 3
    unverified = [blob for part in known.parts() if not part.time for blob in part.blobs(local)]
    assert len(unverified) >= NUMBER - 8
    assert last(verify(local)).result is Result.CLEAN
    assert not Ledger.load(local).unreadable


def test_a_blob_that_reads_differently(local: LocalStore) -> None:
    """A blob that is read wrong once and right the next time counts as unreadable, not as corrupt."""
    bad = max(local.iterate(), key=lambda blob: blob.size).digest
    with reading(bad, lambda data: b"?" + data[1:]):
        report = last(verify(local))
    assert (report.result, list(report.unreadable)) == (Result.INCOMPLETE, [bad])
    assert bad in digests(local)


def test_blobs_removed_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob removed during a run is not a failure."""
    check = checking.Check.do

    def late(self: checking.Check, batch: Batch, reading: working.Reading) -> BatchReport:
        for raw in batch.raws[::2]:
            store.remove(Digest(store.algorithm, raw))
        return check(self, batch, reading)

    monkeypatch.setattr(checking.Check, "do", late)
    report = last(verify(store))
    assert report.result is Result.CLEAN
    assert report.checked_blobs + report.gone == NUMBER
    assert report.gone >= NUMBER // 2


def test_a_budget(store: Store, counting: dict[str, int]) -> None:
    """Runs with a budget continue where the last one ended, and read every blob once before any twice."""
    seen = 0
    oldest = []
    for _ in range(100):
        report = last(verify(store, budget=200, tuning=Tuning(**counting)))
        assert report.result is Result.CLEAN
        assert 200 <= report.checked_bytes < 200 + NUMBER or seen + report.checked_blobs >= NUMBER
        seen += report.checked_blobs
        assert report.oldest is not None
        oldest.append(report.oldest)
        if seen >= NUMBER:
            break
    assert NUMBER <= seen < 2 * NUMBER
    assert oldest == sorted(oldest)
    assert len(oldest) >= 3


def test_every_night_covers_the_store(
    local: LocalStore, counting: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a budget no blob is read twice before each was read once."""
    read: list[str] = []
    hash_ = working.Reading.hash

    def note(self: working.Reading, reader: BlobReader, *more: Any) -> Any:
        read.append(reader.blob.digest.hex)
        return hash_(self, reader, *more)

    monkeypatch.setattr(working.Reading, "hash", note)
    while len(set(read)) < NUMBER:
        assert len(set(read)) == len(read)
        # The last run spends the rest of its budget on the first blobs again.
        report = last(verify(local, budget=100, tuning=Tuning(**counting)))
        assert report.checked_bytes < 100 + NUMBER


def test_a_sample(store: LocalStore, counting: dict[str, int]) -> None:
    """A sample reads some blobs, reports how many, and marks none as verified."""
    random.seed(1)
    report = last(verify(store, sample=0.5, tuning=Tuning(**counting)))
    assert 5 < report.checked_blobs < 35
    assert (report.result, report.total_blobs) == (Result.CLEAN, NUMBER)
    known = Ledger.load(store)
    assert not any(part.time for part in known.parts())
    assert (known.blobs, known.bytes) == (report.checked_blobs, report.checked_bytes)


@pytest.mark.parametrize("way", ["threads", "fork", "spawn"])
def test_progress_within_a_blob(kind: Kind, root: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a blob count while it is read, each of them once."""
    tuning = Tuning(processes_from=1000 if way == "threads" else 1, batch_bytes=1)
    monkeypatch.setattr(working, "_alone", lambda: way == "fork")
    store = kind.open(root, Algorithm.MD5, Durability.NONE)
    staging = Staging(store, durability=Durability.NONE)
    put(staging, b"a" * 3_000_000)
    kind.damage(root, put(staging, bytes(3_000_000)).digest, b"1" * 3_000_000)
    seen = []
    report = Report()
    for report in verify(store, rate=6_000_000, workers=2, tuning=tuning):
        assert report.checked_bytes + report.reading_bytes <= 6_000_000
        seen.append((report.checked_bytes, report.reading_bytes))
    assert len({reading for read, reading in seen if not read and reading}) >= 2, seen
    assert (seen[-1], len(report.corrupt)) == ((6_000_000, 0), 1)
    assert seen == sorted(seen)


def test_nobody_looks(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do not block when nobody reads their progress."""
    monkeypatch.setattr(working, "REPORT_INTERVAL", 0.0)
    stop = threading.Event()
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with ours, theirs:
        os.set_blocking(theirs.fileno(), False)
        progress = working.Progress(theirs)
        for _ in range(1 << 16):  # eight bytes each: more than a pipe holds
            progress.add(1)
        assert 0 < progress.reported < 1 << 16
        ours.close()
        batch = Batch(local.algorithm, [each.raw for each in digests(local)], "", "")
        checked = working.Worker(checking.Check(local), stop, None, theirs).do(batch)
    assert (checked.blobs, checked.reported) == (NUMBER, 0)


def test_a_rate(store: Store, way: dict[str, int]) -> None:
    """Bytes are read no faster than the rate."""
    begin = time.monotonic()
    assert last(verify(store, rate=1000, workers=1, tuning=Tuning(**way))).result is Result.CLEAN
    assert time.monotonic() - begin > 0.9 * sum(range(NUMBER)) / 1000


def test_a_run_that_is_ended(store: Store, way: dict[str, int]) -> None:
    """A stopped run remembers what it verified, and the next run continues there."""
    tuning = Tuning(**way, batch_blobs=1)
    with closing(verify(store, rate=2000, workers=2, tuning=tuning)) as run:
        next(report for report in run if report.checked_blobs > 9)
    report = run.report
    assert report.result is Result.INCOMPLETE
    done = report.checked_blobs
    assert done < NUMBER
    fresh = [part for part in Ledger.load(store).parts() if part.time]
    assert sum(len(list(part.blobs(store))) for part in fresh) == done
    rest = last(verify(store, budget=sum(range(NUMBER)) - report.checked_bytes, tuning=tuning))
    assert rest.oldest is not None
    assert all(part.time for part in Ledger.load(store).parts() if list(part.blobs(store)))


def test_a_run_that_is_killed(store: LocalStore) -> None:
    """A run saves what it verified from time to time, not only at the end."""
    tuning = Tuning(batch_blobs=1, save_interval=0)
    with closing(verify(store, rate=2000, workers=1, tuning=tuning)) as reports:
        report = next(report for report in reports if report.checked_blobs > 5)
        assert Ledger.load(store).blobs == report.checked_blobs


def test_reports_are_snapshots(store: LocalStore) -> None:
    """A report and its lists do not change when the run continues."""
    run = verify(store, workers=1, tuning=Tuning(batch_blobs=1))
    reports = [(report, replace(report, corrupt=[*report.corrupt])) for report in run]
    assert all(report == copy for report, copy in reports)
    assert [report.checked_blobs for report, _ in reports] != [NUMBER] * len(reports)
    assert run.report == reports[-1][0]
    run.report.corrupt.append(Digest(Algorithm.MD5, bytes(16)))
    assert not run.report.corrupt


def test_two_runs_at_once(store: LocalStore) -> None:
    """The counts of two concurrent runs add up."""
    tuning = Tuning(batch_blobs=1, save_interval=0)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: last(verify(store, workers=1, tuning=tuning)), range(2)))
    known = Ledger.load(store)
    assert known.blobs == sum(report.checked_blobs for report in reports) == 2 * NUMBER
    assert known.bytes == sum(report.checked_bytes for report in reports)


def test_a_note_that_cannot_be_written(store: LocalStore) -> None:
    """A store is verified even if the note cannot be written."""
    os.rmdir(store.staging_directory)
    assert last(verify(store)).result is Result.CLEAN
