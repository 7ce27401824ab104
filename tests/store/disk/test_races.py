"""Removals that cross an upload at its critical moments."""

import os

import pytest

from tests.support.kinds import content, digest_of, put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.disk.store import LocalStore

DATA = b"some bytes"
DIGEST = digest_of(Algorithm.MD5, DATA)


def test_a_removal_crosses_an_upload(store: LocalStore, staging: Staging) -> None:
    """A blob removed after an upload found it and before it is opened is added again."""
    put(staging, DATA)
    link = os.link
    calls = 0

    def cross(*arguments: str, **options: int) -> None:
        nonlocal calls
        calls += 1
        try:
            link(*arguments, **options)  # type: ignore[arg-type]
        except FileExistsError:
            store.remove(DIGEST)
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", cross)
        assert put(staging, DATA).created
    assert calls == 2
    assert content(store, DIGEST) == DATA


@pytest.mark.parametrize("crossings", [1, 3])
def test_removals_of_the_shard_cross_an_upload(store: LocalStore, staging: Staging, crossings: int) -> None:
    """A directory removed after it was opened and before the blob is linked into it is created again."""
    shard = os.path.join(store.root, DIGEST.hex[:2])
    link = os.link
    calls = 0

    def cross(*arguments: str, **options: int) -> None:
        nonlocal calls
        calls += 1
        if calls <= crossings:
            os.rmdir(shard)
        link(*arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", cross)
        assert put(staging, DATA).created
    assert calls == crossings + 1
    assert content(store, DIGEST) == DATA


def test_removals_cross_an_upload_for_ever(store: LocalStore, staging: Staging) -> None:
    """An upload ends even when removals cross it again and again."""
    shard = os.path.join(store.root, DIGEST.hex[:2])
    link = os.link

    def cross(*arguments: str, **options: int) -> None:
        os.rmdir(shard)
        link(*arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", cross)
        with pytest.raises(StoreUnavailable, match="kept being removed"):
            put(staging, DATA)
    with pytest.raises(BlobNotFound):
        store.stat(DIGEST)
    assert put(staging, DATA).created


def test_a_shard_removed_after_its_last_blob(store: LocalStore, staging: Staging) -> None:
    """A removal succeeds even if the empty directory disappears before it is synced."""
    put(staging, DATA)
    shard = os.path.join(store.root, DIGEST.hex[:2])
    unlink = os.unlink

    def cross(path: str, *, dir_fd: int) -> None:
        unlink(path, dir_fd=dir_fd)
        os.rmdir(shard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", cross)
        store.remove(DIGEST)
    assert not os.path.exists(shard)
