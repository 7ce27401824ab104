"""Tests of what a store does with many blobs at once."""

import time
from pathlib import Path

import pytest

from wsgi_store.digest import Digest
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import Renewal
from wsgi_store.store.contract import Added, Store
from wsgi_store.testing.helpers import DATA, digest_of, put
from wsgi_store.testing.kind import StoreKind
from wsgi_store.testing.quarantine import Damage

SOME = [b"", b"another", DATA, *(b"%d" % number * number for number in range(40))]


class Many:
    """What `sizes` and `renew_all` do."""

    @pytest.fixture
    def stored(self, staging: Staging) -> dict[Digest, int]:
        """Some blobs, with their sizes."""
        return {put(staging, data).digest: len(data) for data in SOME}

    @pytest.fixture
    def never(self, store: Store) -> list[Digest]:
        """Blobs that were never added, some of them beside others."""
        return [digest_of(store.algorithm, b"never added %d" % number) for number in range(40)]

    def test_sizes(self, store: Store, stored: dict[Digest, int], never: list[Digest]) -> None:
        """The blobs that are there have their sizes, and the others are left out."""
        assert store.sizes([]) == {}
        assert store.sizes(never) == {}
        assert store.sizes(stored.keys()) == stored
        assert store.sizes([*never, *reversed(stored)]) == stored
        for digest, size in stored.items():
            assert store.sizes({digest}) == {digest: size}

    def test_sizes_are_those_of_this_moment(
        self, store: Store, staging: Staging, stored: dict[Digest, int], damage: Damage
    ) -> None:
        """A damaged blob has the size of its file; one that was removed or quarantined has none."""
        removed, damaged, *_ = stored
        store.remove(removed)
        assert store.sizes(stored) == {digest: size for digest, size in stored.items() if digest != removed}
        damage(damaged, b"anything else")
        assert store.sizes(stored)[damaged] == len(b"anything else")
        assert store.quarantine(damaged)
        assert store.sizes([removed, damaged]) == {}
        for data in SOME[:2]:
            put(staging, data)
        assert store.sizes(stored) == stored

    @pytest.fixture
    def renewal(self, store: Store) -> Renewal:
        """The store, if it has the ability."""
        if not isinstance(store, Renewal):
            pytest.skip("this kind of store renews nothing without its bytes")
        return store

    def test_renewing_all(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self, kind: StoreKind, root: Path, store: Store, renewal: Renewal, stored: dict[Digest, int]
    ) -> None:
        """Blobs that are there get a new time, and do not expire by the old one; the others are told."""
        kind.age(root, list(stored)[-1])
        for digest in list(stored)[:3]:
            kind.age(root, digest)
        old = {digest: store.stat(digest).modified for digest in stored}
        asked = stored | {digest_of(store.algorithm, b"never added %d" % number): 5 for number in range(40)}
        assert renewal.renew_all({}) == set()
        assert renewal.renew_all(asked) == stored.keys()
        for digest in [*list(stored)[:3], list(stored)[-1]]:
            renewed = store.stat(digest).modified
            assert renewed > old[digest]
            assert abs(renewed - time.time()) < 60
            assert not store.expire(digest, old[digest])
        assert renewal.renew_all(asked) == store.sizes(asked).keys() == stored.keys()

    def test_what_is_not_renewed(
        self, store: Store, staging: Staging, renewal: Renewal, stored: dict[Digest, int], damage: Damage
    ) -> None:
        """Blobs of other sizes, removed ones, damaged ones and those in quarantine need their bytes."""
        removed, damaged, quarantined, wrong, *_ = stored
        store.remove(removed)
        for digest in (damaged, quarantined):
            damage(digest, b"anything else")
        assert store.quarantine(quarantined)
        asked = stored | {wrong: stored[wrong] + 1}
        lacks = {removed, damaged, quarantined, wrong}
        assert renewal.renew_all(asked) == stored.keys() - lacks
        assert renewal.renew_all({digest: asked[digest] for digest in lacks}) == set()
        assert put(staging, SOME[1]).added is Added.HEALED
        assert renewal.renew_all(stored) == stored.keys() - {removed, quarantined}
