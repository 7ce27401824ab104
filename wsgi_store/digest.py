"""Digests: an algorithm with the bytes it computed, and their hex form."""

import enum
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from types import ModuleType
from typing import TYPE_CHECKING

from wsgi_store.errors import ConfigError

if TYPE_CHECKING:
    from hashlib import _Hash

Chunk = bytes | memoryview


class Algorithm(enum.Enum):
    """A hash algorithm that can name the blobs of a store."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"
    BLAKE2B = "blake2b"
    BLAKE3 = "blake3"

    # Members are the keys of the dicts in every upload, and Enum hashes their names in Python.
    __hash__ = object.__hash__

    def new(self) -> "_Hash":
        """Return a hash object that has seen no bytes.

        Raises ConfigError if the algorithm needs a package that is not installed.
        """
        # FIPS mode blocks md5 unless the caller says that it is not for security. The algorithm's own
        # constructor is much faster than hashlib.new.
        module = _blake3() if self is Algorithm.BLAKE3 else hashlib
        constructor: Callable[..., "_Hash"] = getattr(module, self.value)
        return constructor(usedforsecurity=False)

    @cached_property
    def size(self) -> int:
        """The length of a digest in bytes."""
        return _SIZES[self]

    @property
    def collision_resistant(self) -> bool:
        """Whether equal digests prove equal bytes."""
        return self not in (Algorithm.MD5, Algorithm.SHA1)

    def parse(self, text: str) -> "Digest":
        """Read the hex form of a digest, in upper or lower case.

        Raises ValueError if `text` is not the hex form of a digest of this algorithm.
        """
        if len(text) != 2 * self.size or not _HEX.fullmatch(text):
            raise ValueError(f"{text!r} is not a {self.value} digest in hex")
        return Digest(self, bytes.fromhex(text))


_HEX = re.compile("[0-9a-fA-F]+")
# A hash can be parsed where the package that computes it is missing.
_SIZES = {
    Algorithm.MD5: 16,
    Algorithm.SHA1: 20,
    Algorithm.SHA256: 32,
    Algorithm.SHA512: 64,
    Algorithm.BLAKE2B: 64,
    Algorithm.BLAKE3: 32,
}


def _blake3() -> ModuleType:
    try:
        import blake3  # pylint: disable=import-outside-toplevel  # optional
    except ImportError as error:
        raise ConfigError(
            "blake3 needs the package blake3: install the extra blake3 (docs/deployment.md)"
        ) from error
    return blake3


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm and the bytes it computed."""

    algorithm: Algorithm
    raw: bytes

    @property
    def hex(self) -> str:
        """The digest in lowercase hex: the hash in the HTTP API and in file names."""
        return self.raw.hex()

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{self.hex}"


def parse_any(algorithms: Sequence[Algorithm], text: str) -> Digest:
    """Read the hex form of a digest of whichever algorithm has hashes of its length.

    Raises ValueError, which names the algorithms, if there is none or `text` is not hex.
    """
    for algorithm in algorithms:
        if len(text) == 2 * algorithm.size:
            return algorithm.parse(text)
    *others, last = [algorithm.value for algorithm in algorithms]
    named = " or ".join(filter(None, [", ".join(others), last]))
    raise ValueError(f"{text!r} is not a {named} digest in hex")


def require_distinct(algorithms: Sequence[Algorithm]) -> None:
    """Raise ValueError if two algorithms have hashes of one length, which nothing tells apart."""
    for one, other in combinations(algorithms, 2):
        if one is other:
            raise ValueError(f"{one.value} is given twice")
        if one.size == other.size:
            raise ValueError(f"{one.value} and {other.value} have hashes of the same length")
