"""Tests that add several blobs together."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random

from wsgi_store.digest import Algorithm
from wsgi_store.errors import DigestCollision, StoreError
from wsgi_store.hashing import Hasher
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added, Publication, Store
from wsgi_store.testing.helpers import COLLIDING, DATA, content, digest_of, put
from wsgi_store.testing.kind import StoreKind

SEVERAL = [b"%d" % number for number in range(40)]


def add_all(store: Store, staging: Staging, files: list[bytes]) -> list[Publication | StoreError]:
    """Stage these files, and let the store add them."""
    with ExitStack() as stack:
        staged = []
        for data in files:
            one = stack.enter_context(staging.create())
            hasher = Hasher(store.algorithm, names=store.algorithms[1:])
            staging.fill(one, [data], hasher.update)
            one.digests = hasher.digests()
            staging.seal(one, len(data))
            staged.append(one)
        return store.add_all(staged)


def told(outcomes: list[Publication | StoreError]) -> list[Added | type[StoreError]]:
    """What became of each file."""
    return [one.added if isinstance(one, Publication) else type(one) for one in outcomes]


class Adding:
    """What `add_all` does is what `add` does for each file."""

    def test_add_all(self, kind: StoreKind, store: Store, staging: Staging) -> None:
        """Every file is added, in the order of the files, and a blob that is there is renewed."""
        assert not add_all(store, staging, [])
        held = put(staging, SEVERAL[7]).digest
        before = store.stat(held).modified
        time.sleep(kind.tick)
        outcomes = add_all(store, staging, SEVERAL)
        expected = [Added.CREATED] * len(SEVERAL)
        expected[7] = Added.HELD
        assert outcomes == [
            Publication(added, (digest_of(store.algorithm, data),))
            for added, data in zip(expected, SEVERAL, strict=True)
        ]
        assert {blob.digest for blob in store.iterate()} == {
            digest_of(store.algorithm, data) for data in SEVERAL
        }
        assert [content(store, digest_of(store.algorithm, data)) for data in SEVERAL] == SEVERAL
        assert store.stat(held).modified > before

    def test_add_all_of_equal_files(self, store: Store, staging: Staging) -> None:
        """Of equal files the first one is created."""
        outcomes = add_all(store, staging, [DATA, b"", DATA, b"", b"another", DATA])
        created, held = Added.CREATED, Added.HELD
        assert told(outcomes) == [created, created, held, held, created, held]
        assert len(list(store.iterate())) == 3

    def test_add_all_from_threads(self, store: Store, staging: Staging, kind: StoreKind) -> None:
        """Of concurrent batches of the same files in any order, exactly one creates each blob."""
        random = Random(0)
        with ThreadPoolExecutor(8) as pool:
            for round_ in range(2 if kind.slow else 10):
                files = [b"%d %d" % (round_, number) for number in range(12)]
                orders = [random.sample(files, len(files)) for _ in range(8)]
                done = list(pool.map(lambda order: add_all(store, staging, order), orders))
                created = [
                    data
                    for order, outcomes in zip(orders, done, strict=True)
                    for data, added in zip(order, told(outcomes), strict=True)
                    if added is Added.CREATED
                ]
                assert sorted(created) == sorted(files)
                assert {added for outcomes in done for added in told(outcomes)} == {
                    Added.CREATED,
                    Added.HELD,
                }
                assert [content(store, digest_of(store.algorithm, data)) for data in files] == files

    def test_add_all_heals(self, kind: StoreKind, store: Store, staging: Staging, root: Path) -> None:
        """Damaged blobs are replaced, and those in quarantine are brought back."""
        short, away = put(staging, b"short").digest, put(staging, b"away").digest
        kind.damage(root, short, b"shor")
        kind.damage(root, away, b"a***")
        assert store.quarantine(away)
        outcomes = add_all(store, staging, [b"new", b"short", b"away", b"short", b"away"])
        assert told(outcomes) == [Added.CREATED, Added.HEALED, Added.HEALED, Added.HELD, Added.HELD]
        assert (content(store, short), content(store, away)) == (b"short", b"away")
        assert not list(store.quarantined())

    def test_add_all_of_different_files_with_one_digest(
        self, store: Store, staging: Staging, algorithm: Algorithm
    ) -> None:
        """A collision refuses one file alone."""
        outcomes = add_all(store, staging, [b"before", COLLIDING[1], COLLIDING[0], b"behind", COLLIDING[1]])
        collides = algorithm is Algorithm.MD5
        assert told(outcomes) == [
            Added.CREATED,
            Added.CREATED,
            DigestCollision if collides else Added.CREATED,
            Added.CREATED,
            Added.HELD,
        ]
        assert content(store, digest_of(algorithm, COLLIDING[1])) == COLLIDING[1]
        assert len(list(store.iterate())) == (3 if collides else 4)
