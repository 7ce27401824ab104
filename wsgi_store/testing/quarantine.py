"""Damaged blobs: moved to quarantine, and healed by an upload of their bytes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, DigestCollision
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added, Store
from wsgi_store.testing.helpers import COLLIDING, absent, content, digest_of, put
from wsgi_store.testing.kind import StoreKind

BYTES = b"some bytes"
FLIPPED = b"some bytez"
Damage = Callable[[Digest, bytes], None]


class Quarantine:
    """What becomes of a blob whose bytes changed behind the back of the store."""

    @pytest.fixture
    def damage(self, kind: StoreKind, root: Path) -> Damage:
        """Changes the bytes of a blob."""
        return lambda digest, data: kind.damage(root, digest, data)

    def test_quarantine(self, store: Store, staging: Staging, damage: Damage) -> None:
        """A damaged blob in quarantine is absent, and its bytes are kept until they are discarded."""
        digest = put(staging, BYTES).digest
        damage(digest, FLIPPED)
        assert store.quarantine(digest) is True
        absent(store, digest)
        assert not list(store.iterate())
        (kept,) = store.quarantined()
        assert (kept.digest, kept.size) == (digest, len(FLIPPED))
        store.discard(digest)
        assert not list(store.quarantined())
        with pytest.raises(BlobNotFound):
            store.discard(digest)

    def test_a_good_blob_is_not_moved(self, store: Store, staging: Staging) -> None:
        """Whoever takes a good blob for a damaged one is told that it is not, and it stays."""
        digest = put(staging, BYTES).digest
        assert store.quarantine(digest) is False
        assert content(store, digest) == BYTES
        assert not list(store.quarantined())

    def test_what_was_never_added(self, store: Store) -> None:
        """What is absent cannot be moved to quarantine, and is not in it."""
        digest = digest_of(store.algorithm, b"never added")
        with pytest.raises(BlobNotFound):
            store.quarantine(digest)
        with pytest.raises(BlobNotFound):
            store.discard(digest)
        assert not list(store.quarantined())

    def test_an_upload_heals_a_blob_in_quarantine(
        self, store: Store, staging: Staging, damage: Damage
    ) -> None:
        """The first upload puts the blob back and clears its quarantine; the next one finds it held."""
        digest = put(staging, BYTES).digest
        other = put(staging, b"another").digest
        for one in (digest, other):
            damage(one, FLIPPED)
            assert store.quarantine(one)
        assert [put(staging, BYTES).added for _ in range(2)] == [Added.HEALED, Added.HELD]
        assert content(store, digest) == BYTES
        assert [blob.digest for blob in store.quarantined()] == [other]

    @pytest.mark.parametrize("damaged", [b"", BYTES[:-1], BYTES + b"more"], ids=repr)
    def test_an_upload_heals_a_blob_of_another_size(
        self, store: Store, staging: Staging, damage: Damage, damaged: bytes
    ) -> None:
        """A blob that was cut or grew is damaged for sure, and an upload puts its bytes there."""
        digest = put(staging, BYTES).digest
        damage(digest, damaged)
        receipt = put(staging, BYTES)
        assert (receipt.added, receipt.created, receipt.healed) == (Added.HEALED, True, True)
        assert put(staging, BYTES).added is Added.HELD
        assert content(store, digest) == BYTES
        assert not list(store.quarantined())

    def test_flipped_bits(self, store: Store, staging: Staging, damage: Damage) -> None:
        """Bits that flipped are seen by an upload where bytes are compared, and nowhere else."""
        digest = put(staging, BYTES).digest
        damage(digest, FLIPPED)
        compared = not store.algorithm.collision_resistant
        assert put(staging, BYTES).added is (Added.HEALED if compared else Added.HELD)
        assert content(store, digest) == (BYTES if compared else FLIPPED)

    @pytest.mark.parametrize("quarantined", [True, False])
    def test_uploads_that_heal_at_once(
        self, kind: StoreKind, store: Store, staging: Staging, damage: Damage, *, quarantined: bool
    ) -> None:
        """Of uploads at once that find a blob damaged exactly one says that it healed it."""
        with ThreadPoolExecutor(8) as pool:
            for turn in range(5 if kind.slow else 20):
                data = BYTES + bytes([turn])
                digest = put(staging, data).digest
                damage(digest, b"")
                if quarantined:
                    store.quarantine(digest)
                added = [receipt.added for receipt in pool.map(lambda one: put(staging, one), [data] * 8)]
                assert sorted(one.value for one in added) == ["healed"] + ["held"] * 7
                assert content(store, digest) == data

    def test_healing_and_quarantine_at_once(
        self, kind: StoreKind, store: Store, staging: Staging, damage: Damage
    ) -> None:
        """Whoever tries to move a blob while others heal it, the good blob is there in the end."""

        def quarantine(digest: Digest) -> None:
            for _ in range(5):
                try:
                    store.quarantine(digest)
                except BlobNotFound:
                    pass

        with ThreadPoolExecutor(4) as pool:
            for turn in range(10 if kind.slow else 50):
                data = BYTES + bytes([turn])
                digest = put(staging, data).digest
                damage(digest, b"")
                moving = [pool.submit(quarantine, digest) for _ in range(2)]
                healing = [pool.submit(put, staging, data) for _ in range(2)]
                for future in moving:
                    future.result()
                # An upload that found it held found it good: the one that healed it came before.
                added = sorted(future.result().added.value for future in healing)
                assert added == ["healed", "held"]
                assert content(store, digest) == data
                assert not list(store.quarantined())

    def test_a_real_collision_is_no_damage(self, kind: StoreKind, root: Path) -> None:
        """Other bytes with the same MD5 are refused, unless the blob held has not that MD5 any more."""
        store = kind.open(root, Algorithm.MD5)
        staging = kind.staging(store)
        first, second = COLLIDING
        digest = put(staging, first).digest
        with pytest.raises(DigestCollision):
            put(staging, second)
        assert store.quarantine(digest) is False
        kind.damage(root, digest, first[:-1] + b"?")
        assert put(staging, second).added is Added.HEALED
        with pytest.raises(DigestCollision):
            put(staging, first)
        assert content(store, digest) == second
