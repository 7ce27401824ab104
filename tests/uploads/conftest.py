"""A store, and its uploads."""

from pathlib import Path

import pytest

from wsgi_store.digest import Algorithm
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.store.open import open_store
from wsgi_store.uploads.uploads import Uploads


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(str(tmp_path / "store"), Algorithm.SHA256, create=True)


@pytest.fixture(name="uploads")
def fixture_uploads(store: Store) -> Uploads:
    """Its uploads."""
    return Uploads(Staging(store), store)
