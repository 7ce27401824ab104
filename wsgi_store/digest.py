"""Digests: which algorithms there are, how a digest is written, read and computed."""

import base64
import binascii
import enum
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from wsgi_store.errors import BadRequest, DigestMismatch

if TYPE_CHECKING:
    from hashlib import _Hash


class Algorithm(enum.Enum):
    """A hash algorithm a store can be keyed by."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"
    BLAKE2B = "blake2b"

    def new(self) -> "_Hash":
        """Return an empty hash object."""
        # Said outright so that md5 also works where FIPS mode forbids it for security.
        return hashlib.new(self.value, usedforsecurity=False)

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
_BY_FIELD_KEY = {key: algorithm for algorithm, key in _FIELD_KEYS.items()}
# RFC 8941 section 3.2: a dictionary member whose value is a byte sequence, parameters ignored.
_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*)={0,2}:(?:[ ]*;.*)?")


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


def parse_field(value: str) -> list[Digest]:
    """Read a Repr-Digest or Content-Digest field (RFC 9530).

    Algorithms unknown here are left out, as the RFC allows. Where a key is given twice the
    last one counts, and padding may be missing (RFC 8941 sections 3.2 and 4.2.7).
    Raises BadRequest when the field is malformed or a digest has the wrong length.
    """
    digests = {}
    for member in value.split(","):
        match = _MEMBER.fullmatch(member.strip(" \t"))
        if match is None:
            raise BadRequest("malformed digest field, expected algorithm=:base64:")
        algorithm = _BY_FIELD_KEY.get(match[1])
        if algorithm is None:
            continue
        try:
            raw = base64.b64decode(match[2] + "=" * (-len(match[2]) % 4))
        except binascii.Error:
            raw = b""
        if len(raw) != algorithm.size:
            raise BadRequest(f"malformed digest field: not a {algorithm.value} digest")
        digests[algorithm] = Digest(algorithm, raw)
    return list(digests.values())


class Hasher:
    """Hashes once for a store's algorithm and every algorithm a client announced.

    Raises DigestMismatch when two digests of one algorithm were announced that differ.
    """

    def __init__(self, algorithm: Algorithm, expected: Iterable[Digest] = ()) -> None:
        self._expected = tuple(expected)
        self._main = algorithm.new()
        self._algorithm = algorithm
        self._hashes = {algorithm: self._main}
        announced: dict[Algorithm, Digest] = {}
        for digest in self._expected:
            first = announced.setdefault(digest.algorithm, digest)
            if first != digest:
                # No bytes can have both: nobody needs to send any.
                raise DigestMismatch(expected=first, actual=digest)
            if digest.algorithm not in self._hashes:
                self._hashes[digest.algorithm] = digest.algorithm.new()

    def update(self, data: bytes) -> None:
        """Take more bytes in."""
        for value in self._hashes.values():
            value.update(data)

    def finish(self) -> Digest:
        """Return the digest; raises DigestMismatch if an announced one differs."""
        for digest in self._expected:
            actual = Digest(digest.algorithm, self._hashes[digest.algorithm].digest())
            if actual != digest:
                raise DigestMismatch(expected=digest, actual=actual)
        return Digest(self._algorithm, self._main.digest())


def checked(chunks: Iterable[bytes], expected: list[Digest]) -> Iterator[bytes]:
    """Pass `chunks` on; raises DigestMismatch at their end if they lack an expected digest."""
    if not expected:
        yield from chunks
        return
    hasher = Hasher(expected[0].algorithm, expected)
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk
    hasher.finish()
