"""Uploads of bytes that a local store already holds, and of others with the same hash."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.kinds import KINDS, LocalKind, content, put
from wsgi_store.digest import Algorithm
from wsgi_store.errors import DigestCollision
from wsgi_store.staging import Staging
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.testing.helpers import COLLIDING

DATA = b"some bytes"


def test_colliding_files_collide() -> None:
    """The two published files differ and have the same MD5."""
    first, second = COLLIDING
    assert first != second
    assert hashlib.md5(first).digest() == hashlib.md5(second).digest()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("order", [1, -1])
def test_a_real_collision(tmp_path: Path, kind: LocalKind, order: int) -> None:
    """Of two files with the same hash the first is kept and the second refused."""
    first, second = COLLIDING[::order]
    store = kind.open(tmp_path, Algorithm.MD5)
    staging = kind.staging(store)
    digest = put(staging, first).digest
    path = tmp_path / digest.hex[:2] / digest.hex
    before = path.stat()
    with pytest.raises(DigestCollision) as caught:
        put(staging, second)
    assert caught.value.evidence == {"hash": digest.hex}
    assert content(store, digest) == first
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert put(staging, first).created is False
    assert not os.listdir(store.staging_directory)


def test_a_collision_of_large_files(tmp_path: Path) -> None:
    """Colliding files followed by the same bytes still collide, and are told apart."""
    store = LocalStore(str(tmp_path), Algorithm.MD5)
    tail = bytes(3 << 20)  # more than is compared at once
    put(Staging(store), COLLIDING[0] + tail)
    with pytest.raises(DigestCollision):
        put(Staging(store), COLLIDING[1] + tail)
