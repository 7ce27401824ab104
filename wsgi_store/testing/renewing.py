"""Tests of stores that can renew a blob without its bytes."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from wsgi_store.digest import Digest
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Renewal
from wsgi_store.store.contract import Added, Blob, Store
from wsgi_store.testing.helpers import DATA, content, digest_of, put
from wsgi_store.testing.kind import StoreKind
from wsgi_store.testing.quarantine import Damage


class Renewing:
    """What `renew` does, if the store has it."""

    @staticmethod
    def able(store: Store) -> Renewal:
        """Return the store, if it has the ability."""
        if not isinstance(store, Renewal):
            pytest.skip("this kind of store renews nothing without its bytes")
        return store

    @pytest.fixture
    def strong(self, staging: Staging) -> Digest:
        """A blob."""
        return put(staging, DATA).digest

    @pytest.fixture
    def before(self, kind: StoreKind, root: Path, store: Store, strong: Digest) -> Blob:
        """The same, which has become old."""
        blob = store.stat(strong)
        kind.age(root, strong)
        return blob

    def test_a_renewed_blob_counts_as_added(self, store: Store, strong: Digest, before: Blob) -> None:
        """It gets a new time and keeps its bytes, and does not expire by its old time."""
        old = store.stat(strong).modified
        renewed = self.able(store).renew(strong, len(DATA))
        assert renewed is not None
        assert (renewed.added, renewed.names, renewed.ambiguous) == (Added.HELD, (strong,), ())
        after = store.stat(strong)
        assert after.modified > old
        assert abs(after.modified - time.time()) < 60
        assert replace(after, modified=before.modified) == before
        assert not store.expire(strong, old)
        assert content(store, strong) == DATA
        assert list(store.iterate()) == [after]

    def test_a_blob_that_is_new_enough(self, store: Store, strong: Digest) -> None:
        """Renewing it twice changes nothing else."""
        renewal = self.able(store)
        for _ in range(2):
            assert renewal.renew(strong, len(DATA))
        assert content(store, strong) == DATA
        assert store.remove(strong).size == len(DATA)
        assert renewal.renew(strong, len(DATA)) is None

    def test_what_cannot_be_renewed(
        self, store: Store, staging: Staging, strong: Digest, damage: Damage
    ) -> None:
        """An absent blob, another length, a damaged blob and one in quarantine need their bytes."""
        renewal = self.able(store)
        assert renewal.renew(digest_of(store.algorithm, b"never added"), 11) is None
        for size in (0, len(DATA) - 1, len(DATA) + 1):
            assert renewal.renew(strong, size) is None
        damage(strong, DATA[:-1])
        assert renewal.renew(strong, len(DATA)) is None
        assert store.quarantine(strong)
        for size in (len(DATA), len(DATA) - 1):
            assert renewal.renew(strong, size) is None
        assert put(staging, DATA).added is Added.HEALED
        assert renewal.renew(strong, len(DATA))
