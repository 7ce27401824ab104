"""The rules that keep a blob by all its names, each in 1,000 rounds of acts that take turns at their calls.

Each round is a small store, some processes with their own memory of its marker, and an order of their system
calls that the number of the round decides. In some rounds one of the processes is killed on the way.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.histories import Outcome
from tests.support.kinds import digest_of
from tests.support.rounds import Round, race
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.staging import Receipt
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import COLLIDING

pytestmark = pytest.mark.races
MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256
DATA = b"some bytes"
PLAIN = Marker(MD5)
NAMED = Marker(SHA256, (MD5, SHA1))
MIGRATING = Marker(SHA256, (MD5, SHA1), migrating=MD5)


def by_any_name(act: Callable[[bytes, Algorithm], object], choice: Random, times: int) -> Callable[[], Any]:
    """Do this several times, each time by a name that was chosen before."""
    names = choice.choices(NAMED.algorithms, k=times)
    return lambda: [act(DATA, name) for name in names]


def algorithms_of(receipt: Receipt) -> tuple[Algorithm, ...]:
    """The algorithms of the names that an upload was told."""
    return tuple(name.algorithm for name in receipt.names)


def test_rule_1_a_file_under_any_name_is_a_blob(memory: Path) -> None:
    """A file under a further name is served all the time, and an upload of its bytes gives it all names."""

    def one_round(one: Round) -> None:
        name = one.choice.choice([MD5, SHA1])
        one.put_file(name, DATA)
        one.note(DATA, Outcome.CREATED)
        reader = one.process()
        receipts = one.run(
            partial(one.process().upload, DATA, one.choice.choice([None, *NAMED.algorithms])),
            partial(one.process().upload, DATA),
            partial(one.process().adopt, name),
            lambda: [reader.read(DATA, name) for _ in range(4)],
            killing=0.3,
        )
        for receipt in filter(None, receipts[:2]):
            assert (receipt.created, receipt.ambiguous) == (False, ())
            assert algorithms_of(receipt) == NAMED.algorithms
        if None in receipts[:2]:
            one.process().upload(DATA)
        assert one.judge(DATA, NAMED.algorithms)
        assert not one.files(MD5) | one.files(SHA1)

    race(memory, [NAMED, MIGRATING], one_round)


def test_rule_2_no_write_trusts_what_it_knows_of_the_marker(memory: Path) -> None:
    """Uploads while the marker changes have all names of the marker under which they are published."""
    changes = {PLAIN: MIGRATING, NAMED: Marker(SHA256), Marker(SHA256): NAMED}
    published = set()

    def one_round(one: Round) -> None:
        stale, late = one.process(), one.process()
        before = stale.names.marker()
        files: list[set[Digest]] = []

        def change(_: Marker) -> Marker:
            files.append(one.files(MD5))
            return changes[before]

        def change_and_upload() -> None:
            late.names.change_marker(change)
            assert algorithms_of(late.upload(b"later")) == changes[before].algorithms

        uploads = [partial(one.process().upload, data) for data in (b"first", b"second")]
        receipts = one.run(*uploads, change_and_upload, killing=0.2)
        for data, receipt in zip((b"first", b"second"), receipts, strict=False):
            if receipt is not None:
                told = algorithms_of(receipt)
                assert told in (before.algorithms, changes[before].algorithms)
                published.add((before, told))
                for name in {*told} & {*changes[before].algorithms}:
                    assert stale.holds(data, name)
                    assert one.process().holds(data, name)
        if files and before is PLAIN:
            assert one.files(MD5) <= files[0]

    race(memory, [*changes], one_round)
    # Some were published before each change and some after it.
    assert len(published) == 6, published


def test_rule_3_names_are_made_before_the_blob(memory: Path) -> None:
    """Nobody who removes names that lead nowhere removes one of a blob that is being uploaded."""

    def one_round(one: Round) -> None:
        first = one.process()
        if one.choice.random() < 0.8:
            first.upload(DATA)
            first.remove(DATA, one.choice.choice(NAMED.algorithms))
        one.run(
            partial(one.process().upload, DATA),
            one.process().sweep,
            by_any_name(one.process().remove, one.choice, 1),
            by_any_name(one.process().read, one.choice, 4),
            killing=0.3,
        )
        one.judge(DATA, NAMED.algorithms)

    race(memory, [NAMED], one_round)


def test_rule_3_two_files_with_one_further_name(memory: Path) -> None:
    """Two files with one MD5 that are uploaded while old names are swept have the names they were told."""

    def one_round(one: Round) -> None:
        old = one.process()
        if one.choice.random() < 0.5:
            gone = one.choice.choice(COLLIDING)
            old.upload(gone)
            old.remove(gone, SHA256)
        receipts = one.run(
            *(partial(one.process().upload, data) for data in COLLIDING),
            one.process().sweep,
            partial(one.process().upload, one.choice.choice(COLLIDING)),
            killing=0.3,
        )
        for data, receipt in zip(COLLIDING, receipts, strict=False):
            if receipt is not None:
                assert all(old.holds(data, name.algorithm) for name in receipt.names)
                assert receipt.ambiguous in ((), (MD5,))
        if None not in receipts[:2]:
            assert [receipt.ambiguous for receipt in receipts[:2]].count(()) == 1

    race(memory, [NAMED], one_round)


def test_rule_4_migration_and_deletion(memory: Path) -> None:
    """A blob that is migrated, deleted by old and by new names, and uploaded at once, is there or not."""
    held = set()

    def one_round(one: Round) -> None:
        old = one.put_file(MD5, DATA)
        one.note(DATA, Outcome.CREATED)
        certain = {MD5: True, SHA1: one.choice.random() < 0.5, SHA256: one.choice.random() < 0.4}
        if certain[SHA1]:
            one.put_link(SHA1, DATA, MD5)
        if certain[SHA256]:  # a migration was killed between its link and its rename
            new = one.path(digest_of(SHA256, DATA))
            new.parent.mkdir(exist_ok=True)
            new.hardlink_to(old)
        names = one.choice.choices(NAMED.algorithms, k=5)
        reader = one.process()
        one.run(
            partial(one.process().adopt, MD5),
            partial(one.process().remove, DATA, names[0], certain=certain[names[0]]),
            lambda: [reader.read(DATA, name, certain=certain[name]) for name in names],
            one.choice.choice(
                [
                    partial(one.process().adopt, MD5),
                    partial(one.process().upload, DATA, one.choice.choice([None, *NAMED.algorithms])),
                    partial(one.process().remove, DATA, MD5),
                ]
            ),
            killing=0.4,
        )
        one.process().adopt(MD5)
        assert not one.files(MD5)
        held.add(one.judge(DATA, [name for name in certain if name is not SHA1 or certain[SHA1]]))

    race(memory, [MIGRATING], one_round)
    assert held == {True, False}


def test_rule_4_migration_and_replaced_files(memory: Path) -> None:
    """A damaged file that is replaced while it is migrated never gets a primary name."""

    def one_round(one: Round) -> None:
        path = one.put_file(MD5, DATA)
        path.chmod(0o644)
        path.write_bytes(DATA[::-1] if one.choice.random() < 0.5 else b"cut")
        receipts = one.run(
            partial(one.process().upload, DATA),
            partial(one.process().adopt, MD5),
            partial(one.process().adopt, MD5),
            killing=0.2,
        )
        if receipts[0] is None:
            one.process().upload(DATA)
        else:
            assert receipts[0].created
        assert one.settled(DATA, NAMED.algorithms)

    race(memory, [MIGRATING], one_round)


def test_rule_7_a_listing_while_blobs_migrate(memory: Path) -> None:
    """Pages by the old names have each blob exactly once, wherever the migration is."""
    blobs = {digest_of(MD5, b"%d" % number): b"%d" % number for number in range(5)}

    def one_round(one: Round) -> None:
        for data in blobs.values():
            one.put_file(MD5, data)
        lister, migration, uploader = one.process(), one.process(), one.process()
        size = one.choice.randrange(1, 4)

        def pages() -> list[Digest]:
            found: list[Digest] = []
            while True:
                following = lister.store.iterate(found[-1] if found else None)
                page = [blob.digest for blob in islice(following, size)]
                if not page:
                    return found
                found += page

        def migrate() -> None:
            migration.names.change_marker(lambda _: MIGRATING)
            migration.adopt(MD5)

        listed, *_ = one.run(
            pages, migrate, lambda: [uploader.upload(data) for data in (b"another", b"0")], killing=0.2
        )
        if listed is not None:
            assert listed == sorted(set(listed), key=lambda digest: digest.raw)
            assert set(listed) - {digest_of(MD5, b"another")} == set(blobs)

    race(memory, [PLAIN, MIGRATING], one_round)


def test_rule_8_deleting_by_any_name_removes_the_blob(memory: Path) -> None:
    """Uploads, deletions and downloads by any name are linearisable, and the names agree in the end."""
    held = set()

    def one_round(one: Round) -> None:
        if one.choice.random() < 0.5:
            one.process().upload(DATA)
        one.run(
            partial(one.process().upload, DATA, one.choice.choice([None, *NAMED.algorithms])),
            by_any_name(one.process().remove, one.choice, 2),
            by_any_name(one.process().read, one.choice, 3),
            one.choice.choice([one.process().sweep, partial(one.process().upload, DATA)]),
            killing=0.3,
        )
        held.add(one.judge(DATA, NAMED.algorithms))

    race(memory, [NAMED], one_round)
    assert held == {True, False}
