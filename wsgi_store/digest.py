"""Digests: which algorithms there are, how a digest is written, read and computed."""

import base64
import binascii
import enum
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from wsgi_store.errors import BadRequest, DigestMismatch

if TYPE_CHECKING:
    from hashlib import _Hash

Chunk = bytes | memoryview
# Blocks of so many bytes and more take longer to hash than to hand over to another thread.
LARGE = 256 << 10


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


class _Helper:
    """A thread that hashes one block at a time for whoever finds it free.

    One in a process: servers have a process for each processor. It touches nothing but the
    block and the hashes, so whatever becomes of the upload leaves it nothing to clean up.
    """

    def __init__(self) -> None:
        self._free = Lock()
        self._blocks: SimpleQueue[tuple[Future[None], list["_Hash"], Chunk]] = SimpleQueue()
        self._started = False

    def hash(self, hashes: "list[_Hash]", block: Chunk) -> "Future[None] | None":
        """Begin to hash a block; None when it is busy, or no thread can be had."""
        # pylint: disable-next=consider-using-with  # released where the block is done with
        if not self._free.acquire(blocking=False):
            return None
        if not self._started:
            try:
                Thread(target=self._run, name="wsgi_store-hash", daemon=True).start()
            except RuntimeError:
                self._free.release()
                return None
            self._started = True
        done: Future[None] = Future()
        self._blocks.put((done, hashes, block))
        return done

    def _run(self) -> None:
        while True:
            done, hashes, block = self._blocks.get()
            try:
                try:
                    _update(hashes, block)
                finally:
                    del hashes, block  # which would otherwise be kept until the next one comes
                    self._free.release()
            except BaseException as error:  # pylint: disable=broad-exception-caught  # raised by `result`
                done.set_exception(error)
            else:
                done.set_result(None)


_helper = _Helper()


def _forget_helper() -> None:
    """Threads are not copied by fork(2)."""
    global _helper  # pylint: disable=global-statement
    _helper = _Helper()


os.register_at_fork(after_in_child=_forget_helper)


def _update(hashes: "Iterable[_Hash]", block: Chunk) -> None:
    for value in hashes:
        value.update(block)


class Hasher:
    """Hashes once for a store's algorithm and every algorithm a client announced.

    Large blocks are hashed while the next one is received. Raises DigestMismatch when two
    digests of one algorithm were announced that differ.
    """

    def __init__(self, algorithm: Algorithm, expected: Iterable[Digest] = ()) -> None:
        self._expected = tuple(expected)
        self._main = algorithm.new()
        self._algorithm = algorithm
        self._hashes = {algorithm: self._main}
        self._begun = False
        self._pending: Future[None] | None = None
        announced: dict[Algorithm, Digest] = {}
        for digest in self._expected:
            first = announced.setdefault(digest.algorithm, digest)
            if first != digest:
                # No bytes can have both: nobody needs to send any.
                raise DigestMismatch(expected=first, actual=digest)
            if digest.algorithm not in self._hashes:
                self._hashes[digest.algorithm] = digest.algorithm.new()

    def update(self, data: Chunk) -> None:
        """Take more bytes in; they must stay as they are until the next call of any method."""
        self._settle()
        hashes = list(self._hashes.values())
        # Not the first block: it is often the only one, and there is nothing to receive meanwhile.
        if self._begun and len(data) >= LARGE:
            self._pending = _helper.hash(hashes, data)
        if self._pending is None:
            _update(hashes, data)
        self._begun = True

    def _settle(self) -> None:
        """Wait for the block before."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def finish(self) -> Digest:
        """Return the digest; raises DigestMismatch if an announced one differs."""
        self._settle()
        for digest in self._expected:
            actual = Digest(digest.algorithm, self._hashes[digest.algorithm].digest())
            if actual != digest:
                raise DigestMismatch(expected=digest, actual=actual)
        return Digest(self._algorithm, self._main.digest())


def checked(chunks: Iterable[Chunk], expected: list[Digest]) -> Iterator[Chunk]:
    """Pass `chunks` on; raises DigestMismatch at their end if they lack an expected digest."""
    if not expected:
        yield from chunks
        return
    hasher = Hasher(expected[0].algorithm, expected)
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk
    hasher.finish()
