"""Tests that add and remove blobs."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Added, Blob, Store
from wsgi_store.testing.helpers import DATA, content, digest_of, put, removed_by
from wsgi_store.testing.kind import StoreKind


class Changing:
    """What `add`, `remove` and `expire` do, one after another and concurrently."""

    def test_add_tells_what_is_new(self, kind: StoreKind, store: Store, staging: Staging) -> None:
        """The first upload of some bytes creates the blob, the second finds it and renews its time."""
        first = put(staging, DATA)
        blob = store.stat(first.digest)
        time.sleep(kind.tick)
        second = put(staging, DATA)
        assert (first.added, second.added) == (Added.CREATED, Added.HELD)
        assert first.digest == second.digest
        renewed = store.stat(first.digest)
        assert renewed.modified > blob.modified
        assert replace(renewed, modified=blob.modified) == blob
        assert content(store, first.digest) == DATA
        assert list(store.iterate()) == [renewed]

    def test_a_blob_is_visible_only_whole(self, store: Store, staging: Staging) -> None:
        """A blob appears only after its last byte was received and checked."""

        def chunks() -> Iterator[bytes]:
            for at in range(0, len(DATA), 512):
                yield DATA[at : at + 512]
                assert not list(store.iterate())
                with pytest.raises(BlobNotFound):
                    store.stat(digest_of(store.algorithm, DATA))

        assert store.stat(staging.receive(chunks()).digest).size == len(DATA)

    def test_threads_that_add_the_same_bytes(self, store: Store, staging: Staging) -> None:
        """Of 16 concurrent uploads of the same bytes exactly one creates the blob, every time."""
        with ThreadPoolExecutor(16) as pool:
            for round_ in range(20):
                data = DATA + bytes([round_])
                receipts = list(pool.map(lambda data: put(staging, data), [data] * 16))
                assert sum(receipt.created for receipt in receipts) == 1
                assert content(store, receipts[0].digest) == data

    def test_adding_removing_and_reading_at_once(self, store: Store, staging: Staging) -> None:
        """In any order of uploads, removals and downloads, a reader gets a whole blob or none."""
        digest = digest_of(store.algorithm, DATA)

        def churn(worker: int) -> int:
            balance = 0
            for turn in range(60):
                try:
                    if (worker + turn) % 3 == 0:
                        balance += put(staging, DATA).created
                    elif (worker + turn) % 3 == 1:
                        store.remove(digest)
                        balance -= 1
                    else:
                        assert content(store, digest) == DATA
                except BlobNotFound:
                    pass
            return balance

        with ThreadPoolExecutor(8) as pool:
            balance = sum(pool.map(churn, range(8)))
        # Creations and removals alternate, so the balance is the number of blobs left.
        assert balance == len(list(store.iterate()))
        assert balance in (0, 1)

    def test_remove(self, store: Store, staging: Staging) -> None:
        """Removing a blob twice fails the second time, and the bytes can be added again."""
        digest = put(staging, DATA).digest
        other = put(staging, b"another").digest
        store.remove(digest)
        with pytest.raises(BlobNotFound):
            store.remove(digest)
        with pytest.raises(BlobNotFound):
            store.stat(digest)
        with pytest.raises(BlobNotFound):
            store.open(digest)
        assert [blob.digest for blob in store.iterate()] == [other]
        assert put(staging, DATA).created
        assert content(store, digest) == DATA

    def test_remove_of_an_absent_blob(self, store: Store) -> None:
        """A blob that was never added cannot be removed."""
        with pytest.raises(BlobNotFound):
            store.remove(digest_of(store.algorithm, b"never added"))

    def test_removals_at_once(self, store: Store, staging: Staging) -> None:
        """Of 16 concurrent removals exactly one succeeds."""
        assert removed_by(store, put(staging, DATA).digest, 16) == 1

    def test_remove_on_a_condition(self, kind: StoreKind, store: Store, staging: Staging, root: Path) -> None:
        """No upload of the same bytes comes between the check of a condition and the removal."""
        digest = put(staging, DATA).digest

        def refuse(blob: Blob) -> None:
            raise KeyError(blob.digest.hex)

        with pytest.raises(KeyError, match=digest.hex):
            store.remove(digest, refuse)
        assert content(store, digest) == DATA
        kind.age(root, digest)
        with ThreadPoolExecutor(1) as pool:
            uploads: list[Future[Receipt]] = []

            def check(_: Blob) -> None:
                uploads.append(pool.submit(put, staging, DATA))
                assert not wait(uploads, 0.3).done

            store.remove(digest, check)
            assert uploads[0].result(20).added is Added.CREATED
        assert content(store, digest) == DATA

    def test_expire(self, kind: StoreKind, store: Store, staging: Staging, root: Path) -> None:
        """A blob expires once, provided it is the one looked at and was not uploaded since."""
        digest = put(staging, DATA).digest
        kind.age(root, digest)
        then = store.stat(digest).modified
        assert store.expire(digest, then - 1) is False
        assert put(staging, DATA).added is Added.HELD
        assert store.expire(digest, then) is False
        assert content(store, digest) == DATA
        kind.age(root, digest)
        then = store.stat(digest).modified
        assert store.expire(digest, then) is True
        assert store.expire(digest, then) is False
        assert not list(store.iterate())
        assert put(staging, DATA).added is Added.CREATED
        assert store.expire(digest, then) is False

    def test_stores_opened_anew_hold_the_same(
        self, kind: StoreKind, store: Store, staging: Staging, root: Path
    ) -> None:
        """Blobs are still there when the store is opened again."""
        put(staging, DATA)
        again = kind.open(root, store.algorithm)
        assert list(again.iterate()) == list(store.iterate())
        assert put(kind.staging(again), DATA).created is False

    def test_a_store_tells_its_algorithm(self, kind: StoreKind, tmp_path: Path) -> None:
        """Opening without an algorithm finds that of an existing store, and creates no store."""
        root = tmp_path / "unknown"
        with pytest.raises(StoreUnavailable, match="^there is no store at "):
            kind.open(root, None)
        kind.open(root, Algorithm.BLAKE2B)
        assert kind.open(root, None).algorithm is Algorithm.BLAKE2B
