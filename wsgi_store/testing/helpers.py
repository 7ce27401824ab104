"""Helpers shared by the tests of the contract."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Store

DATA = bytes(range(256)) * 12
# Two messages with one MD5: Wang, Feng, Lai, Yu, "Collisions for Hash Functions", 2004.
COLLIDING = (
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    ),
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
    ),
)
# The beginnings of two files with one SHA-1: Stevens et al., "The First Collision for Full SHA-1", 2017.
_SHATTERED = bytes.fromhex(
    "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474"
    "682032203020522f4865696768742033203020522f547970652034203020522f"
    "537562747970652035203020522f46696c7465722036203020522f436f6c6f72"
    "53706163652037203020522f4c656e6774682038203020522f42697473506572"
    "436f6d706f6e656e7420383e3e0a73747265616d0affd8fffe00245348412d31"
    "20697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01"
)
COLLIDING_SHA1 = (
    _SHATTERED
    + bytes.fromhex(
        "7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df6"
        "14f86db1690901c56b45c1530afedfb76038e972722fe7ad728f0e4904e046c2"
        "30570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514"
        "e74ddc0f2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1"
    ),
    _SHATTERED
    + bytes.fromhex(
        "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de2"
        "18f86db3a90901d5df45c14f26fedfb3dc38e96ac22fe7bd728f0e45bce046d2"
        "3c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500"
        "eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1"
    ),
)


def put(staging: Staging, data: bytes) -> Receipt:
    """Upload `data` in one chunk."""
    return staging.receive([data])


def absent(store: Store, digest: Digest) -> None:
    """Check that a blob is absent for every operation."""
    asks: list[Callable[[Digest], object]] = [store.stat, store.open, store.remove, store.quarantine]
    for ask in asks:
        with pytest.raises(BlobNotFound):
            ask(digest)


def content(store: Store, digest: Digest, start: int = 0, length: int | None = None) -> bytes:
    """The bytes of a blob, or of a part of it."""
    with closing(store.open(digest, start, length)) as reader:
        return b"".join(iter(lambda: reader.read(1 << 16), b""))


def removed_by(store: Store, digest: Digest, number: int) -> int:
    """Remove a blob from this many threads at once; returns how many succeeded."""

    def remove(_: int) -> bool:
        try:
            store.remove(digest)
        except BlobNotFound:
            return False
        return True

    with ThreadPoolExecutor(number) as pool:
        return sum(pool.map(remove, range(number)))


def digest_of(algorithm: Algorithm, data: bytes) -> Digest:
    """The digest of `data`."""
    value = algorithm.new()
    value.update(data)
    return Digest(algorithm, value.digest())


def neighbours(algorithm: Algorithm, count: int) -> list[bytes]:
    """The first numbers, as bytes, whose hashes begin with the same digits, in the order of their hashes."""
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        data = str(number).encode()
        if digest_of(algorithm, data).raw[0] == 0xAB:
            found.append(data)
        number += 1
    return sorted(found, key=lambda data: digest_of(algorithm, data).raw)
