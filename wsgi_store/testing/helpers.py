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
