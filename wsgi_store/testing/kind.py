"""The description of a kind of store for the contract suite."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability, Store


class StoreKind(ABC):
    """How to open a store of this kind, and how to act behind its back.

    Each test gets its own `root`, a path that does not exist yet and names the store. A kind that
    keeps blobs elsewhere can use it as a key, and as a directory for staged files.
    """

    tick = 0.02
    """Seconds after which another upload gives a blob another time."""
    slow = False
    """Whether an operation takes milliseconds; tests then repeat less."""

    @abstractmethod
    def open(
        self, root: Path, algorithm: Algorithm | None, durability: Durability = Durability.FULL
    ) -> Store:
        """Open the store of `root`, creating it if there is none.

        Without an algorithm, open an existing store, or raise StoreUnavailable if there is none.
        """

    def open_named(self, root: Path, algorithm: Algorithm, names: Sequence[Algorithm]) -> Store:
        """Open the store of `root` with further names, creating it if there is none.

        Only kinds that keep further names, for NamedStoreContract, need this.
        """
        raise TypeError(f"{type(self).__name__} does not open stores with further names")

    @abstractmethod
    def damage(self, root: Path, digest: Digest, data: bytes) -> None:
        """Replace the bytes of a blob, as a failing disk does."""

    def staging(self, store: Store, durability: Durability = Durability.FULL) -> Staging:
        """Return a staging for `store`."""
        return Staging(store, durability=durability)

    def age(self, root: Path, digest: Digest) -> None:
        """Make a blob old enough to expire, by waiting unless there is a faster way."""
        store = self.open(root, digest.algorithm)
        time.sleep(max(0.0, store.stat(digest).modified + store.granularity - time.time()))

    def litter(self, root: Path, algorithm: Algorithm) -> None:
        """Put things other than blobs into the store, if others could do so too."""
