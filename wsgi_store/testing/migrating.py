"""Tests of stores whose blobs get other names while they are in use."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, DigestCollision
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.contract import Added, Store
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import COLLIDING, DATA, absent, content, digest_of, put
from wsgi_store.testing.kind import StoreKind
from wsgi_store.testing.naming import ALGORITHMS, OLD, PRIMARY, SOME, able, hashed, names_of


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
                assert opened.sizes([*olds, new]) == {
                    **{digest_of(OLD, one): len(one) for one in SOME},
                    new: len(data),
                }
                assert opened.stat(old).names == (new, old)
                # No blob moves behind a cursor.
                assert [blob.digest for blob in opened.iterate()] == olds
            assert len(list(able(store).strays(OLD))) == len(SOME) - done
        able(store).change_marker(lambda marker: Marker(PRIMARY, marker.names, made=marker.made))
        assert [blob.digest for blob in before.iterate(olds[0])] == olds[1:]
        assert sorted(blob.digest.raw for blob in before.iterate()) == sorted(
            digest_of(PRIMARY, data).raw for data in SOME
        )

    @staticmethod
    def under_both_names(kind: StoreKind, root: Path, primary: Algorithm, old: Algorithm) -> Store:
        """A store that keeps both names, with a file under each, as after a copy by hand."""
        store = kind.open(root / "old", primary)
        put(kind.staging(store), DATA)
        able(store).change_marker(lambda _: Marker(old))
        put(kind.staging(store), DATA)
        kind.damage(root / "old", digest_of(old, DATA), DATA)  # the same bytes, from another program
        made = store.made()
        able(store).change_marker(lambda _: Marker(primary, (old,), made=made))
        return store

    @pytest.mark.parametrize(("primary", "old"), [(PRIMARY, OLD), (OLD, PRIMARY)])
    def test_a_blob_under_both_names(
        self, kind: StoreKind, root: Path, primary: Algorithm, old: Algorithm
    ) -> None:
        """It becomes one file with both names, and is removed by either."""
        store = self.under_both_names(kind, root, primary, old)
        names = digest_of(primary, DATA), digest_of(old, DATA)
        assert [content(store, name) for name in names] == [DATA] * 2
        assert able(store).adopt([hashed(store, names[1], DATA)]) == [Adopted.JOINED]
        assert not list(able(store).strays(old))
        assert list(able(store).links(old)) == [names[::-1]]
        assert [content(store, name) for name in names] == [DATA] * 2
        store.remove(names[1])
        absent(store, names[0])

    @pytest.mark.parametrize(("primary", "old"), [(PRIMARY, OLD), (OLD, PRIMARY)])
    @pytest.mark.parametrize("damaged", [DATA[::-1], DATA[1:]], ids=["changed", "cut"])
    def test_damage_under_one_of_both_names(  # pylint: disable=too-many-arguments
        self, kind: StoreKind, root: Path, damaged: bytes, primary: Algorithm, old: Algorithm
    ) -> None:
        """A damaged file under the primary name goes to quarantine, and the good one takes its place."""
        store = self.under_both_names(kind, root, primary, old)
        names = digest_of(primary, DATA), digest_of(old, DATA)
        kind.damage(root / "old", names[0], damaged)
        assert able(store).adopt([hashed(store, names[1], DATA)]) == [Adopted.DAMAGED]
        assert [blob.digest for blob in store.quarantined()] == [names[0]]
        assert content(store, names[1]) == DATA
        assert able(store).adopt([hashed(store, names[1], DATA)]) == [Adopted.NAMED]
        assert [content(store, name) for name in names] == [DATA] * 2

    def test_a_different_file_under_the_primary_name(self, kind: StoreKind, root: Path) -> None:
        """Of two files with one primary name each stays where it is; neither is taken for damaged."""
        first, second = COLLIDING
        store = kind.open(root / "old", PRIMARY)
        put(kind.staging(store), second)
        able(store).change_marker(lambda _: Marker(OLD))
        put(kind.staging(store), first)
        made = store.made()
        able(store).change_marker(lambda _: Marker(OLD, (PRIMARY,), made=made))
        stray = digest_of(PRIMARY, second)
        assert able(store).adopt([hashed(store, stray, second)]) == [Adopted.CHANGED]
        assert not list(store.quarantined())
        assert (content(store, digest_of(OLD, first)), content(store, stray)) == (first, second)

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
        store.remove(digest_of(PRIMARY, COLLIDING[0]))
        mended: list[Digest] = []
        assert able(store).give_names([hashed(store, second, COLLIDING[1])], mended) == {second: []}
        assert content(store, digest_of(OLD, COLLIDING[1])) == COLLIDING[1]
        assert not mended, "it was no wrong name while its blob was there"
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
