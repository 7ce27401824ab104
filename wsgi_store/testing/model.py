"""Random operations have the same results on a store as on a dict."""

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.staging import Receipt
from wsgi_store.store.contract import Durability
from wsgi_store.testing.helpers import content, digest_of, neighbours
from wsgi_store.testing.kind import StoreKind

ALGORITHM = Algorithm.MD5
# Few, so that rules often choose the same blob; some in one shard; one empty.
DATA = st.sampled_from([b"", b"a", b"b" * 100, bytes(range(256)) * 20, *neighbours(ALGORITHM, 3)])
OFFSETS = st.integers(0, 120) | st.integers(5100, 5130)


class Comparison(RuleBasedStateMachine):
    """Each rule does the same to a store and to a dict."""

    def __init__(self, kind: StoreKind) -> None:
        super().__init__()
        self.kind = kind
        self.directory = tempfile.mkdtemp()
        self.model: dict[Digest, bytes] = {}
        self.open_anew()

    @rule()
    def open_anew(self) -> None:
        """Open the same store again, as a restarted server does."""
        self.store = self.kind.open(Path(self.directory, "store"), ALGORITHM, Durability.NONE)
        self.staging = self.kind.staging(self.store, Durability.NONE)

    @rule(data=DATA, cut=OFFSETS)
    def add(self, data: bytes, cut: int) -> None:
        """Upload some bytes in two chunks."""
        receipt = self.staging.receive([data[:cut], data[cut:]], length=len(data))
        assert receipt.digest == digest_of(ALGORITHM, data)
        assert receipt.size == len(data)
        assert receipt.created == (receipt.digest not in self.model)
        self.model[receipt.digest] = data

    @rule(data=st.lists(DATA, min_size=2, max_size=8))
    def add_at_once(self, data: list[bytes]) -> None:
        """Upload several blobs at once, some of them identical."""
        with ThreadPoolExecutor(len(data)) as pool:
            receipts = list(pool.map(lambda one: self.staging.receive([one]), data))
        created = [receipt.digest for receipt in receipts if receipt.created]
        asked = {digest_of(ALGORITHM, one): one for one in data}
        assert len(created) == len(set(created))
        assert set(created) == asked.keys() - self.model.keys()
        self.model |= asked

    @rule(data=st.lists(DATA, max_size=8))
    def add_all(self, data: list[bytes]) -> None:
        """Upload several blobs in one batch, some of them identical."""
        receipts = self.staging.receive_all(([one], ()) for one in data)
        for one, receipt in zip(data, receipts, strict=True):
            assert isinstance(receipt, Receipt)
            assert receipt.digest == digest_of(ALGORITHM, one)
            assert receipt.created == (receipt.digest not in self.model)
            self.model[receipt.digest] = one

    @rule(data=DATA, start=OFFSETS, length=st.none() | OFFSETS)
    def read(self, data: bytes, start: int, length: int | None) -> None:
        """Read a part of a blob."""
        digest = digest_of(ALGORITHM, data)
        if digest in self.model:
            stop = None if length is None else start + length
            assert content(self.store, digest, start, length) == data[start:stop]
        else:
            with pytest.raises(BlobNotFound):
                self.store.open(digest, start, length)

    @rule(data=DATA)
    def stat(self, data: bytes) -> None:
        """Describe a blob."""
        digest = digest_of(ALGORITHM, data)
        if digest in self.model:
            assert self.store.stat(digest).size == len(data)
        else:
            with pytest.raises(BlobNotFound):
                self.store.stat(digest)

    @rule(data=st.sets(DATA | st.binary(max_size=4)))
    def sizes(self, data: set[bytes]) -> None:
        """Look up several blobs."""
        digests = {digest_of(ALGORITHM, one) for one in data}
        expected = {digest: len(self.model[digest]) for digest in digests & self.model.keys()}
        assert self.store.sizes(digests) == expected

    @rule(data=DATA)
    def remove(self, data: bytes) -> None:
        """Remove a blob."""
        digest = digest_of(ALGORITHM, data)
        if self.model.pop(digest, None) is not None:
            self.store.remove(digest)
        else:
            with pytest.raises(BlobNotFound):
                self.store.remove(digest)

    @rule(data=DATA | st.binary(max_size=4))
    def iterate_after(self, data: bytes) -> None:
        """List the blobs after a digest, held or not."""
        after = digest_of(ALGORITHM, data)
        expected = sorted(digest.raw for digest in self.model if digest.raw > after.raw)
        assert [blob.digest.raw for blob in self.store.iterate(after)] == expected

    @invariant()
    def holds_the_same(self) -> None:
        """Check that all blobs are there with their sizes, and that no staged file is left."""
        held = [(blob.digest.raw, blob.size) for blob in self.store.iterate()]
        assert held == sorted((digest.raw, len(data)) for digest, data in self.model.items())
        assert not os.listdir(self.store.staging_directory)

    def teardown(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.directory)


def limits(kind: StoreKind) -> settings:
    """Settings of a comparison, whose examples are long: the profile of Hypothesis counts short ones."""
    examples = settings().max_examples // (10 if kind.slow else 2)
    return settings(max_examples=examples, stateful_step_count=40, deadline=None)


class Model:
    """The comparison as a test."""

    @pytest.mark.hypothesis
    def test_a_store_and_a_dict_do_the_same(self, kind: StoreKind) -> None:
        """Random adding, reading, removing and listing has the same results on a store as on a dict."""
        machine = cast(type[Comparison], partial(Comparison, kind))
        run_state_machine_as_test(machine, settings=limits(kind))
