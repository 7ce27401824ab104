"""Every kind of store passes the contract suite, as any other store would."""

from pathlib import Path

import pytest

from tests.support.kinds import EVERY_KIND
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.store.contract import Durability
from wsgi_store.store.open import open_store
from wsgi_store.testing import NamedStoreContract, SharedStoreContract, StoreKind

pytestmark = pytest.mark.long(80)


class TestContract(SharedStoreContract):
    """The contract on each kind of store."""

    @pytest.fixture(params=EVERY_KIND, ids=str)
    def kind(self, request: pytest.FixtureRequest) -> StoreKind:
        """Each kind of store in turn."""
        kind: StoreKind = request.param
        return kind


class TestNames(NamedStoreContract):
    """The contract of further names on each kind of store."""

    @pytest.fixture(params=EVERY_KIND, ids=str)
    def kind(self, request: pytest.FixtureRequest) -> StoreKind:
        """Each kind of store in turn."""
        kind: StoreKind = request.param
        return kind


def test_open_store(tmp_path: Path) -> None:
    """open_store opens a directory, and rejects an unknown kind of store."""
    store = open_store(str(tmp_path / "store"), Algorithm.SHA1, Durability.NONE)
    assert store.algorithm is Algorithm.SHA1
    with pytest.raises(ConfigError, match=r"^WSGI_STORE_ROOT: .*'gopher'"):
        open_store("gopher://bucket", Algorithm.MD5, Durability.FULL)
