"""Tests of stores that keep further names of blobs."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, DigestCollision
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Adopted, Hashed, Names
from wsgi_store.store.contract import Added, Store
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import COLLIDING, DATA, absent, content, digest_of, put
from wsgi_store.testing.kind import StoreKind

# The primary one first.
ALGORITHMS = (Algorithm.SHA256, Algorithm.MD5, Algorithm.SHA1)
PRIMARY, OLD = ALGORITHMS[:2]
SOME = [DATA, b"", b"another", b"x" * 100_000]


def names_of(data: bytes) -> tuple[Digest, ...]:
    """All names of some bytes, the primary one first."""
    return tuple(digest_of(algorithm, data) for algorithm in ALGORITHMS)


def hashed(store: Store, name: Digest, data: bytes) -> Hashed:
    """A blob as somebody knows it who read it now."""
    with closing(store.open(name)) as reader:
        assert reader.read() == data
        return Hashed(name, reader.stamp, {one: digest_of(one, data) for one in store.algorithms})


def able(store: Store) -> Names:
    """The store, which has the ability."""
    assert isinstance(store, Names)
    return store


class Naming:
    """Every operation takes any of a blob's names."""

    def test_an_upload_gets_all_names(self, store: Store, staging: Staging) -> None:
        """Each name finds the blob, whichever upload made it."""
        assert store.algorithms == ALGORITHMS
        assert store.algorithm is PRIMARY
        for data in SOME:
            names = names_of(data)
            for added in (Added.CREATED, Added.HELD):
                receipt = put(staging, data)
                assert (receipt.added, receipt.digest, receipt.names) == (added, names[0], names)
                assert receipt.ambiguous == ()
            for name in names:
                blob = store.stat(name)
                assert (blob.digest, blob.size, blob.names[0]) == (name, len(data), names[0])
                assert name in blob.names
                assert content(store, name) == data
                assert content(store, name, 3, 5) == data[3:8]

    def test_removing_by_any_name(self, store: Store, staging: Staging) -> None:
        """A blob is gone under all its names, and comes back under all."""
        names = names_of(DATA)
        for name in names:
            assert put(staging, DATA).added is Added.CREATED
            assert store.remove(name).size == len(DATA)
            for other in names:
                absent(store, other)
            for algorithm in ALGORITHMS:
                assert not list(store.iterate(algorithm=algorithm))
        put(staging, DATA)
        assert [content(store, name) for name in names] == [DATA] * len(names)

    def test_a_condition_on_removing(self, store: Store, staging: Staging) -> None:
        """The condition sees the name that was asked for, and keeps the blob."""
        names = names_of(DATA)
        put(staging, DATA)
        for name in names:

            def refuse(blob: object, name: Digest = name) -> None:
                assert getattr(blob, "digest") == name  # noqa: B009  # the argument is an object
                raise RuntimeError

            with pytest.raises(RuntimeError):
                store.remove(name, refuse)
            assert content(store, name) == DATA

    def test_expiring_by_any_name(self, kind: StoreKind, root: Path, store: Store, staging: Staging) -> None:
        """A blob expires under all its names, unless it was added since."""
        names = names_of(DATA)
        for name in names[: 2 if kind.slow else None]:
            put(staging, DATA)
            kind.age(root, names[0])
            modified = store.stat(name).modified
            assert not store.expire(name, modified - 1)
            assert store.expire(name, modified)
            assert not store.expire(name, modified)
            absent(store, names[0])

    def test_a_damaged_blob(self, kind: StoreKind, root: Path, store: Store, staging: Staging) -> None:
        """A damaged blob goes to quarantine by any of its names, and an upload heals it under all."""
        names = names_of(DATA)
        for name in names:
            put(staging, DATA)
            assert not store.quarantine(name)
            kind.damage(root, names[0], DATA[::-1])
            assert store.quarantine(name)
            for other in names:
                absent(store, other)
            assert [blob.digest for blob in store.quarantined()] == [names[0]]
            assert put(staging, DATA).added is Added.HEALED
            assert not list(store.quarantined())
            assert [content(store, other) for other in names] == [DATA] * len(names)

    def test_iterating_by_each_algorithm(self, store: Store, staging: Staging) -> None:
        """Blobs are listed in the order of their names by the algorithm of the cursor."""
        data = [str(number).encode() for number in range(12)]
        for one in data:
            put(staging, one)
        store.remove(digest_of(PRIMARY, data.pop()))
        assert [blob.digest for blob in store.iterate()] == [
            blob.digest for blob in store.iterate(algorithm=PRIMARY)
        ]
        for algorithm in ALGORITHMS:
            expected = sorted((digest_of(algorithm, one) for one in data), key=lambda name: name.raw)
            assert [blob.digest for blob in store.iterate(algorithm=algorithm)] == expected
            for at, name in enumerate(expected):
                assert [blob.digest for blob in store.iterate(name)] == expected[at + 1 :]
        for blob in store.iterate(algorithm=OLD):
            assert blob.names[0].algorithm is PRIMARY

    def test_two_files_with_one_name(self, store: Store, staging: Staging) -> None:
        """The second is stored under its other names, and the answer says so."""
        first, second = COLLIDING
        put(staging, first)
        receipt = put(staging, second)
        primary, name, other = names_of(second)
        assert (receipt.added, receipt.ambiguous) == (Added.CREATED, (OLD,))
        assert receipt.names == (primary, other)
        assert put(staging, second).ambiguous == (OLD,)
        assert put(staging, first).ambiguous == ()
        assert content(store, name) == first
        assert content(store, primary) == content(store, other) == second
        store.remove(digest_of(PRIMARY, first))
        absent(store, name)
        assert put(staging, second).ambiguous == ()
        assert content(store, name) == second

    def test_a_name_that_belongs_to_another_file(self, store: Store, staging: Staging) -> None:
        """An upload that has to get that name is refused, and nothing is stored."""
        first, second = COLLIDING
        primary, name, other = names_of(second)
        put(staging, first)
        with pytest.raises(DigestCollision) as caught:
            staging.receive([second], expected=[name], under=name)
        assert caught.value.hash == name.hex
        for one in (primary, other):
            absent(store, one)
        assert staging.receive([first], expected=[name], under=name).added is Added.HELD
        assert staging.receive([second], expected=[other], under=other).ambiguous == (OLD,)

    def test_names_that_lead_nowhere(self, store: Store, staging: Staging) -> None:
        """They are swept, and only they; an upload makes them anew."""
        for data in SOME:
            put(staging, data)
        names = names_of(DATA)
        store.remove(names[0])
        assert set(able(store).sweep_names(remove=False)) <= {name.hex for name in names[1:]}
        list(able(store).sweep_names(remove=True))
        assert not list(able(store).sweep_names(remove=True))
        assert not [name for name, _ in able(store).links(OLD) if name == names[1]]
        put(staging, DATA)
        for data in SOME:
            assert [content(store, name) for name in names_of(data)] == [data] * len(names)


class Migrating:
    """A store gets names, another primary algorithm, and loses names, while it is in use."""

    @staticmethod
    def begun(kind: StoreKind, root: Path, *data: bytes) -> tuple[Store, Store]:
        """A store with md5 and some blobs whose migration has begun: as opened before, and after."""
        before = kind.open(root / "old", OLD)
        for one in data:
            put(kind.staging(before), one)
        able(before).change_marker(lambda _: Marker(PRIMARY, (OLD,), OLD, time.time(), before.made()))
        return before, kind.open(root / "old", None)

    def test_every_old_name_works(self, kind: StoreKind, root: Path) -> None:
        """A blob is found by its old name before, while and after it gets its primary one."""
        before, store = self.begun(kind, root, *SOME)
        olds = sorted((digest_of(OLD, data) for data in SOME), key=lambda name: name.raw)
        assert [blob.digest for blob in able(store).strays(OLD)] == olds
        for done, data in enumerate(SOME, 1):
            old, new = digest_of(OLD, data), digest_of(PRIMARY, data)
            for opened in (before, store):
                absent(opened, new)
                assert content(opened, old) == data
            assert able(store).adopt([hashed(store, old, data)]) == [Adopted.NAMED]
            assert able(store).adopt([Hashed(old, None, {PRIMARY: new})]) == [Adopted.HELD]
            for opened in (before, store):
                assert content(opened, old) == content(opened, new) == data
                assert opened.stat(old).names == (new, old)
                # No blob moves behind a cursor.
                assert [blob.digest for blob in opened.iterate()] == olds
            assert len(list(able(store).strays(OLD))) == len(SOME) - done
        able(store).change_marker(lambda marker: Marker(PRIMARY, marker.names, made=marker.made))
        assert [blob.digest for blob in before.iterate(olds[0])] == olds[1:]
        assert sorted(blob.digest.raw for blob in before.iterate()) == sorted(
            digest_of(PRIMARY, data).raw for data in SOME
        )

    def test_what_changed_since_it_was_read(self, kind: StoreKind, root: Path) -> None:
        """A file that was removed is gone; one that was replaced is read again."""
        _, store = self.begun(kind, root, DATA, b"another")
        old = digest_of(OLD, DATA)
        found = hashed(store, old, DATA)
        kind.damage(root / "old", old, DATA[::-1] + b"more")
        assert able(store).adopt([found]) == [Adopted.CHANGED]
        found = hashed(store, digest_of(OLD, b"another"), b"another")
        store.remove(found.digest)
        assert able(store).adopt([found]) == [Adopted.GONE]

    def test_an_upload_names_what_is_there(self, kind: StoreKind, root: Path) -> None:
        """An upload of the bytes of a blob without a primary name finds it, and gives it all its names."""
        before, store = self.begun(kind, root, *SOME)
        for opened, data in zip((before, store) * 2, SOME, strict=True):
            receipt = put(kind.staging(opened), data)
            assert (receipt.added, receipt.ambiguous) == (Added.HELD, ())
            assert receipt.names == (digest_of(PRIMARY, data), digest_of(OLD, data))
            assert content(store, receipt.digest) == data
        assert not list(able(store).strays(OLD))

    def test_a_collision_with_what_is_there(self, kind: StoreKind, root: Path) -> None:
        """A different file with the old name of a blob does not get it, before or after the blob moves."""
        first, second = COLLIDING
        _, store = self.begun(kind, root, first)
        old = digest_of(OLD, first)
        staging = kind.staging(store)
        assert put(staging, second).ambiguous == (OLD,)
        assert content(store, old) == first
        with pytest.raises(DigestCollision):
            staging.receive([second], expected=[old], under=old)
        assert able(store).adopt([hashed(store, old, first)]) == [Adopted.NAMED]
        assert put(staging, second).ambiguous == (OLD,)
        assert content(store, old) == content(store, digest_of(PRIMARY, first)) == first

    def test_a_damaged_blob_without_a_primary_name(self, kind: StoreKind, root: Path) -> None:
        """An upload heals it; or it goes to quarantine, and then an upload heals it."""
        _, store = self.begun(kind, root, DATA, b"another")
        old = digest_of(OLD, DATA)
        kind.damage(root / "old", old, DATA[::-1])
        assert put(kind.staging(store), DATA).added is Added.HEALED
        assert content(store, old) == content(store, digest_of(PRIMARY, DATA)) == DATA
        other = digest_of(OLD, b"another")
        kind.damage(root / "old", other, b"damaged")
        assert store.quarantine(other)
        assert [blob.digest for blob in store.quarantined()] == [other]
        assert put(kind.staging(store), b"another").added is Added.HEALED
        assert not list(store.quarantined())

    def test_removing_what_awaits_a_migration(self, kind: StoreKind, root: Path) -> None:
        """Blobs are removed by their old names before, and by both names after they have both."""
        _, store = self.begun(kind, root, *SOME)
        store.remove(digest_of(OLD, SOME[0]))
        absent(store, digest_of(OLD, SOME[0]))
        for data, algorithm in zip(SOME[1:3], (OLD, PRIMARY), strict=True):
            able(store).adopt([hashed(store, digest_of(OLD, data), data)])
            store.remove(digest_of(algorithm, data))
            absent(store, digest_of(OLD, data))
            absent(store, digest_of(PRIMARY, data))
        assert [blob.digest for blob in store.iterate()] == [digest_of(OLD, SOME[3])]

    def test_names_for_what_is_there(self, kind: StoreKind, root: Path) -> None:
        """Blobs get further names; of two that would share one, the first keeps it."""
        store = kind.open(root / "new", PRIMARY)
        staging = kind.staging(store)
        for data in (*SOME, *COLLIDING):
            put(staging, data)
        able(store).change_marker(lambda _: Marker(PRIMARY, ALGORITHMS[1:], made=store.made()))
        for data in (*SOME, COLLIDING[0]):
            primary = digest_of(PRIMARY, data)
            assert able(store).give_names([hashed(store, primary, data)]) == {primary: []}
            assert [content(store, name) for name in names_of(data)] == [data] * len(ALGORITHMS)
        second = digest_of(PRIMARY, COLLIDING[1])
        assert able(store).give_names([hashed(store, second, COLLIDING[1])]) == {second: [OLD]}
        gone = hashed(store, second, COLLIDING[1])
        store.remove(second)
        assert able(store).give_names([gone]) == {}

    def test_dropping_names(self, kind: StoreKind, root: Path, store: Store, staging: Staging) -> None:
        """Names by an algorithm that is not kept any more find nothing, and are swept."""
        other = kind.open(root, None)
        for data in SOME:
            put(staging, data)
        able(store).change_marker(lambda marker: Marker(PRIMARY, (Algorithm.SHA1,), made=marker.made))
        assert other.refresh() == store.algorithms
        for opened in (store, other):
            asks: list[Callable[[Digest], object]] = [opened.stat, opened.open, opened.remove]
            for ask in asks:
                with pytest.raises(BlobNotFound):
                    ask(digest_of(OLD, DATA))
        assert set(able(store).sweep_names(remove=True)) == {digest_of(OLD, data).hex for data in SOME}
        assert put(staging, b"more").names == (
            digest_of(PRIMARY, b"more"),
            digest_of(Algorithm.SHA1, b"more"),
        )
        for data in SOME:
            assert content(other, digest_of(Algorithm.SHA1, data)) == data

    def test_names_that_lead_to_old_names(self, kind: StoreKind, root: Path) -> None:
        """A further name works before and after its blob gets another primary name."""
        store = kind.open_named(root / "old", OLD, [Algorithm.SHA1])
        put(kind.staging(store), DATA)
        made = store.made()
        able(store).change_marker(lambda _: Marker(PRIMARY, (OLD, Algorithm.SHA1), OLD, made, made))
        names = names_of(DATA)
        assert content(store, names[2]) == DATA
        able(store).adopt([hashed(store, names[1], DATA)])
        assert [content(store, name) for name in names] == [DATA] * len(names)
        list(able(store).settle_names())
        assert [target for _, target in able(store).links(Algorithm.SHA1)] == [names[0]]
        able(store).change_marker(lambda marker: Marker(PRIMARY, (Algorithm.SHA1,), made=made))
        assert content(store, names[2]) == DATA

    def test_removing_a_wrong_name(self, store: Store, staging: Staging) -> None:
        """A further name is removed only if it leads where it was seen to lead."""
        put(staging, DATA)
        primary, old, _ = names_of(DATA)
        assert (old, primary) in list(able(store).links(OLD))
        assert not able(store).remove_link(old, digest_of(PRIMARY, b"another"))
        assert content(store, old) == DATA
        assert able(store).remove_link(old, primary)
        absent(store, old)
        assert content(store, primary) == DATA
