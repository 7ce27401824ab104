"""Tests of stores that keep further names of blobs."""

from contextlib import closing
from pathlib import Path

import pytest

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import DigestCollision
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.abilities import Hashed, Names, Renewal
from wsgi_store.store.contract import Added, Store
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

    def test_a_batch_gets_all_names(self, store: Store, staging: Staging) -> None:
        """Each name finds its blob, also if the files of a batch are equal or have a name in common."""
        first, second = COLLIDING
        data = [*SOME, DATA, first, second]
        outcomes = staging.receive_all(([one], ()) for one in data)
        receipts = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
        assert [receipt.created for receipt in receipts] == [True] * len(SOME) + [False, True, True]
        assert [receipt.names for receipt in receipts[:-2]] == [names_of(one) for one in data[:-2]]
        # Either of them may have the name that both could have.
        with_name, without = sorted(receipts[-2:], key=lambda receipt: len(receipt.ambiguous))
        assert (with_name.ambiguous, without.ambiguous) == ((), (OLD,))
        for receipt, one in zip(receipts, data, strict=True):
            assert [content(store, name) for name in receipt.names] == [one] * len(receipt.names)

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

    def test_renewing_by_any_name(self, kind: StoreKind, root: Path, store: Store, staging: Staging) -> None:
        """A blob is renewed by a further name, too; a name that leads nowhere renews nothing."""
        if not isinstance(store, Renewal):
            pytest.skip("this kind of store renews nothing without its bytes")
        names = names_of(DATA)
        put(staging, DATA)
        kind.age(root, names[0])
        old = store.stat(names[0]).modified
        for name in names:
            renewed = store.renew(name, len(DATA))
            assert renewed is not None
            assert renewed.names[0] == names[0]
            assert name in renewed.names
            assert set(renewed.names) <= set(names)
        assert store.stat(names[0]).modified > old
        assert [content(store, name) for name in names] == [DATA] * len(names)
        store.remove(names[1])
        assert [store.renew(name, len(DATA)) for name in names] == [None] * len(names)

    def test_many_by_any_name(self, kind: StoreKind, root: Path, store: Store, staging: Staging) -> None:
        """Many blobs are found by any of their names, and renewed by those that are collision resistant."""
        every = {name: len(data) for data in SOME for name in names_of(data)}
        assert store.sizes(every) == {}
        for data in SOME:
            put(staging, data)
        unknown = digest_of(Algorithm.SHA512, DATA)
        assert store.sizes([*every, unknown]) == every
        for data in SOME:
            kind.age(root, names_of(data)[0])
        old = store.stat(names_of(DATA)[0])
        if isinstance(store, Renewal):
            primary = {names_of(data)[0]: len(data) for data in SOME}
            assert store.renew_all(primary | {unknown: len(DATA)}) == primary.keys()
            assert store.stat(old.digest).modified > old.modified
            assert not store.expire(old.digest, old.modified)
        store.remove(names_of(DATA)[1])
        left = {name: size for name, size in every.items() if name not in names_of(DATA)}
        assert store.sizes(every) == left

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
