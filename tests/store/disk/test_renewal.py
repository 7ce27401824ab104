"""Renewing a blob on a disk while others remove it or its shard."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.kinds import digest_of, put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.disk.shard import Shard
from wsgi_store.store.disk.store import LocalStore

DATA = b"some bytes"
SHA256 = Algorithm.SHA256


def test_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that is removed between two looks is not renewed; one that always changes is no blob."""
    store = LocalStore(str(tmp_path), SHA256)
    digest = put(Staging(store), DATA).digest
    renew = Shard.renew

    def gone(*_: object, **__: object) -> bool:
        raise FileNotFoundError

    monkeypatch.setattr(Shard, "renew", gone)
    with pytest.raises(StoreUnavailable, match="kept being replaced"):
        store.renew(digest, len(DATA))

    def late(*arguments: object, **options: object) -> bool:
        monkeypatch.undo()
        store.remove(digest)
        return renew(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Shard, "renew", late)
    assert store.renew(digest, len(DATA)) is None


def test_a_store_that_is_being_migrated(tmp_path: Path) -> None:
    """A file that has only its old name gets its primary one from an upload of its bytes."""
    store = LocalStore(str(tmp_path), SHA256)
    digest = put(Staging(store), DATA).digest
    primary = digest_of(Algorithm.SHA512, DATA)
    store.change_marker(
        lambda marker: replace(
            marker, algorithm=Algorithm.SHA512, names=(SHA256,), migrating=SHA256, since=0.0
        )
    )
    assert store.renew(digest, len(DATA)) is None
    assert put(Staging(store), DATA).names == (primary, digest)
    for name in (primary, digest):
        renewed = store.renew(name, len(DATA))
        assert renewed and renewed.names[0] == primary
