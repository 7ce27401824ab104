"""The store in memory passes the contract suite.

pip install '.[testing]'
python -m pytest examples/test_memory_store.py
"""

from pathlib import Path

import pytest
from memory_store import MemoryStore

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.contract import Durability
from wsgi_store.testing import StoreContract, StoreKind


class MemoryKind(StoreKind):
    """Stores in memory, kept by their roots."""

    def __init__(self) -> None:
        self.stores: dict[Path, MemoryStore] = {}

    def open(
        self, root: Path, algorithm: Algorithm | None, durability: Durability = Durability.FULL
    ) -> MemoryStore:
        """The store of a root, made when it is new."""
        if root not in self.stores:
            if algorithm is None:
                raise StoreUnavailable(f"there is no store at {root}")
            self.stores[root] = MemoryStore(algorithm, root / "staging")
        return self.stores[root]

    def damage(self, root: Path, digest: Digest, data: bytes) -> None:
        """Change the bytes that are held."""
        self.stores[root].blobs[digest] = data


class TestMemoryStore(StoreContract):
    """It serves one process, so SharedStoreContract is not for it."""

    @pytest.fixture
    def kind(self) -> StoreKind:
        """Stores of this test alone."""
        return MemoryKind()
