"""Random operations by any name have the same results on a store with further names as on a dict."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.staging import Receipt
from wsgi_store.store.abilities import Adopted, Hashed, Names, Renewal
from wsgi_store.store.contract import Durability
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import COLLIDING, COLLIDING_SHA1, content, digest_of, neighbours
from wsgi_store.testing.kind import StoreKind
from wsgi_store.testing.model import limits

OLD, NEW = Algorithm.SHA256, Algorithm.SHA512
FURTHER = (Algorithm.MD5, Algorithm.SHA1)
EVERY = (NEW, OLD, *FURTHER)
# Few, so that rules often choose the same blob; two pairs have one name in common.
DATA = st.sampled_from([b"", b"a", *COLLIDING, *COLLIDING_SHA1, *neighbours(OLD, 2)])
ALGORITHMS = st.sampled_from(EVERY)


class NamedComparison(RuleBasedStateMachine):
    """Each rule does the same to a store and to dicts; the store may be migrated on the way."""

    def __init__(self, kind: StoreKind) -> None:
        super().__init__()
        self.kind = kind
        self.directory = tempfile.mkdtemp()
        self.names: dict[Digest, bytes] = {}
        """The blob that each name leads to."""
        self.algorithms: tuple[Algorithm, ...] = (OLD, *FURTHER)
        self.migrating = False
        root = Path(self.directory, "store")
        self.store = kind.open_named(root, OLD, FURTHER)
        # Opened before the migration, and used by every second rule.
        self.other = kind.open_named(root, OLD, FURTHER)
        assert isinstance(self.store, Names)
        self.able: Names = self.store
        self.staging = kind.staging(self.store, Durability.NONE)

    @rule()
    def change_places(self) -> None:
        """Let another process go on."""
        self.store, self.other = self.other, self.store
        assert isinstance(self.store, Names)
        self.able = self.store
        self.staging = self.kind.staging(self.store, Durability.NONE)

    @rule(data=DATA, under=st.none() | ALGORITHMS)
    def add(self, data: bytes, under: Algorithm | None) -> None:
        """Upload some bytes, perhaps checked by one of their hashes."""
        expected = [] if under is None else [digest_of(under, data)]
        self._added(data, self.staging.receive([data], expected=expected))

    @rule(data=st.lists(DATA, max_size=5))
    def add_all(self, data: list[bytes]) -> None:
        """Upload several blobs in one batch."""
        receipts = self.staging.receive_all(([one], ()) for one in data)
        for one, receipt in zip(data, receipts, strict=True):
            assert isinstance(receipt, Receipt)
            self._added(one, receipt)

    def _added(self, data: bytes, receipt: Receipt) -> None:
        assert receipt.created == (data not in self.names.values())
        others = tuple(
            algorithm
            for algorithm in self.algorithms
            if self.names.get(digest_of(algorithm, data), data) != data
        )
        assert receipt.ambiguous == others
        told = [digest_of(algorithm, data) for algorithm in self.algorithms if algorithm not in others]
        assert list(receipt.names) == told
        self.names |= dict.fromkeys(told, data)

    @rule(data=DATA, algorithm=ALGORITHMS)
    def read(self, data: bytes, algorithm: Algorithm) -> None:
        """Read a blob by a name."""
        digest = digest_of(algorithm, data)
        if digest in self.names:
            assert content(self.store, digest) == self.names[digest]
            assert self.store.stat(digest).digest == digest
        else:
            self.missing(self.store.open, digest)
            self.missing(self.store.stat, digest)

    @rule(asked=st.sets(st.builds(digest_of, ALGORITHMS, DATA)))
    def sizes(self, asked: set[Digest]) -> None:
        """Look up several blobs by any of their names."""
        expected = {digest: len(self.names[digest]) for digest in asked & self.names.keys()}
        assert self.store.sizes(asked) == expected

    @rule(asked=st.sets(st.builds(digest_of, st.sampled_from([NEW, OLD]), DATA)), wrong=DATA)
    def renew(self, asked: set[Digest], wrong: bytes) -> None:
        """Renew several blobs; those under an old name and those of another size need an upload."""
        primary, *_ = self.store.refresh()
        data = {digest: self.names[digest] for digest in asked & self.names.keys()}
        sizes = dict.fromkeys(asked, len(wrong)) | {
            digest: len(one) + (one == wrong) for digest, one in data.items()
        }
        expected = {
            digest for digest, one in data.items() if one != wrong and digest_of(primary, one) in self.names
        }
        assert isinstance(self.store, Renewal)
        assert self.store.renew_all(sizes) == expected

    @rule(data=DATA, algorithm=ALGORITHMS)
    def remove(self, data: bytes, algorithm: Algorithm) -> None:
        """Remove a blob by a name."""
        digest = digest_of(algorithm, data)
        gone = self.names.get(digest)
        if gone is None:
            self.missing(self.store.remove, digest)
        else:
            assert self.store.remove(digest).size == len(gone)
            self.names = {name: blob for name, blob in self.names.items() if blob != gone}

    @rule()
    def sweep(self) -> None:
        """Remove the names that lead nowhere."""
        for name in self.able.sweep_names(remove=True):
            assert name not in {digest.hex for digest in self.names}

    @precondition(lambda self: NEW not in self.algorithms)
    @rule()
    def begin_to_migrate(self) -> None:
        """Begin to migrate the store."""
        made = self.store.made()
        self.able.change_marker(lambda _: Marker(NEW, (OLD, *FURTHER), OLD, made, made))
        self.algorithms, self.migrating = EVERY, True

    @precondition(lambda self: self.migrating)
    @rule()
    def adopt_one(self) -> None:
        """Give one blob its primary name, or end the migration if every blob has one."""
        self.store.refresh()
        blob = next(self.able.strays(OLD), None)
        if blob is None:
            for _ in self.able.settle_names():
                pass
            self.able.change_marker(lambda marker: Marker(NEW, marker.names, None, marker.since, marker.made))
            self.migrating = False
            return
        data = self.names[blob.digest]
        with closing(self.store.open(blob.digest)) as reader:
            stamp = reader.stamp
        digests = {algorithm: digest_of(algorithm, data) for algorithm in EVERY}
        assert list(self.able.adopt([Hashed(blob.digest, stamp, digests)])) == [Adopted.NAMED]
        self.names[digests[NEW]] = data
        for algorithm in FURTHER:
            self.names.setdefault(digests[algorithm], data)

    @invariant()
    def holds_the_same(self) -> None:
        """Check that a listing by the algorithm that every blob has finds all of them."""
        algorithm = OLD if self.migrating or NEW not in self.algorithms else NEW
        held = [blob.digest for blob in self.store.iterate()]
        assert held == sorted(
            {digest_of(algorithm, data) for data in self.names.values()}, key=lambda digest: digest.raw
        )

    def missing(self, ask: Callable[[Digest], object], digest: Digest) -> None:
        """Check that an operation finds no blob."""
        with pytest.raises(BlobNotFound):
            ask(digest)

    def teardown(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.directory)


class NamedModel:
    """The comparison as a test."""

    @pytest.mark.hypothesis
    def test_any_name_does_the_same(self, kind: StoreKind) -> None:
        """Random uploads, reads, removals and steps of a migration agree with dicts."""
        machine = cast(type[NamedComparison], partial(NamedComparison, kind))
        run_state_machine_as_test(machine, settings=limits(kind))
