"""The contract as one class of tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgi_store.digest import Algorithm
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.testing.adding import Adding
from wsgi_store.testing.changing import Changing
from wsgi_store.testing.kind import StoreKind
from wsgi_store.testing.listing import Listing
from wsgi_store.testing.many import Many
from wsgi_store.testing.migrating import Migrating
from wsgi_store.testing.model import Model
from wsgi_store.testing.named_model import NamedModel
from wsgi_store.testing.naming import ALGORITHMS, Naming
from wsgi_store.testing.processes import Processes
from wsgi_store.testing.quarantine import Quarantine
from wsgi_store.testing.reading import Reading
from wsgi_store.testing.renewing import Renewing


class StoreContract(Reading, Changing, Adding, Listing, Quarantine, Renewing, Many, Model):
    """The contract of `Store`, sentence by sentence, in one process.

    Make a subclass whose name begins with `Test` and whose fixture `kind` returns the kind of store:

        class TestMyStore(StoreContract):
            @pytest.fixture
            def kind(self) -> StoreKind:
                return MyKind()

    `pytest.register_assert_rewrite("wsgi_store.testing")` in a conftest.py makes failures show values.
    """

    # One algorithm whose duplicates are compared byte by byte, and one whose duplicates are not.
    @pytest.fixture(params=[Algorithm.MD5, Algorithm.SHA256], ids=lambda one: one.value)
    def algorithm(self, request: pytest.FixtureRequest) -> Algorithm:
        """Each algorithm in turn."""
        algorithm: Algorithm = request.param
        return algorithm

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """The name of a test's store."""
        return tmp_path / "store"

    @pytest.fixture
    def store(self, kind: StoreKind, algorithm: Algorithm, root: Path) -> Iterator[Store]:
        """An empty store; whatever a test does, no staged file may be left."""
        store = kind.open(root, algorithm)
        yield store
        assert not os.listdir(store.staging_directory)

    @pytest.fixture
    def staging(self, kind: StoreKind, store: Store) -> Staging:
        """The staging of the store."""
        return kind.staging(store)


class SharedStoreContract(StoreContract, Processes):
    """The contract of a store that several processes open at once, as a pre-fork server does.

    The kind has to be picklable.
    """


class NamedStoreContract(Naming, Migrating, NamedModel):
    """The contract of a store that keeps further names, and has the ability Names."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """The name of a test's store."""
        return tmp_path / "store"

    @pytest.fixture
    def store(self, kind: StoreKind, root: Path) -> Iterator[Store]:
        """An empty store that names blobs by sha256, and also by md5 and sha1."""
        store = kind.open_named(root, ALGORITHMS[0], ALGORITHMS[1:])
        yield store
        assert not os.listdir(store.staging_directory)

    @pytest.fixture
    def staging(self, kind: StoreKind, store: Store) -> Staging:
        """The staging of the store."""
        return kind.staging(store)
