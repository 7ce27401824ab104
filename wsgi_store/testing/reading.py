"""Tests of `stat` and `open`."""

import time
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsgi_store.errors import BlobNotFound, StoreError
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.testing.helpers import DATA, content, digest_of, put

# All examples of a test share one store; several kinds of store inherit the test.
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


class Reading:
    """What `stat` and `open` return."""

    def test_stat_describes_a_blob(self, store: Store, staging: Staging) -> None:
        """A blob has the digest and the size of its bytes and the time it was added."""
        before = time.time()
        digest = put(staging, DATA).digest
        blob = store.stat(digest)
        assert blob.digest == digest == digest_of(store.algorithm, DATA)
        assert blob.size == len(DATA)
        # The file system's clock ticks more slowly than time.time().
        assert before - 2 <= blob.modified <= time.time() + 2

    def test_stat_of_an_absent_blob(self, store: Store) -> None:
        """A blob that was never added cannot be described."""
        with pytest.raises(BlobNotFound) as caught:
            store.stat(digest_of(store.algorithm, b"never added"))
        assert isinstance(caught.value, StoreError)
        assert caught.value.evidence == {"hash": digest_of(store.algorithm, b"never added").hex}

    def test_open_of_an_absent_blob(self, store: Store) -> None:
        """A blob that was never added cannot be opened."""
        with pytest.raises(BlobNotFound):
            store.open(digest_of(store.algorithm, b"never added"))

    @settings(suppress_health_check=SUPPRESSED, deadline=None)
    @given(
        start=st.integers(0, len(DATA) + 2) | st.integers(0, 1 << 80),
        length=st.none() | st.integers(0, len(DATA) + 2) | st.integers(0, 1 << 80),
        size=st.integers(1, len(DATA) + 2),
    )
    def test_any_part_can_be_read(
        self, store: Store, staging: Staging, start: int, length: int | None, size: int
    ) -> None:
        """Any part equals the slice of the bytes, also beyond the end and however it is read."""
        digest = put(staging, DATA).digest
        part = DATA[start:] if length is None else DATA[start : start + length]
        with closing(store.open(digest, start, length)) as reader:
            assert reader.blob == store.stat(digest)
            read = b""
            while block := reader.read(size):
                assert len(block) <= size
                read += block
            assert read == part
            assert reader.read() == b""
        with closing(store.open(digest, start, length)) as reader:
            assert reader.read() == part

    def test_an_empty_blob(self, store: Store, staging: Staging) -> None:
        """An empty blob is a blob like any other."""
        receipt = staging.receive([])
        assert (receipt.created, receipt.size) == (True, 0)
        assert receipt.digest == digest_of(store.algorithm, b"")
        assert store.stat(receipt.digest).size == 0
        assert content(store, receipt.digest) == content(store, receipt.digest, 5, 5) == b""
        assert put(staging, b"").created is False
        blob = store.stat(receipt.digest)
        assert store.remove(receipt.digest) == blob
        assert not list(store.iterate())

    @pytest.mark.parametrize("offset", [len(DATA) - 1, 0, 3, len(DATA)])
    def test_a_reader_goes_on_from_anywhere(self, store: Store, staging: Staging, offset: int) -> None:
        """A reader can continue from any byte of the blob, forward or back."""
        with closing(store.open(put(staging, DATA).digest)) as reader:
            assert reader.read(5) == DATA[:5]
            assert reader.seek(offset) == offset
            assert reader.read(2) + reader.read() == DATA[offset:]

    def test_a_reader_closes_twice(self, store: Store, staging: Staging) -> None:
        """Closing a reader twice does no harm."""
        reader = store.open(put(staging, DATA).digest)
        reader.close()
        reader.close()

    def test_a_reader_that_seeks(self, store: Store, staging: Staging) -> None:
        """After seeking, a part can be read again from any of its bytes, and ends at the same place."""
        with closing(store.open(put(staging, DATA).digest, 100, 50)) as reader:
            for offset in (100, 149, 120, 150):
                reader.seek(offset)
                assert reader.read(30) == DATA[offset : min(offset + 30, 150)]

    def test_removing_does_not_disturb_a_reader(self, store: Store, staging: Staging) -> None:
        """A blob that is removed while it is read still arrives whole."""
        digest = put(staging, DATA).digest
        with closing(store.open(digest)) as reader:
            head = reader.read(10)
            store.remove(digest)
            put(staging, DATA)
            store.remove(digest)
            assert head + reader.read() == DATA
