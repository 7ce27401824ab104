"""Optional abilities of stores: checked with isinstance, also through a wrapper."""

from pathlib import Path

import pytest

from tests.support.kinds import EVERY_KIND, BucketKind, Kind
from wsgi_store.digest import Algorithm
from wsgi_store.metrics.prometheus import TimedStore
from wsgi_store.store.abilities import EarlyUploads, Leftovers, LocalPaths, Renewal, SignedURLs
from wsgi_store.store.contract import Store

IN_A_BUCKET = {EarlyUploads, Leftovers, SignedURLs}


@pytest.mark.parametrize("kind", EVERY_KIND, ids=str)
def test_abilities(tmp_path: Path, kind: Kind) -> None:
    """A store, timed or not, has exactly the abilities of its kind, and timing hides no method."""
    store = kind.open(tmp_path, Algorithm.MD5)
    timed = TimedStore(store)
    for ability in (*IN_A_BUCKET, LocalPaths):
        has = (ability in IN_A_BUCKET) is isinstance(kind, BucketKind)
        assert isinstance(store, ability) is isinstance(timed, ability) is has, ability
    assert isinstance(store, Renewal) and isinstance(timed, Renewal)
    public = {name for name in dir(store) if not name.startswith("_")}
    assert all(hasattr(timed, name) for name in public)


def test_a_wrapper_is_a_store(tmp_path: Path) -> None:
    """A timed store counts as a Store for the type checker, and has every member of the contract."""
    store: Store = TimedStore(EVERY_KIND[0].open(tmp_path, Algorithm.SHA256))
    assert store.algorithm is Algorithm.SHA256
    assert not list(store.iterate())
    assert not store.read_only
