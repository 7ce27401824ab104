"""The kinds of store that the contract is tested on."""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from unittest import mock

import obstore

from tests.support import ceph
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.staging import Staging
from wsgi_store.store import marker
from wsgi_store.store.bucket.client import Bucket, Client
from wsgi_store.store.contract import Durability, Remote, Store
from wsgi_store.store.open import open_store
from wsgi_store.testing import StoreKind
from wsgi_store.testing.helpers import absent, content, digest_of, neighbours, put, removed_by

__all__ = ["absent", "content", "digest_of", "neighbours", "put", "removed_by"]

DAY = 86400.0
GRANULARITY = 2.0


@dataclass(frozen=True)
class LocalKind(StoreKind):
    """Files on a local disk, staged without names, or with names as on NFS."""

    nameless: bool

    def __str__(self) -> str:
        return "local-nameless" if self.nameless else "local-named"

    def open(
        self, root: Path, algorithm: Algorithm | None, durability: Durability = Durability.FULL
    ) -> Store:
        """Open the store at `root`, creating it if there is none."""
        return open_store(str(root), algorithm, durability)

    def open_named(self, root: Path, algorithm: Algorithm, names: Sequence[Algorithm]) -> Store:
        """Open the store at `root` with further names."""
        return open_store(str(root), algorithm, names=names)

    def staging(self, store: Store, durability: Durability = Durability.FULL) -> Staging:
        """Return a staging for `store`."""
        if self.nameless:
            return Staging(store, durability=durability)
        with refusing_nameless(errno.EOPNOTSUPP):
            return Staging(store, durability=durability)

    def damage(self, root: Path, digest: Digest, data: bytes) -> None:
        """Change the bytes of a blob as a failing disk does, behind the store's back."""
        path = root / digest.hex[:2] / digest.hex
        path.chmod(0o644)
        path.write_bytes(data)

    def age(self, root: Path, digest: Digest) -> None:
        """Make a blob old enough to expire."""
        os.utime(root / digest.hex[:2] / digest.hex, (DAY, DAY))

    def litter(self, root: Path, algorithm: Algorithm) -> None:
        """Put things other than blobs into the store."""
        name = "ab" + "0" * (2 * algorithm.size - 2)
        (root / "ab").mkdir(exist_ok=True)
        (root / "lost+found").mkdir()
        (root / "0a").write_bytes(b"a file in the place of a shard")
        (root / "README").write_bytes(b"a note")
        (root / "ab" / "README").write_bytes(b"a note")
        (root / "ab" / name[:-1]).write_bytes(b"too short a name")
        (root / "ab" / f"{name}0").write_bytes(b"too long a name")
        (root / "ab" / f"{name}.part").write_bytes(b"a name and more")
        (root / "ab" / name.upper()).write_bytes(b"a name in upper case")
        (root / "ab" / name.replace("ab", "cd")).write_bytes(b"a name of another shard")
        (root / "ab" / name).mkdir()
        os.mkfifo(root / "ab" / name.replace("0", "1"))
        (root / "ab" / name.replace("0", "2")).symlink_to("nowhere")


@dataclass(frozen=True)
class BucketKind(StoreKind):
    """Objects in a bucket of Ceph, below a prefix equal to the root's path, and staged at the root."""

    tick = 1.05
    slow = True

    def __str__(self) -> str:
        return "bucket"

    def open(
        self, root: Path, algorithm: Algorithm | None, durability: Durability = Durability.FULL
    ) -> Store:
        """Open the store that belongs to `root`, creating it if there is none."""
        ceph.ensure()
        store = open_store(self.url(root), algorithm, durability, Remote(str(root)))
        store.granularity = GRANULARITY  # instead of an hour
        store.seen = 0.05  # every quarantine waits as long
        store.check()
        return store

    def open_named(self, root: Path, algorithm: Algorithm, names: Sequence[Algorithm]) -> Store:
        """Open the store that belongs to `root` with further names."""
        ceph.ensure()
        store = open_store(self.url(root), algorithm, remote=Remote(str(root)), names=names)
        store.granularity = GRANULARITY
        store.seen = 0.05
        store.check()
        return store

    def url(self, root: Path) -> str:
        """The URL of the store that belongs to `root`."""
        return f"s3://{ceph.BUCKET}{root}"

    def damage(self, root: Path, digest: Digest, data: bytes) -> None:
        """Put other bytes under the key of a blob, behind the store's back."""
        obstore.put(self._client(root), f"{digest.hex[:2]}/{digest.hex}", data)

    def age(self, root: Path, digest: Digest) -> None:
        """Wait until a blob is old enough to expire."""
        added = obstore.head(self._client(root), f"{digest.hex[:2]}/{digest.hex}")["last_modified"]
        time.sleep(max(0.0, added.timestamp() + GRANULARITY - time.time()))

    def remove_marker(self, root: Path) -> None:
        """Remove the marker of the store."""
        obstore.delete(self._client(root), marker.NAME)

    def litter(self, root: Path, algorithm: Algorithm) -> None:
        """Put things other than blobs into the store."""
        name = "ab" + "0" * (2 * algorithm.size - 2)
        client = self._client(root)
        for key in ("0a", "README", "ab", "ab/README", f"ab/{name[:-1]}", f"ab/{name}0", f"ab/{name}.part"):
            obstore.put(client, key, b"no blob")
        for key in (f"ab/{name.upper()}", f"ab/{name.replace('ab', 'cd')}", f"ab/{name}/{name}", name):
            obstore.put(client, key, b"no blob")

    def _client(self, root: Path) -> Client:
        return Bucket(self.url(root), Remote(str(root))).client


Kind: TypeAlias = LocalKind | BucketKind
# Tests that concern a disk run on these,
KINDS = [LocalKind(nameless=True), LocalKind(nameless=False)]
# every test of the contract runs on each of these.
EVERY_KIND: list[Kind] = [*KINDS, BucketKind()]


@contextmanager
def refusing_nameless(code: int) -> Iterator[None]:
    """Make open(2) fail for nameless files, as on a file system without them."""
    real = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(code, os.strerror(code), path)
        return real(path, flags, mode, **options)

    with mock.patch("os.open", refuse):
        yield
