"""Migrating a store: every old and new name leads to its blob, whatever happens meanwhile."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from tests.support.kinds import put
from tests.support.upkeep import fill, flip, last, named
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BlobNotFound,
    ConfigError,
    ReadOnly,
    StorageFull,
    StoreUnavailable,
    WrongStore,
)
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.ledger import Ledger
from wsgi_store.upkeep.migrate import Limits, Migration, add_names, drop_names, migrate
from wsgi_store.upkeep.plan import Tuning
from wsgi_store.upkeep.report import Result
from wsgi_store.upkeep.run import Effort, Run
from wsgi_store.upkeep.verify import verify

NUMBER = 60
# Threads, because a process may not see what a test has patched.
PATCHED = Limits(effort=Effort(workers=1))
CONTENTS = [b"%d" % number * number for number in range(NUMBER)]
SHA256, MD5, SHA1, SHA512 = Algorithm.SHA256, Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA512


@pytest.fixture(name="store")
def fixture_store(root: Path) -> LocalStore:
    """A store with md5 names."""
    fill(root, MD5, CONTENTS)
    return LocalStore(str(root), None, Durability.NONE)


def digest(algorithm: Algorithm, data: bytes) -> Digest:
    """The digest of some bytes."""
    return Digest(algorithm, hashlib.new(algorithm.value, data).digest())


def read(store: Store, name: Digest) -> bytes:
    """The bytes of a blob."""
    with closing(store.open(name)) as reader:
        return reader.read()


def done(run: Run[Migration]) -> Migration:
    """The last report of a migration, whose counts add up."""
    report = Migration()
    for report in run:
        assert report.left >= 0
    assert not report.left or not report.ended
    return report


def state(root: Path) -> dict[Path, tuple[int, ...]]:
    """What a change to any file below the root would change."""
    stats = {path: path.lstat() for path in root.rglob("*")}
    return {path: (one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for path, one in stats.items()}


def check(root: Path, *algorithms: Algorithm, contents: list[bytes] | None = None) -> None:
    """Check that every blob is a file under its first name, and reachable by the others."""
    store = open_store(str(root))
    assert store.algorithms == algorithms
    for data in CONTENTS if contents is None else contents:
        primary, *others = (root / named(algorithm, data) for algorithm in algorithms)
        assert primary.is_file() and not primary.is_symlink()
        assert primary.stat().st_nlink == 1
        for name in others:
            assert name.is_symlink() and name.read_bytes() == data
            assert os.readlink(name) == f"../{primary.parent.name}/{primary.name}"
        for algorithm in algorithms:
            assert read(store, digest(algorithm, data)) == data


@pytest.mark.parametrize("way", [{}, {"processes_from": 1, "batch_blobs": 7}], ids=["threads", "processes"])
def test_every_name_leads_to_its_blob(store: LocalStore, root: Path, way: dict[str, int]) -> None:
    """Afterwards every blob is a file under its new name, and the old name is a link to it."""
    inodes = {data: (root / named(MD5, data)).stat().st_ino for data in CONTENTS}
    report = done(migrate(store, SHA256, Limits(effort=Effort(workers=2, tuning=Tuning(**way)))))
    assert (report.result, report.adopted, report.ended) == (Result.CLEAN, NUMBER, True)
    assert report.checked_bytes == sum(map(len, CONTENTS))
    check(root, SHA256, MD5)
    assert {data: (root / named(SHA256, data)).stat().st_ino for data in CONTENTS} == inodes
    assert not os.listdir(root / ".staging")
    again = done(migrate(store, SHA256))
    assert (again.already, again.total_blobs, again.ended) == (NUMBER, 0, True)


def test_a_budget(store: LocalStore, root: Path) -> None:
    """Runs with a budget go on where the last one ended, and read each blob once."""
    size = sum(map(len, CONTENTS))
    reports = []
    tuning = Tuning(batch_blobs=3)
    while not reports or not reports[-1].ended:
        reports.append(done(migrate(store, SHA256, Limits(size // 3, effort=Effort(tuning=tuning)))))
        assert reports[-1].result is Result.CLEAN
        assert reports[-1].there == NUMBER
    assert len(reports) in (3, 4)
    assert sum(report.checked_bytes for report in reports) == size
    assert sum(report.adopted for report in reports) == NUMBER
    check(root, SHA256, MD5)


def test_blobs_under_both_names(store: LocalStore, root: Path) -> None:
    """A blob that a killed run or a copy has left under both names is counted once."""
    for data, make in zip(CONTENTS, [os.link, shutil.copyfile], strict=False):
        new = root / named(SHA256, data)
        new.parent.mkdir(exist_ok=True)
        make(root / named(MD5, data), new)
    report = done(migrate(store, SHA256))
    assert (report.there, report.adopted, report.already, report.ended) == (NUMBER, NUMBER, 0, True)
    check(root, SHA256, MD5)


def test_a_run_that_is_ended(store: LocalStore, root: Path) -> None:
    """An interrupted run keeps what it did, and uploads and downloads work by both names meanwhile."""
    effort = Effort(rate=10_000, workers=1, tuning=Tuning(batch_blobs=1))
    with closing(migrate(store, SHA256, Limits(effort=effort))) as run:
        next(report for report in run if report.adopted > 9)
    report = run.report
    assert 9 < report.adopted < NUMBER
    assert (report.left, report.ended) == (NUMBER - report.adopted, False)
    assert json.loads((root / "store.json").read_text())["migrating"] == "md5"
    for data in CONTENTS:
        assert read(store, digest(MD5, data)) == data
    receipt = put(Staging(store, durability=Durability.NONE), b"new")
    assert receipt.names == (digest(SHA256, b"new"), digest(MD5, b"new"))
    rest = done(migrate(store, SHA256))
    assert (rest.already, rest.adopted) == (report.adopted + 1, NUMBER - report.adopted)
    check(root, SHA256, MD5, contents=[*CONTENTS, b"new"])


def test_several_at_once(store: LocalStore, root: Path) -> None:
    """Two runs share the work, and the counts of both add up."""
    effort = Effort(workers=1, tuning=Tuning(batch_blobs=1))
    other = LocalStore(str(root), None, Durability.NONE)
    first, second = (
        migrate(store, SHA256, Limits(effort=effort)),
        migrate(other, SHA256, Limits(effort=effort)),
    )
    reports: list[Migration] = []
    runs = [first, second]
    while runs:
        for run in list(runs):
            try:
                next(run)
            except StopIteration:
                runs.remove(run)
                reports.append(run.report)
    assert [report.left for report in reports] == [0, 0]
    assert all(report.ended for report in reports)
    assert sum(report.adopted for report in reports) == NUMBER
    check(root, SHA256, MD5)


def test_damage(store: LocalStore, root: Path) -> None:
    """A damaged blob goes to quarantine, gets no new name, and an upload heals it by every name."""
    bad = flip(root / named(MD5, CONTENTS[7]))
    report = done(migrate(store, SHA256))
    assert (report.result, [one.hex for one in report.corrupt], report.ended) == (Result.CORRUPT, [bad], True)
    assert (report.adopted, report.left) == (NUMBER - 1, 0)
    assert os.listdir(root / ".quarantine") == [bad]
    with pytest.raises(BlobNotFound):
        store.stat(MD5.parse(bad))
    assert put(Staging(store, durability=Durability.NONE), CONTENTS[7]).added.value == "healed"
    assert not os.listdir(root / ".quarantine")
    check(root, SHA256, MD5)


def test_an_unreadable_blob(store: LocalStore, root: Path) -> None:
    """As long as a blob cannot be read, the migration goes on, and the old names stay."""
    bad = root / named(MD5, CONTENTS[5])
    real = os.preadv

    def preadv(fd: int, *more: object) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(bad.name):
            raise OSError(5, os.strerror(5))
        return real(fd, *more)  # type: ignore[arg-type]

    with mock.patch("os.preadv", preadv):
        report = done(migrate(store, SHA256, PATCHED))
        assert (report.result, report.ended, report.left) == (Result.INCOMPLETE, False, 0)
        assert [one.hex for one in report.unreadable] == [bad.name]
        assert not bad.is_symlink()
        again = done(migrate(store, SHA256, PATCHED))
        assert (again.ended, list(again.unreadable)) == (False, list(report.unreadable))
    assert done(migrate(store, SHA256)).ended
    check(root, SHA256, MD5)


def test_a_file_under_the_new_name(store: LocalStore, root: Path) -> None:
    """A damaged file in the place of a new name goes to quarantine, and the counts still add up."""
    done(migrate(store, SHA256, Limits(1)))  # begins, and reads one blob
    left = next(data for data in CONTENTS if not (root / named(MD5, data)).is_symlink())
    there = root / named(SHA256, left)
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(b"damaged")
    report = done(migrate(store, SHA256, PATCHED))
    assert ([one.hex for one in report.corrupt], report.ended, report.left) == ([there.name], True, 0)
    check(root, SHA256, MD5)


def test_something_else_in_the_place_of_a_name(store: LocalStore, root: Path) -> None:
    """One blob that cannot get its name keeps neither the others from theirs nor the run from its end."""
    there = root / named(SHA256, CONTENTS[4])
    there.mkdir(parents=True)
    report = done(migrate(store, SHA256))
    assert (report.result, report.ended, report.adopted) == (Result.INCOMPLETE, False, NUMBER - 1)
    assert {one.hex: reason for one, reason in report.unreadable.items()} == {
        Path(named(MD5, CONTENTS[4])).name: "the path of this blob is not a regular file"
    }
    there.rmdir()
    assert done(migrate(store, SHA256)).ended
    check(root, SHA256, MD5)


def test_files_copied_meanwhile(store: LocalStore, root: Path) -> None:
    """A migration ends only after a pass that found no file under an old name, whoever copied it there."""
    run = migrate(store, SHA256, Limits(effort=Effort(workers=1)))
    late = root / named(MD5, b"late")
    late.parent.mkdir(exist_ok=True)
    report = Migration()
    for report in run:
        if report.adopted == NUMBER and not late.exists():
            late.write_bytes(b"late")
    assert (report.adopted, report.there, report.ended) == (NUMBER + 1, NUMBER + 1, True)
    check(root, SHA256, MD5, contents=[*CONTENTS, b"late"])


def test_files_copied_later(store: LocalStore, root: Path) -> None:
    """Files under old names are blobs after the migration, too; another run names them."""
    done(migrate(store, SHA256))
    late = root / named(MD5, b"late")
    late.parent.mkdir(exist_ok=True)
    late.write_bytes(b"late")
    assert read(store, digest(MD5, b"late")) == b"late"
    assert done(migrate(store, SHA256)).adopted == 1
    check(root, SHA256, MD5, contents=[*CONTENTS, b"late"])


def test_from_one_algorithm_to_the_next(store: LocalStore, root: Path) -> None:
    """Further names from before lead to the new primary name."""
    assert done(migrate(store, SHA256)).ended
    assert done(migrate(store, SHA512)).ended
    check(root, SHA512, SHA256, MD5)


def test_names_are_added(store: LocalStore, root: Path) -> None:
    """Every blob gets the added names, and an interrupted run goes on where it was."""
    effort = Effort(rate=10_000, workers=1, tuning=Tuning(batch_blobs=1, save_interval=0))
    with closing(add_names(store, [SHA1, SHA256], Limits(effort=effort))) as run:
        next(report for report in run if report.named > 9)
    first = run.report
    receipt = put(Staging(store, durability=Durability.NONE), b"new")
    assert len(receipt.names) == 3
    report = done(add_names(store, [SHA1, SHA256]))
    assert report.named <= NUMBER + 1 - first.named
    assert (report.result, report.ended) == (Result.CLEAN, True)
    check(root, MD5, SHA1, SHA256, contents=[*CONTENTS, b"new"])
    (root / named(SHA1, CONTENTS[3])).unlink()
    assert done(add_names(store, [SHA1])).named == NUMBER + 1  # begins anew once it is finished
    check(root, MD5, SHA1, SHA256, contents=[*CONTENTS, b"new"])


def test_a_blob_that_cannot_be_read_to_be_named(store: LocalStore, root: Path) -> None:
    """Adding names is not finished while a blob cannot be read; the next run reads what is missing."""
    bad = root / named(MD5, CONTENTS[5])
    real = os.preadv

    def preadv(fd: int, *more: object) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(bad.name):
            raise OSError(5, os.strerror(5))
        return real(fd, *more)  # type: ignore[arg-type]

    limits = Limits(effort=Effort(workers=1, tuning=Tuning(batch_blobs=3)))
    with mock.patch("os.preadv", preadv):
        report = done(add_names(store, [SHA1], limits))
    assert (report.result, report.ended, report.named) == (Result.INCOMPLETE, False, NUMBER - 1)
    report = done(add_names(store, [SHA1]))
    assert (report.result, report.ended, report.named) == (Result.CLEAN, True, 3)
    check(root, MD5, SHA1)


def test_names_are_dropped(store: LocalStore, root: Path) -> None:
    """Dropping the last further name gives back the marker of a store that never had one."""
    before = (root / "store.json").read_bytes(), store.made()
    done(migrate(store, SHA256))
    late = root / named(MD5, b"late")
    late.parent.mkdir(exist_ok=True)
    late.write_bytes(b"late")
    report = done(drop_names(store, [MD5]))
    assert (report.adopted, report.removed, report.ended) == (1, NUMBER + 1, True)
    check(root, SHA256, contents=[*CONTENTS, b"late"])
    assert (root / "store.json").read_bytes() == before[0].replace(b"md5", b"sha256")
    assert store.made() == pytest.approx(before[1])
    assert len(list(root.glob("??/*"))) == NUMBER + 1


def test_dropping_goes_on(store: LocalStore, root: Path) -> None:
    """A run that was interrupted while it removed names is finished by the next one."""
    done(migrate(store, SHA256))
    with closing(drop_names(store, [MD5])) as run:
        next(report for report in run if report.removed > 9)
    assert store.algorithms == (SHA256,)
    assert any(path.is_symlink() for path in root.glob("??/*"))
    assert done(drop_names(store, [MD5])).ended
    check(root, SHA256)
    assert len(list(root.glob("??/*"))) == NUMBER


def test_nothing_is_dropped_while_a_blob_cannot_be_named(store: LocalStore, root: Path) -> None:
    """Names are dropped only when no file is left that has nothing else."""
    done(migrate(store, SHA256))
    late = root / named(MD5, b"late")
    late.parent.mkdir(exist_ok=True)
    late.write_bytes(b"late")
    with mock.patch("os.preadv", side_effect=OSError(5, os.strerror(5))):
        report = done(drop_names(store, [MD5], PATCHED))
    assert (report.result, report.ended, report.removed) == (Result.INCOMPLETE, False, 0)
    check(root, SHA256, MD5)


def _refused(store: Store) -> Iterator[tuple[Run[Migration], type[Exception], str]]:
    yield migrate(store, MD5), ConfigError, "different files can have the same md5"
    yield migrate(store, SHA1), ConfigError, "different files can have the same sha1"
    yield migrate(store, SHA512), ConfigError, "being migrated from md5 to sha256"
    yield migrate(store, Algorithm.BLAKE2B), ConfigError, "being migrated from md5 to sha256"
    yield add_names(store, [SHA1]), ConfigError, "being migrated from md5 to sha256"
    yield drop_names(store, [MD5]), ConfigError, "being migrated from md5 to sha256"
    yield drop_names(store, [SHA256]), ConfigError, "sha256 is the primary name"


def test_what_is_refused_during_a_migration(store: LocalStore, root: Path) -> None:
    """What would get in the way of a migration is refused in one line, and nothing is changed."""
    done(migrate(store, SHA256, Limits(1)))
    before = state(root)
    for run, kind, message in _refused(store):
        with pytest.raises(kind, match=message) as caught:
            next(run)
        assert "\n" not in str(caught.value)
    assert state(root) == before


def test_what_is_refused(store: LocalStore, root: Path) -> None:
    """Algorithms that a store cannot have are refused before anything is changed."""
    fill(root.parent / "other", SHA512, [b"one"])
    other = open_store(str(root.parent / "other"))
    done(add_names(store, [SHA1]))
    for run, message in (
        (migrate(store, SHA1), "different files can have the same sha1"),
        (migrate(other, Algorithm.BLAKE2B), "hashes of the same length"),
        (add_names(other, [Algorithm.BLAKE2B]), "hashes of the same length"),
        (add_names(store, [SHA256, Algorithm.BLAKE3]), "hashes of the same length"),
        (add_names(store, [MD5]), "md5 is the primary name"),
    ):
        with pytest.raises(ConfigError, match=message):
            next(run)
    assert store.refresh() == (MD5, SHA1)
    with pytest.raises(ReadOnly):
        next(migrate(open_store(str(root), read_only=True), SHA256))


def test_a_name_that_is_kept_already(store: LocalStore) -> None:
    """A further name has to be dropped before it becomes the primary one."""
    done(add_names(store, [SHA256]))
    with pytest.raises(ConfigError, match="drop it first .wsgi-store migrate --drop-names sha256."):
        next(migrate(store, SHA256))


def test_without_locks(store: LocalStore, root: Path) -> None:
    """A file system without locks is refused before anything is changed."""
    before = (root / "store.json").read_bytes()
    with mock.patch.object(fcntl, "flock", side_effect=OSError(95, os.strerror(95))):
        with pytest.raises(WrongStore, match="needs a file system with locks"):
            done(migrate(store, SHA256))
    assert (root / "store.json").read_bytes() == before
    assert done(migrate(store, SHA256)).ended


def test_without_room(store: LocalStore, root: Path) -> None:
    """Names are made only if there are inodes and blocks for all of them."""
    free = os.statvfs(root)
    for few in ({"f_favail": NUMBER - 1}, {"f_bavail": NUMBER - 1}):
        values = {name: getattr(free, name) for name in dir(free) if name.startswith("f_")} | few
        with mock.patch("os.statvfs", return_value=mock.Mock(**values)):
            with pytest.raises(StorageFull, match="60 names"):
                done(migrate(store, SHA256))
    assert store.refresh() == (MD5,)


def test_a_disk_that_becomes_full(store: LocalStore, root: Path) -> None:
    """When no more names can be made, the run ends with the reason, and the next one goes on."""
    with mock.patch("os.symlink", side_effect=OSError(28, os.strerror(28))):
        with pytest.raises(StorageFull):
            done(migrate(store, SHA256, PATCHED))
    for data in CONTENTS:
        assert read(store, digest(MD5, data)) == data
    assert done(migrate(store, SHA256)).ended
    check(root, SHA256, MD5)


def test_a_dry_run(store: LocalStore, root: Path) -> None:
    """A dry run changes nothing, and says how much would be read and removed."""
    before = state(root)
    dry = Limits(dry_run=True)
    for run in (migrate(store, SHA256, dry), add_names(store, [SHA1], dry)):
        report = done(run)
        assert (report.total_blobs, report.total_bytes) == (NUMBER, sum(map(len, CONTENTS)))
    assert state(root) == before
    done(migrate(store, SHA256))
    report = done(drop_names(store, [MD5], dry))
    assert (report.total_blobs, report.removed) == (0, NUMBER)
    assert done(migrate(open_store(str(root), read_only=True), SHA256, dry)).total_blobs == 0
    check(root, SHA256, MD5)


def test_a_blob_that_is_written_meanwhile(store: LocalStore, root: Path) -> None:
    """A file that changed since it was read is read again."""
    changed = root / named(MD5, CONTENTS[9])
    real = LocalStore.adopt

    def adopt(self: LocalStore, found: object) -> object:
        if not changed.is_symlink():
            os.utime(changed)
            mock.patch.object(LocalStore, "adopt", real).start()
        return real(self, found)  # type: ignore[arg-type]

    try:
        with mock.patch.object(LocalStore, "adopt", adopt):
            report = done(migrate(store, SHA256, PATCHED))
    finally:
        mock.patch.stopall()
    assert (report.adopted, report.there, report.ended) == (NUMBER, NUMBER, True)
    assert report.checked_blobs >= NUMBER
    check(root, SHA256, MD5)


def test_blobs_that_change_all_the_time(store: LocalStore, root: Path) -> None:
    """A migration does not end while files under old names were not read to their end unchanged."""
    real = LocalStore.adopt

    def adopt(self: LocalStore, found: Sequence[Hashed]) -> list[Adopted]:
        for one in found:
            os.utime(root / one.digest.hex[:2] / one.digest.hex)
        return real(self, found)

    with mock.patch.object(LocalStore, "adopt", adopt):
        run = migrate(store, SHA256, PATCHED)
        with pytest.raises(StoreUnavailable, match="changed each time after they had been read"):
            done(run)
    assert (run.report.adopted, run.report.ended) == (0, False)
    assert json.loads((root / "store.json").read_text())["migrating"] == "md5"
    assert done(migrate(store, SHA256)).ended
    check(root, SHA256, MD5)


def test_the_ledger_during_a_migration(store: LocalStore, root: Path) -> None:
    """A migrated blob counts as verified, and the rest as it was before."""
    last(verify(store))
    verified = Ledger.load(store).oldest
    time.sleep(0.05)
    begun = time.time()
    done(
        migrate(
            store, SHA256, Limits(sum(map(len, CONTENTS)) // 2, effort=Effort(tuning=Tuning(batch_blobs=3)))
        )
    )
    ledger = Ledger.load(store)
    assert ledger.oldest == verified
    assert all(part.time >= begun for part in ledger.parts() if part.algorithm is SHA256)
    assert any(part.time >= begun for part in ledger.parts() if part.algorithm is MD5)
    assert done(migrate(store, SHA256)).ended
    ledger = Ledger.load(store)
    assert {part.algorithm for part in ledger.parts()} == {SHA256}
    assert begun <= ledger.oldest <= time.time()
    assert ledger.blobs == 2 * NUMBER
    assert store.load_note(".verified.json") is not None
    assert b'"algorithm": "sha256"' in (root / ".verified.json").read_bytes()


def _replaced(text: bytes, _: bytes | None) -> bytes:
    return text


def test_a_ledger_of_another_algorithm(root: Path) -> None:
    """A ledger counts only for the algorithm that it names; that of version 0.1.0 names none."""
    parts = [["f" * 64, 1000.0]]
    rest = {"unreadable": [], "blobs": 1, "bytes": 1, "corrupt": 0}
    for algorithm, note, oldest in (
        (SHA256, {"parts": parts, **rest}, 1000.0),
        (SHA256, {"algorithm": "sha256", "parts": parts, **rest}, 1000.0),
        (SHA256, {"algorithm": "blake3", "parts": parts, **rest}, 0.0),
        (MD5, {"parts": parts, **rest}, 0.0),
        (SHA256, {"algorithm": "unknown", "parts": parts, **rest}, 0.0),
        (SHA256, {"algorithm": ["sha256"], "parts": parts, **rest}, 0.0),
    ):
        store = open_store(str(root / algorithm.value), algorithm, Durability.NONE)
        text = json.dumps(note).encode()
        store.update_note(".verified.json", partial(_replaced, text))
        assert Ledger.load(store).oldest == oldest, note


def test_a_killed_worker(store: LocalStore) -> None:
    """If a worker is killed, the run ends with an error, and the next one goes on."""
    tuning = Tuning(processes_from=1, batch_blobs=1)
    run = migrate(store, SHA256, Limits(effort=Effort(rate=5000, workers=2, tuning=tuning)))
    with pytest.raises(StoreUnavailable, match="a worker process was killed"):
        for report in run:
            if report.adopted > 3:
                children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
                os.kill(int(children.split()[-1]), 9)
    assert done(migrate(store, SHA256)).ended
