"""Fixtures shared by the tests of upkeep."""

from pathlib import Path

import pytest

from tests.support.upkeep import filled
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.disk.store import LocalStore


@pytest.fixture(name="local")
def fixture_local(root: Path) -> Store:
    """A store on a local disk with some blobs, the first of them empty."""
    return filled(LocalStore(str(root), Algorithm.MD5, Durability.NONE))
