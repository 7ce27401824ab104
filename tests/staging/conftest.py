"""A store of each kind, and its staging."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kinds import EVERY_KIND, Kind
from wsgi_store.digest import Algorithm
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store


@pytest.fixture(name="kind", params=EVERY_KIND, ids=str)
def fixture_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of store in turn."""
    kind: Kind = request.param
    return kind


@pytest.fixture(name="store")
def fixture_store(kind: Kind, tmp_path: Path) -> Iterator[Store]:
    """An empty store; whatever a test does, no staged file may be left."""
    store = kind.open(tmp_path / "store", Algorithm.MD5)
    yield store
    assert not os.listdir(store.staging_directory)


@pytest.fixture(name="staging")
def fixture_staging(kind: Kind, store: Store) -> Staging:
    """The staging of the store."""
    return kind.staging(store)
