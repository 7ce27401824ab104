"""Digests: an algorithm with the bytes it computed, and their hex form."""

import enum
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

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

    def new(self) -> "_Hash":
        """Return a hash object that has seen no bytes."""
        # FIPS mode blocks md5 unless the caller says that it is not for security. The algorithm's own
        # constructor is much faster than hashlib.new.
        constructor: Callable[..., "_Hash"] = getattr(hashlib, self.value)
        return constructor(usedforsecurity=False)

    @cached_property
    def size(self) -> int:
        """The length of a digest in bytes."""
        return self.new().digest_size

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
