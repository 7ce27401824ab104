"""Digests: the algorithms, and how a digest is written and read."""

import base64
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
    """A hash algorithm a store can be keyed by."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"
    BLAKE2B = "blake2b"

    def new(self) -> "_Hash":
        """Return an empty hash object."""
        # Said outright so that md5 also works where FIPS mode forbids it for security. By its own
        # constructor, which takes a quarter of the time of hashlib.new.
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

    @property
    def field_key(self) -> str | None:
        """The key in digest fields (RFC 9530 section 7.2), None where none is registered."""
        return _FIELD_KEYS.get(self)

    def parse(self, text: str) -> "Digest":
        """Read the hex form of a digest in either case.

        Raises ValueError when `text` is not the hex form of a digest of this algorithm.
        """
        if len(text) != 2 * self.size or not _HEX.fullmatch(text):
            raise ValueError(f"{text!r} is not a {self.value} digest in hex")
        return Digest(self, bytes.fromhex(text))


_HEX = re.compile("[0-9a-fA-F]+")
_FIELD_KEYS = {
    Algorithm.MD5: "md5",
    Algorithm.SHA1: "sha",
    Algorithm.SHA256: "sha-256",
    Algorithm.SHA512: "sha-512",
}


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm and the bytes it gave."""

    algorithm: Algorithm
    raw: bytes

    @property
    def hex(self) -> str:
        """The hash as the HTTP API and the file names write it."""
        return self.raw.hex()

    def field(self) -> str | None:
        """The value of a Repr-Digest field (RFC 9530), None where the algorithm has no key."""
        key = self.algorithm.field_key
        return key and f"{key}=:{base64.b64encode(self.raw).decode()}:"

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{self.hex}"
