"""Each operation costs as many object store requests as the table in docs/object-storage.md says."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engines import Between
from tests.support.kinds import BucketKind, content, digest_of, put
from wsgi_store.digest import Algorithm
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability, Remote, Store
from wsgi_store.store.open import open_store

MIB = 1 << 20
SMALL, MIDDLE, LARGE = b"s" * 1000, b"m" * MIB, b"l" * (17 * MIB)


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path, proxy: Between) -> Store:
    """A store that has just tried its engine and looked into its quarantine."""
    remote = Remote(str(tmp_path), endpoint=proxy.url)
    store = open_store(BucketKind().url(tmp_path), Algorithm.SHA256, Durability.NONE, remote)
    store.check()
    store.seen = 60.0  # type: ignore[attr-defined]  # of a bucket
    put(Staging(store), b"the first one looks")
    return store


def test_requests(proxy: Between, store: Store) -> None:
    """Each operation takes the number of requests in the table."""
    staging = Staging(store)

    def requests(call: Callable[[], object]) -> int:
        proxy.seen.clear()
        call()
        print(Counter(one.method for one in proxy.seen), [one.path[-40:] for one in proxy.seen])
        return len(proxy.seen)

    digests = [digest_of(Algorithm.SHA256, data) for data in (SMALL, MIDDLE, LARGE)]
    assert requests(lambda: put(staging, SMALL)) == 1
    assert requests(lambda: put(staging, MIDDLE)) == 2
    assert requests(lambda: put(staging, LARGE)) == 6 + 3
    assert requests(lambda: put(staging, SMALL)) == 2
    assert requests(lambda: put(staging, MIDDLE)) == 1
    for digest, data in zip(digests, (SMALL, MIDDLE, LARGE), strict=True):
        assert requests(lambda digest=digest: content(store, digest)) == 1  # type: ignore[misc]
        assert content(store, digest, 10, 5) == data[10:15]
    assert requests(lambda: store.remove(digests[0])) == 4
    assert requests(lambda: list(store.iterate())) == 1
    assert requests(store.check) == 2
