"""Tests of listings, and of notes kept beside the blobs."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.testing.helpers import DATA, digest_of, neighbours, put
from wsgi_store.testing.kind import StoreKind


class Listing:
    """What `iterate` yields, and how notes are kept."""

    def test_iterate_an_empty_store(self, store: Store) -> None:
        """An empty store has no blobs."""
        assert not list(store.iterate())
        assert not list(store.iterate(digest_of(store.algorithm, b"")))

    def test_iterate_in_order(self, store: Store, staging: Staging) -> None:
        """Blobs come in ascending order of digest, and `after` continues after any digest, held or not."""
        data = [str(number).encode() for number in range(40)] + neighbours(store.algorithm, 3)
        held = sorted({put(staging, one).digest.raw for one in data})
        blobs = list(store.iterate())
        assert [blob.digest.raw for blob in blobs] == held
        assert blobs == [store.stat(blob.digest) for blob in blobs]
        absent = [digest_of(store.algorithm, f"absent {number}".encode()) for number in range(10)]
        for after in [*absent, *(blob.digest for blob in blobs)]:
            assert list(store.iterate(after)) == [blob for blob in blobs if blob.digest.raw > after.raw]

    def test_iterate_while_the_store_changes(self, store: Store, staging: Staging) -> None:
        """Blobs that stay during a listing come exactly once and in order, whatever else comes and goes."""
        alike = neighbours(store.algorithm, 9)
        staying, going, coming = alike[::3], alike[1::3], alike[2::3]
        staying += [f"stays {number}".encode() for number in range(20)]
        kept = {put(staging, data).digest for data in staying}
        gone = [put(staging, data).digest for data in going]
        seen = []
        for blob in store.iterate():
            seen.append(blob.digest)
            while gone:
                store.remove(gone.pop())
            while coming:
                put(staging, coming.pop())
        assert [digest.raw for digest in seen] == sorted({digest.raw for digest in seen})
        assert kept <= set(seen)

    def test_iterate_skips_foreign_things(
        self, kind: StoreKind, store: Store, staging: Staging, root: Path
    ) -> None:
        """A listing skips things in a store that are not blobs."""
        held = [put(staging, one).digest for one in (DATA, *neighbours(store.algorithm, 2))]
        kind.litter(root, store.algorithm)
        assert {blob.digest for blob in store.iterate()} == set(held)

    def test_notes(self, store: Store) -> None:
        """A note is what was last saved under its name, and does not count as a blob."""
        assert store.load_note(".note") is None
        for data in (b"first", b"", b"second" * 1000):
            store.update_note(".note", lambda _, data=data: data)  # type: ignore[misc]
            assert store.load_note(".note") == data
        assert store.load_note(".other") is None
        assert not list(store.iterate())

    def test_notes_are_updated_one_after_the_other(self, store: Store) -> None:
        """No concurrent update of a note is lost."""

        def count(note: bytes | None) -> bytes:
            number = int(note or b"0")
            time.sleep(0.001)
            return b"%d" % (number + 1)

        with ThreadPoolExecutor(4) as pool:
            for updated in [pool.submit(store.update_note, ".note", count) for _ in range(20)]:
                updated.result()
        assert store.load_note(".note") == b"20"
