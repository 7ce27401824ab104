"""Reading an object from the engine."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import obstore
from obstore.exceptions import BaseError

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.filesystem import disk_errors
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import described, key_of
from wsgi_store.store.bucket.version import version_of
from wsgi_store.store.contract import Blob
from wsgi_store.store.staged import StagedFile

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

Ask: TypeAlias = Callable[[int, int], "GetResult"]
"""Requests the bytes from a start to a stop."""
READ_SIZE = 1 << 18
# More bytes than any object has, but within the integers of obstore.
BEYOND = 1 << 62


class ObjectReader:
    """Reads part of an object as one response delivers it, with another request where that breaks off."""

    def __init__(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self, blob: Blob, start: int, stop: int, ask: Ask, timeout: float, stamp: object
    ) -> None:
        self.blob = blob
        self.stamp = stamp
        self.start = self._position = min(start, blob.size)
        self._stop = max(self.start, min(stop, blob.size))
        self._ask = ask
        self._timeout = timeout
        self._begun = 0.0
        self._stream: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def begin(self, result: "GetResult") -> None:
        """Read from this response."""
        self._begun = time.monotonic()
        self._stream = iter(result.stream(min_chunk_size=READ_SIZE))

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; raises StoreUnavailable."""
        if size < 0:
            return b"".join(self)
        size = min(size, self._stop - self._position)
        if size <= 0:
            return b""
        if not self._rest:
            self._rest = memoryview(self._next())
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        self._position += len(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        return iter(partial(self.read, READ_SIZE), b"")

    def _next(self) -> bytes:
        hash_ = self.blob.digest.hex
        begin = time.monotonic()
        with asking("cannot read the blob"):
            try:
                chunk = self._chunk()
            except BaseError:
                # obstore resumes by itself only until `timeout` after the request, and slow clients need
                # longer. If this read alone took `timeout`, nothing has moved.
                if not self._begun + self._timeout <= time.monotonic() < begin + self._timeout:
                    raise
                self._stream = None
                chunk = self._chunk()
        if not chunk:
            raise StoreUnavailable(f"the blob {hash_} is shorter than it was when it was opened", hash=hash_)
        return chunk

    def _chunk(self) -> bytes:
        if self._stream is None:
            try:
                self.begin(self._ask(self._position, self._stop))
            except FileNotFoundError:
                raise BlobNotFound(hash=self.blob.digest.hex) from None
        assert self._stream is not None
        return next(filter(None, self._stream), b"")

    def seek(self, offset: int, /) -> int:
        """Continue at `offset`; the next read there sends another request."""
        if offset != self._position:
            self.close()
            self._position = offset
        return offset

    def tell(self) -> int:
        """Return the offset of the next byte from the beginning of the blob."""
        return self._position

    def close(self) -> None:
        """Drop the response and its connection."""
        self._stream = None
        self._rest = memoryview(b"")


def ask(bucket: Bucket, key: str, start: int, stop: int) -> "GetResult":
    """Request part of an object; raises what obstore raises."""
    options: GetOptions = {} if (start, stop) == (0, BEYOND) else {"range": (start, stop)}
    return obstore.get(bucket.client, key, options=options)


def open_at(bucket: Bucket, at: Digest) -> ObjectReader:
    """Open the object under the key of a name; raises BlobNotFound and StoreUnavailable."""
    with asking("cannot open the blob"):
        try:
            result = ask(bucket, key_of(at), 0, BEYOND)
        except FileNotFoundError:
            raise BlobNotFound(hash=at.hex) from None
    return reading(bucket, result, at, at, 0, BEYOND)


def reading(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    bucket: Bucket, result: "GetResult", digest: Digest, at: Digest, start: int, stop: int
) -> ObjectReader:
    """Return a reader of a blob that was asked for by `digest`, of which `ask` returned this response.

    For an empty part the response may be a description.
    """
    again = partial(ask, bucket, key_of(at))
    blob = described(digest, result.meta, at)
    reader = ObjectReader(blob, start, stop, again, bucket.timeout, version_of(result))
    if start < stop:
        reader.begin(result)
    return reader


def compare(reader: ObjectReader, digest: Digest, staged: StagedFile | None = None) -> tuple[bool, bool]:
    """Read a blob; returns whether it has a digest, and whether it equals a staged file."""
    hashed = digest.algorithm.new()
    same = staged is not None
    with disk_errors("cannot read the file"):
        for block in reader:
            hashed.update(block)
            if staged is not None and same:
                same = os.pread(staged.fd, len(block), reader.tell() - len(block)) == block
        if staged is not None and same:
            same = reader.tell() == os.fstat(staged.fd).st_size
    return hashed.digest() == digest.raw, same
