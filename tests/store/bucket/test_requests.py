"""Each operation costs as many object store requests as the table in docs/object-storage.md says."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest

from tests.support.calling import call
from tests.support.engines import Between
from tests.support.kinds import BucketKind, content, digest_of, put
from tests.support.stops import Server
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.abilities import Renewal
from wsgi_store.store.bucket.keys import key_of
from wsgi_store.store.bucket.listing import PAGE
from wsgi_store.store.bucket.lookup import DENSE
from wsgi_store.store.contract import Durability, Remote, Store
from wsgi_store.store.marker import Marker
from wsgi_store.store.open import open_store

MIB = 1 << 20
SMALL, MIDDLE, LARGE = b"s" * 1000, b"m" * MIB, b"l" * (17 * MIB)


Requests = Callable[[Callable[[], object]], int]


def opened(tmp_path: Path, proxy: Between, *names: Algorithm) -> Store:
    """A store that has just tried its engine and looked into its quarantine."""
    remote = Remote(str(tmp_path), endpoint=proxy.url)
    store = open_store(BucketKind().url(tmp_path), Algorithm.SHA256, Durability.NONE, remote, names=names)
    store.check()
    store.seen = 60.0  # type: ignore[attr-defined]  # of a bucket
    put(Staging(store), b"the first one looks")
    return store


@pytest.fixture(name="requests")
def fixture_requests(proxy: Between) -> Requests:
    """Counts the requests of a call."""

    def requests(call: Callable[[], object]) -> int:
        proxy.seen.clear()
        call()
        print(Counter(one.method for one in proxy.seen), [one.path[-40:] for one in proxy.seen])
        return len(proxy.seen)

    return requests


def test_a_batch_looks_into_the_quarantine_once(tmp_path: Path, proxy: Between) -> None:
    """Threads that find at once that they have to look share one look."""
    store = opened(tmp_path, proxy)
    store._looked = float("-inf"), False  # type: ignore[attr-defined]  # pylint: disable=protected-access
    proxy.seen.clear()
    outcomes = Staging(store).receive_all(([b"%d" % number], ()) for number in range(64))
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    counts = Counter("LIST" if "list-type" in one.path else one.method for one in proxy.seen)
    assert (counts["PUT"], counts["LIST"]) == (64, 1)
    assert counts["GET"] <= 64 / 2  # of the marker


def test_requests(tmp_path: Path, proxy: Between, requests: Requests) -> None:
    """Each operation takes the number of requests in the table."""
    store = opened(tmp_path, proxy)
    staging = Staging(store)
    digests = [digest_of(Algorithm.SHA256, data) for data in (SMALL, MIDDLE, LARGE)]
    assert requests(lambda: put(staging, SMALL)) == 2
    assert requests(lambda: put(staging, MIDDLE)) == 3
    assert requests(lambda: put(staging, LARGE)) == 7 + 3
    assert requests(lambda: put(staging, SMALL)) == 3
    assert requests(lambda: put(staging, MIDDLE)) == 2
    for digest, data in zip(digests, (SMALL, MIDDLE, LARGE), strict=True):
        assert requests(lambda digest=digest: content(store, digest)) == 1  # type: ignore[misc]
        assert content(store, digest, 10, 5) == data[10:15]
    assert requests(lambda: store.url(digests[0], 60, "a/b", "")) == 1  # type: ignore[attr-defined]
    assert requests(lambda: store.remove(digests[0])) == 5
    assert requests(lambda: absent(store, digests[0])) == 2
    assert requests(lambda: list(store.iterate())) == 2
    assert requests(store.check) == 2


def test_requests_with_a_further_name(tmp_path: Path, proxy: Between, requests: Requests) -> None:
    """A further name costs uploads three requests more, and whoever uses it one."""
    store = opened(tmp_path, proxy, Algorithm.MD5)
    staging = Staging(store)
    small, middle = (digest_of(Algorithm.MD5, data) for data in (SMALL, MIDDLE))
    assert requests(lambda: put(staging, SMALL)) == 2 + 3
    assert requests(lambda: put(staging, MIDDLE)) == 3 + 3
    assert requests(lambda: put(staging, LARGE)) == 7 + 3 + 3
    assert requests(lambda: put(staging, SMALL)) == 3 + 2
    assert requests(lambda: put(staging, MIDDLE)) == 2 + 1
    assert requests(lambda: content(store, digest_of(Algorithm.SHA256, SMALL))) == 1
    assert requests(lambda: content(store, small)) == 2
    assert requests(lambda: store.url(small, 60, "a/b", "")) == 2  # type: ignore[attr-defined]
    assert requests(lambda: list(store.iterate())) == 2
    assert requests(lambda: list(store.iterate(algorithm=Algorithm.MD5))) == 3 + 2 * 4
    assert requests(lambda: store.remove(small)) == 6 + 3
    assert requests(lambda: absent(store, small)) == 6
    assert requests(lambda: store.remove(digest_of(Algorithm.SHA256, MIDDLE))) == 5 + 1
    assert requests(lambda: absent(store, middle)) == 6


def test_requests_about_many(tmp_path: Path, proxy: Between, requests: Requests) -> None:
    """Few blobs take a request each, many one for each page of a listing; renewing young ones, one more."""
    store = opened(tmp_path, proxy)
    assert isinstance(store, Renewal)
    staging = Staging(store)
    blobs = {put(staging, b"%d" % number).digest: len(b"%d" % number) for number in range(DENSE)}
    few = dict(list(blobs.items())[: DENSE - 1])
    never = [digest_of(Algorithm.SHA256, b"never added %d" % number) for number in range(DENSE)]
    assert requests(lambda: store.sizes([])) == 0
    assert requests(lambda: store.sizes(few)) == len(few)
    assert requests(lambda: store.sizes(blobs)) == 1
    assert requests(lambda: store.sizes(never[:3])) == 3 + 1
    assert requests(lambda: store.sizes([*never, *blobs])) == 1 + 1
    assert requests(lambda: store.renew_all(few)) == len(few) + 1
    assert requests(lambda: store.renew_all(blobs)) == 1 + 1


def test_a_sparse_list(tmp_path: Path, proxy: Between) -> None:
    """Where few of a page are wanted, the others are asked for one by one, and none is missed."""
    store = opened(tmp_path, proxy)
    data = [b"%d" % number for number in range(3 * PAGE)]
    client = store._bucket.client  # type: ignore[attr-defined]  # pylint: disable=protected-access
    every = sorted((digest_of(Algorithm.SHA256, one) for one in data), key=lambda digest: digest.raw)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda digest: obstore.put(client, key_of(digest), b"some"), every))
    never = [digest_of(Algorithm.SHA256, b"never added %d" % number) for number in range(10)]
    for step in (10, 100, 40):
        wanted = every[::step]
        proxy.seen.clear()
        assert store.sizes([*wanted, *never]) == dict.fromkeys(wanted, 4)
        lists = [one for one in proxy.seen if "list-type=2" in one.path]
        if PAGE / step >= DENSE:
            assert len(lists) in (3, 4)
            assert len(proxy.seen) < len(lists) + DENSE + 1
        else:
            assert len(lists) == (len(wanted) + len(never) >= DENSE)
            assert len(proxy.seen) <= len(lists) + len(wanted) + len(never) + 1


def test_requests_of_a_migration(tmp_path: Path, proxy: Between, requests: Requests) -> None:
    """A blob that moves takes ten requests, and three for each further name."""
    for names, expected in (((Algorithm.MD5,), 13), ((Algorithm.MD5, Algorithm.SHA1), 16)):
        server = Server(tmp_path / str(expected), proxy.url)
        server.make(Marker(Algorithm.SHA256, names, Algorithm.MD5))
        server.put_stray(Algorithm.MD5, SMALL)
        assert requests(server.adopt_all) == expected + 2 + len(names)


def test_a_list_that_begins_with_a_prefix(tmp_path: Path, proxy: Between) -> None:
    """The engine begins its list at the prefix: no page before it is asked for, and none behind it."""
    remote = {"s3_staging": str(tmp_path), "s3_endpoint": proxy.url}
    application = create_app(Config(root=BucketKind().url(tmp_path), min_free=0, **remote))
    hashes = sorted(call(application, "POST", body=b"%d" % number).json["hash"] for number in range(20))
    for prefix in (hashes[10][:4], hashes[10], "f" * 64):
        proxy.seen.clear()
        found = call(application, path="/files", query=f"prefix={prefix}").json["files"]
        assert [one["hash"] for one in found] == [one for one in hashes if one.startswith(prefix)]
        lists = [one.path for one in proxy.seen if "list-type=2" in one.path]
        assert len(lists) == 1 and "start-after=" in lists[0]


def absent(store: Store, digest: Digest) -> None:
    """Look for a blob that is not there."""
    with pytest.raises(BlobNotFound):
        store.stat(digest)
