"""Migrating a store in a bucket: every old and new name leads to its blob."""

import hashlib
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.kinds import BucketKind, put
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, ConfigError
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Names
from wsgi_store.store.contract import Store
from wsgi_store.upkeep.collect import Kind, collect
from wsgi_store.upkeep.ledger import Ledger
from wsgi_store.upkeep.migrate import Limits, Migration, add_names, drop_names, migrate
from wsgi_store.upkeep.plan import Tuning
from wsgi_store.upkeep.report import Result
from wsgi_store.upkeep.run import Effort, Run
from wsgi_store.upkeep.usage import usage
from wsgi_store.upkeep.verify import verify

KIND = BucketKind()
NUMBER = 12
CONTENTS = [b"%d" % number * 100 for number in range(NUMBER)]
SHA256, MD5, SHA1 = Algorithm.SHA256, Algorithm.MD5, Algorithm.SHA1


@pytest.fixture(name="store")
def fixture_store(root: Path) -> Store:
    """A store with md5 names in a bucket."""
    store = KIND.open(root, MD5)
    staging = Staging(store)
    for data in CONTENTS:
        put(staging, data)
    return store


def digest(algorithm: Algorithm, data: bytes) -> Digest:
    """The digest of some bytes."""
    return Digest(algorithm, hashlib.new(algorithm.value, data).digest())


def last(run: Run[Migration]) -> Migration:
    """The last report of a run."""
    *_, report = run
    return report


def check(store: Store, *algorithms: Algorithm, contents: list[bytes] | None = None) -> None:
    """Check that every blob is found by all its names."""
    assert store.refresh() == algorithms
    contents = CONTENTS if contents is None else contents
    for data in contents:
        for algorithm in algorithms:
            with closing(store.open(digest(algorithm, data))) as reader:
                assert reader.read() == data
    assert {blob.digest for blob in store.iterate()} == {digest(algorithms[0], data) for data in contents}


def test_there_and_back(store: Store) -> None:
    """A migration ends with counts that add up, names are added and dropped, and verify finds no fault."""
    report = last(migrate(store, SHA256))
    assert (report.result, report.adopted, report.left, report.ended) == (Result.CLEAN, NUMBER, 0, True)
    check(store, SHA256, MD5)
    assert Ledger.load(store).oldest > 0
    assert last(migrate(store, SHA256)).already == NUMBER
    assert last(add_names(store, [SHA1])).named == NUMBER
    check(store, SHA256, MD5, SHA1)
    used = usage(store)
    assert (used.blobs, used.names) == (NUMBER, 2 * NUMBER)
    assert [*verify(store)][-1].result is Result.CLEAN
    assert last(drop_names(store, [MD5])).removed == NUMBER
    check(store, SHA256, SHA1)
    with pytest.raises(BlobNotFound):
        store.stat(digest(MD5, CONTENTS[0]))
    with pytest.raises(ConfigError, match="different files can have the same sha1"):
        next(migrate(store, SHA1))


def test_in_portions(store: Store) -> None:
    """Runs with a budget go on where the last one ended; uploads and deletions go on meanwhile."""
    tuning = Tuning(batch_blobs=2)
    first = last(migrate(store, SHA256, Limits(500, effort=Effort(workers=1, tuning=tuning))))
    assert 0 < first.adopted < NUMBER
    for data in CONTENTS:
        assert store.stat(digest(MD5, data)).size == len(data)
    assert put(Staging(store), b"new").names == (digest(SHA256, b"new"), digest(MD5, b"new"))
    store.remove(digest(MD5, CONTENTS[0]))
    second = last(migrate(store, SHA256))
    assert (second.result, second.left, second.ended) == (Result.CLEAN, 0, True)
    check(store, SHA256, MD5, contents=[*CONTENTS[1:], b"new"])


def test_blobs_under_both_names(store: Store, root: Path) -> None:
    """A blob that a killed run or a copy has left under both names is counted once."""
    held = [digest(MD5, data) for data in CONTENTS]
    last(migrate(store, SHA256, Limits(500, effort=Effort(workers=1, tuning=Tuning(batch_blobs=2)))))
    assert isinstance(store, Names)
    moved = {*held} - {blob.digest for blob in store.strays(MD5)}
    assert 0 < len(moved) < NUMBER
    for data in CONTENTS:
        if digest(MD5, data) in moved:
            KIND.damage(root, digest(MD5, data), data)  # the key that the migration has removed
    report = last(migrate(store, SHA256))
    assert (report.there, report.adopted, report.already, report.left) == (NUMBER, NUMBER, 0, 0)
    assert report.ended
    check(store, SHA256, MD5)
    assert not list(store.strays(MD5))


def test_damage_under_the_new_name(store: Store, root: Path) -> None:
    """A damaged object under a new name goes to quarantine; the one under the old name takes its place."""
    data, bad = CONTENTS[3], digest(SHA256, CONTENTS[3])
    KIND.damage(root, bad, b"?" * len(data))
    report = last(migrate(store, SHA256))
    assert (report.corrupt, report.adopted, report.left) == ([bad], NUMBER, 0)
    assert (report.result, report.ended) == (Result.CORRUPT, True)
    assert [blob.digest for blob in store.quarantined()] == [bad]
    check(store, SHA256, MD5)


def test_damage(store: Store, root: Path) -> None:
    """A damaged blob goes to quarantine and gets no new name; an upload heals it."""
    bad = digest(MD5, CONTENTS[3])
    KIND.damage(root, bad, b"others")
    report = last(migrate(store, SHA256))
    assert (report.corrupt, report.adopted, report.ended) == ([bad], NUMBER - 1, True)
    assert [blob.digest for blob in store.quarantined()] == [bad]
    assert put(Staging(store), CONTENTS[3]).added.value == "healed"
    check(store, SHA256, MD5)


def test_names_are_mended(store: Store) -> None:
    """Verify gives a blob the name that it lacks, and collect sweeps names of removed blobs."""
    last(migrate(store, SHA256))
    assert isinstance(store, Names)
    assert store.remove_link(digest(MD5, CONTENTS[2]), digest(SHA256, CONTENTS[2]))
    with pytest.raises(BlobNotFound):
        store.stat(digest(MD5, CONTENTS[2]))
    assert [*verify(store)][-1].result is Result.CLEAN
    check(store, SHA256, MD5)
    store.remove(digest(SHA256, CONTENTS[1]))
    assert [one.name for one in collect(store) if one.kind is Kind.NAME] in (
        [],
        [digest(MD5, CONTENTS[1]).hex],
    )
    check(store, SHA256, MD5, contents=[CONTENTS[0], *CONTENTS[2:]])
