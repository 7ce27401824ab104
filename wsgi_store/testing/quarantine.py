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
    """What happens to a blob whose bytes changed behind the store's back."""

    @pytest.fixture
    def damage(self, kind: StoreKind, root: Path) -> Damage:
        """Change the bytes of a blob."""
        return lambda digest, data: kind.damage(root, digest, data)

    def test_quarantine(self, store: Store, staging: Staging, damage: Damage) -> None:
        """A quarantined blob is absent, and its bytes are kept until they are discarded."""
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
        """A good blob is not moved to quarantine, and the caller is told so."""
        digest = put(staging, BYTES).digest
        assert store.quarantine(digest) is False
        assert content(store, digest) == BYTES
        assert not list(store.quarantined())

    def test_what_was_never_added(self, store: Store) -> None:
        """An absent blob cannot be quarantined, and is not listed in quarantine."""
        digest = digest_of(store.algorithm, b"never added")
        with pytest.raises(BlobNotFound):
            store.quarantine(digest)
        with pytest.raises(BlobNotFound):
            store.discard(digest)
        assert not list(store.quarantined())

    def test_an_upload_heals_a_blob_in_quarantine(
        self, store: Store, staging: Staging, damage: Damage
    ) -> None:
        """The first upload restores the blob and clears its quarantine; the next one finds it held."""
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
        """A blob of the wrong size is surely damaged, and an upload replaces it."""
        digest = put(staging, BYTES).digest
        damage(digest, damaged)
        receipt = put(staging, BYTES)
        assert (receipt.added, receipt.created, receipt.healed) == (Added.HEALED, True, True)
        assert put(staging, BYTES).added is Added.HELD
        assert content(store, digest) == BYTES
        assert not list(store.quarantined())

    def test_flipped_bits(self, store: Store, staging: Staging, damage: Damage) -> None:
        """An upload notices flipped bits if the store compares bytes, and otherwise does not."""
        digest = put(staging, BYTES).digest
        damage(digest, FLIPPED)
        compared = not store.algorithm.collision_resistant
        assert put(staging, BYTES).added is (Added.HEALED if compared else Added.HELD)
        assert content(store, digest) == (BYTES if compared else FLIPPED)

    @pytest.mark.parametrize("quarantined", [True, False])
    def test_uploads_that_heal_at_once(
        self, kind: StoreKind, store: Store, staging: Staging, damage: Damage, *, quarantined: bool
    ) -> None:
        """Of concurrent uploads that find a damaged blob exactly one heals it."""
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
        """When uploads heal a blob while others quarantine it, the good blob is there in the end."""

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
                # An upload that reports the blob as held found it good, after another upload healed it.
                added = sorted(future.result().added.value for future in healing)
                assert added == ["healed", "held"]
                assert content(store, digest) == data
                assert not list(store.quarantined())

    def test_a_real_collision_is_no_damage(self, kind: StoreKind, root: Path) -> None:
        """Other bytes with the same MD5 are refused, unless the held blob no longer has that MD5."""
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
