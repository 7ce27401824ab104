"""The contract suite that every store has to pass, for authors of other stores (extra `testing`)."""

from wsgi_store.testing.kind import StoreKind
from wsgi_store.testing.suite import NamedStoreContract, SharedStoreContract, StoreContract

__all__ = ["NamedStoreContract", "SharedStoreContract", "StoreContract", "StoreKind"]
