"""What the contract suite has to know about a kind of store."""

import time
from abc import ABC, abstractmethod
from pathlib import Path

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability, Store


class StoreKind(ABC):
    """How to open a store of this kind, and how to do what happens behind its back.

    Each test has a `root` of its own: a path where nothing is yet, which names the store. A kind
    whose blobs are elsewhere takes it for a key, and may keep staged files there.
    """

    tick = 0.02
    """Seconds after which another upload gives a blob another time."""
    slow = False
    """Whether an operation takes milliseconds; tests then repeat less."""

    @abstractmethod
    def open(
        self, root: Path, algorithm: Algorithm | None, durability: Durability = Durability.FULL
    ) -> Store:
        """Open the store of `root`, making it when it is not there.

        Without an algorithm, open the store that is there; raise StoreUnavailable when there is none.
        """

    @abstractmethod
    def damage(self, root: Path, digest: Digest, data: bytes) -> None:
        """Put other bytes in the place of a blob's, as a failing disk does."""

    def staging(self, store: Store, durability: Durability = Durability.FULL) -> Staging:
        """The way into `store`."""
        return Staging(store, durability=durability)

    def age(self, root: Path, digest: Digest) -> None:
        """Make a blob old enough to expire, by waiting unless there is a faster way."""
        store = self.open(root, digest.algorithm)
        time.sleep(max(0.0, store.stat(digest).modified + store.granularity - time.time()))

    def litter(self, root: Path, algorithm: Algorithm) -> None:
        """Put things into the store that are not blobs, where others could do so too."""
