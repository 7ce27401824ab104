"""Stores for the tests of upkeep, filled or damaged, and reports about them."""

from pathlib import Path

from tests.support.kinds import digest_of, put
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.report import Report

NUMBER = 40


def filled(store: Store) -> Store:
    """Add blobs to a store and return it."""
    staging = Staging(store, durability=Durability.NONE)
    for number in range(NUMBER):
        put(staging, b"x" * number)
    return store


def digests(store: Store) -> list[Digest]:
    """The digests in the store, in order."""
    return [blob.digest for blob in store.iterate()]


def last(reports: object) -> Report:
    """The last report."""
    *_, report = reports  # type: ignore[misc]
    assert isinstance(report, Report)
    return report


def fill(root: Path, algorithm: Algorithm, contents: list[bytes]) -> None:
    """Make a store with these blobs."""
    open_store(str(root), algorithm, Durability.NONE)
    for data in contents:
        path = root / named(algorithm, data)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def named(algorithm: Algorithm, data: bytes) -> str:
    """The path of the blob with these bytes, below the root."""
    name = digest_of(algorithm, data).hex
    return f"{name[:2]}/{name}"


def flip(path: Path) -> str:
    """Flip a bit in the middle of a file; returns its name."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.chmod(0o644)
    path.write_bytes(data)
    return path.name
