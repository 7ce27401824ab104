"""Upkeep where something is missing: inodes, shared memory, /proc, rights, or an ability of the store."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from examples.memory_store import MemoryStore
from tests.support.faults import disk, without_inodes
from tests.support.kinds import digest_of, put
from tests.support.servers import PROJECT
from tests.support.upkeep import fill, last, named
from tests.support.users import as_nobody
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StorageFull, WrongStore
from wsgi_store.staging import Staging
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.testing.helpers import content
from wsgi_store.upkeep.collect import Kind, collect
from wsgi_store.upkeep.migrate import Limits, Migration, add_names, drop_names, migrate
from wsgi_store.upkeep.report import Result
from wsgi_store.upkeep.run import Effort
from wsgi_store.upkeep.usage import Usage, usage
from wsgi_store.upkeep.verify import verify

MD5, SHA256 = Algorithm.MD5, Algorithm.SHA256
CONTENTS = [b"%d" % number * 100 for number in range(30)]
THREADS = Limits(effort=Effort(workers=1))
PROGRAM = """
import sys
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.plan import Tuning
from wsgi_store.upkeep.verify import verify
*_, report = verify(open_store(sys.argv[1]), workers=2, tuning=Tuning(processes_from=1, batch_blobs=7))
print(report.result.value, report.checked_blobs)
"""


def test_a_disk_that_becomes_full(tmp_path: Path) -> None:
    """A migration that finds no more inodes ends with the reason, loses no blob, and goes on later."""
    with disk("tmpfs", tmp_path / "disk", 16 << 20, inodes=2000):
        root = tmp_path / "disk" / "store"
        fill(root, MD5, CONTENTS)
        store = LocalStore(str(root), None)
        run = migrate(store, SHA256, THREADS)
        next(report for report in run if store.refresh() == (SHA256, MD5))
        with without_inodes(tmp_path / "disk"):
            with pytest.raises(StorageFull, match="No space left on device"):
                last(run)
            for data in CONTENTS:
                assert content(store, digest_of(MD5, data)) == data
        report = last(migrate(store, SHA256, THREADS))
        assert isinstance(report, Migration) and report.ended
        for data in CONTENTS:
            assert content(store, digest_of(SHA256, data)) == content(store, digest_of(MD5, data)) == data


@pytest.mark.parametrize("missing", ["/dev/shm", "/proc"])
def test_a_container_without(tmp_path: Path, missing: str) -> None:
    """Blobs are verified in threads where processes cannot share memory, and also without /proc."""
    if os.geteuid():
        pytest.skip("mounting a file system takes root")
    fill(tmp_path, MD5, CONTENTS)
    command = f"mount -t tmpfs -o ro none {missing}" + ' && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == (f"clean {len(CONTENTS)}\n", "", 0)


@pytest.fixture(name="memory")
def fixture_memory() -> Iterator[Path]:
    """A directory in memory, which other users can reach."""
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def test_files_of_another_user(memory: Path) -> None:
    """Files that this user may not link are named with the reason, and keep their old names."""
    root = memory / "store"
    fill(root, MD5, CONTENTS)
    store = LocalStore(str(root), None)
    with as_nobody(root):
        report = last(migrate(store, SHA256, THREADS))
    assert isinstance(report, Migration)
    assert (report.result, report.ended, report.adopted) == (Result.INCOMPLETE, False, 0)
    assert set(report.unreadable.values()) == {"this user may not link the file (fs.protected_hardlinks)"}
    for data in CONTENTS:
        assert (root / named(MD5, data)).read_bytes() == data
        assert content(store, digest_of(MD5, data)) == data
    assert last(migrate(store, SHA256, THREADS)).result is Result.CLEAN


@pytest.fixture(name="simple")
def fixture_simple(tmp_path: Path) -> MemoryStore:
    """A store that somebody else wrote, with none of the abilities that a store may have."""
    store = MemoryStore(SHA256, tmp_path / "staging")
    for data in CONTENTS:
        put(Staging(store), data)
    return store


def test_a_store_without_abilities(simple: MemoryStore) -> None:
    """It is verified, counted and collected like any other."""
    bad = digest_of(SHA256, CONTENTS[3])
    simple.blobs[bad] = b"damaged"
    report = last(verify(simple, workers=1))
    assert (report.result, report.corrupt, report.checked_blobs) == (Result.CORRUPT, [bad], len(CONTENTS))
    size = sum(map(len, CONTENTS)) - len(CONTENTS[3])
    assert usage(simple) == Usage(len(CONTENTS) - 1, size, quarantined=1, quarantined_bytes=len(b"damaged"))
    time.sleep(0.01)
    gone = list(collect(simple, older=0.0, quarantined_older=0.0))
    assert [one.kind for one in gone].count(Kind.BLOB) == len(CONTENTS) - 1
    assert [one.digest for one in gone if one.kind is Kind.QUARANTINED] == [bad]
    assert usage(simple) == Usage()


def test_a_store_with_one_name_for_each_blob(simple: MemoryStore) -> None:
    """Commands that change names refuse it, and change nothing."""
    before = dict(simple.blobs)
    for run in (migrate(simple, MD5), add_names(simple, [MD5]), drop_names(simple, [MD5])):
        with pytest.raises(WrongStore, match="this kind of store has only one name for each blob"):
            list(run)
    assert simple.blobs == before
