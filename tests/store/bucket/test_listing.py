"""Listing a bucket page by page, and what other programs put between the objects of a store."""

from pathlib import Path

import obstore
import pytest

from tests.support import ceph
from tests.support.kinds import digest_of
from tests.support.stops import MD5, MIGRATING, SHA1, SHA256, Server
from wsgi_store.digest import Algorithm
from wsgi_store.store.abilities import Adopted
from wsgi_store.store.bucket import listing

CONTENTS = [b"%d" % number for number in range(12)]
MOVED = CONTENTS[::2]


@pytest.fixture(name="server")
def fixture_server(tmp_path: Path) -> Server:
    """A store under migration, in which every other blob has its primary name."""
    ceph.ensure()
    server = Server(tmp_path / "store")
    server.make(MIGRATING)
    for data in CONTENTS:
        server.put_stray(MD5, data)
    moved = {digest_of(MD5, data) for data in MOVED}
    found = [server.hashed(blob) for blob in server.strays(MD5) if blob.digest in moved]
    assert server.adopt(found) == [Adopted.NAMED] * len(MOVED)
    return server


@pytest.mark.parametrize("page", [1, 2, 5])
def test_pages(server: Server, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """Objects and names are merged in the order of their hashes, with any page, from any cursor.

    Other programs may have put their objects in between.
    """
    monkeypatch.setattr(listing, "PAGE", page)
    for data in CONTENTS[:4]:
        shard = digest_of(MD5, data).hex[:2]
        for name in ("README", "zzz"):
            obstore.put(server.client, f"{shard}/{name}", b"?")
    listed: dict[Algorithm, list[bytes]] = {MD5: CONTENTS, SHA1: MOVED, SHA256: MOVED}
    for algorithm, contents in listed.items():
        expected = sorted((digest_of(algorithm, data) for data in contents), key=lambda one: one.raw)
        assert [blob.digest for blob in server.iterate(algorithm=algorithm)] == expected
        for at in (0, len(expected) // 2, len(expected) - 1):
            assert [blob.digest for blob in server.iterate(expected[at])] == expected[at + 1 :]


def test_objects_that_are_no_names(server: Server) -> None:
    """Objects that other programs put beside the names and into the quarantine are left alone."""
    name = digest_of(MD5, b"never added")
    others = {f".names/{rest}" for rest in ("README", "md5/README", f"md5/{name.hex.upper()}")}
    others |= {f".names/md5/{name.hex}/more", f".names/none/{name.hex}", f".names/sha1/{name.hex}"}
    others |= {".quarantine/README", f".quarantine/{name.hex[1:]}"}
    for key in others:
        obstore.put(server.client, key, b"?")
    obstore.put(server.client, f".names/md5/{name.hex}", b"no digest")
    assert len(list(server.name_sizes())) == 2 * len(MOVED) + 1
    assert {found for found, _ in server.links(MD5)} == {digest_of(MD5, data) for data in MOVED}
    assert not list(server.quarantined())
    assert server.sweep() == [name.hex]
    assert others <= server.keys()
