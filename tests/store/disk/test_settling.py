"""Names that lead to an old name, which a killed migration leaves: they work, and outlive the old name."""

import fcntl
from pathlib import Path

import pytest

from tests.support.crossing import crossed
from tests.support.kinds import digest_of
from tests.support.rounds import Process, Round
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability
from wsgi_store.store.marker import Marker
from wsgi_store.upkeep.migrate import drop_names, migrate

MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256
MIGRATING = Marker(SHA256, (MD5, SHA1), migrating=MD5)
DATA = b"some bytes"
OTHERS = b"others"


@pytest.fixture(name="half")
def fixture_half(tmp_path: Path) -> Round:
    """A store with a blob that has its primary name, and a sha1 name that leads to its old one."""
    one = Round(tmp_path, 0, MIGRATING, Durability.FULL)
    one.put_file(SHA256, DATA)
    one.put_link(MD5, DATA, SHA256)
    one.put_link(SHA1, DATA, MD5)
    return one


def targets(process: Process) -> list[Algorithm]:
    """By which algorithms the names are to which the sha1 names lead."""
    return [target.algorithm for _, target in process.names.links(SHA1)]


def test_a_killed_migration_goes_on(half: Round) -> None:
    """After the migration and without its old names a blob still has the others."""
    half.put_file(MD5, OTHERS)
    half.put_link(SHA1, OTHERS, MD5)
    process = half.process()
    assert process.holds(DATA, SHA1)
    for step in (migrate(process.store, SHA256), drop_names(process.store, [MD5])):
        *_, report = step
        assert report.ended
    for data in (DATA, OTHERS):
        assert half.settled(data, [SHA256, SHA1])
    assert targets(process) == [SHA256, SHA256]


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.NONE])
def test_names_are_settled(half: Round, durability: Durability) -> None:
    """A name leads to the primary one afterwards, and is settled once; files and foreign links stay."""
    half.durability = durability
    copied = half.put_file(SHA1, OTHERS)
    foreign = half.path(digest_of(SHA1, b"foreign"))
    foreign.parent.mkdir(exist_ok=True)
    foreign.symlink_to("/etc/hostname")
    process = half.process()
    assert list(process.names.settle_names()) == [digest_of(SHA1, DATA)]
    assert targets(process) == [SHA256]
    assert not list(process.names.settle_names())
    assert half.settled(DATA, MIGRATING.algorithms)
    assert copied.read_bytes() == OTHERS and not copied.is_symlink()
    assert str(foreign.readlink()) == "/etc/hostname"


def test_a_blob_that_has_no_primary_name_yet(half: Round) -> None:
    """Its other names go on to lead to its old one."""
    half.path(digest_of(MD5, DATA)).unlink()
    half.path(digest_of(SHA256, DATA)).unlink()
    half.put_file(MD5, DATA)
    process = half.process()
    assert not list(process.names.settle_names())
    assert targets(process) == [MD5]
    assert half.settled(DATA, [MD5, SHA1])


def test_a_blob_that_is_gone(half: Round) -> None:
    """A name of a removed blob is not settled, but swept."""
    process = half.process()
    process.store.remove(digest_of(SHA256, DATA))
    assert not list(process.names.settle_names())
    assert digest_of(SHA1, DATA).hex in process.names.sweep_names(remove=True)
    assert not list(half.tree())


def test_a_name_that_an_upload_settles_first(half: Round) -> None:
    """A name that leads to the primary one by now is left alone."""
    process, other = half.process(), half.process()

    def name_again() -> None:
        half.path(digest_of(SHA1, DATA)).unlink()
        other.upload(DATA)

    with crossed(fcntl, "flock", lambda _, operation: operation == fcntl.LOCK_EX, name_again) as seen:
        assert not list(process.names.settle_names())
    assert seen
    assert half.settled(DATA, MIGRATING.algorithms)
