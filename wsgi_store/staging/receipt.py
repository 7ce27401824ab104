"""The result of an upload."""

from dataclasses import dataclass
from typing import Self

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.store.contract import Added, Publication


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of an upload: its primary name, its size in bytes, and what the store had before."""

    digest: Digest
    size: int
    added: Added
    names: tuple[Digest, ...] = ()
    """All its names, the primary one first."""
    ambiguous: tuple[Algorithm, ...] = ()
    """Algorithms by which another blob has the same name, which does not lead to this one."""

    @classmethod
    def of(cls, stored: Publication, size: int) -> Self:
        """Return the receipt for a file of `size` bytes that was published."""
        return cls(stored.names[0], size, stored.added, stored.names, stored.ambiguous)

    @property
    def created(self) -> bool:
        """Whether the store lacked the blob, or had a damaged one."""
        return self.added is not Added.HELD

    @property
    def healed(self) -> bool:
        """Whether it replaced a damaged blob."""
        return self.added is Added.HEALED
