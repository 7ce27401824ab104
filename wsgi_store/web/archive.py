"""The handler that sends many blobs as one tar archive."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, StoreError, StoreUnavailable
from wsgi_store.store.abilities import LocalPaths
from wsgi_store.store.contract import BlobReader, Store
from wsgi_store.threads import pool_of
from wsgi_store.web import hash_list, tar
from wsgi_store.web.hash_list import Asked
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Headers, Response
from wsgi_store.web.response_body import SEND_SIZE, Body, pieces

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

FIELDS: Headers = [("Content-Type", "application/x-tar"), ("Cache-Control", "no-store"), NO_SNIFFING]
# Bytes of which small blobs are sent together at least.
PIECE = SEND_SIZE
# Blobs that are requested ahead of the one that is sent, where each takes a request of its own.
AHEAD = 16

Begun: TypeAlias = tuple[BlobReader, bytes]
"""A blob that is open, and its first bytes."""


def archive(request: Request) -> Response:
    """Send the blobs of a list, except those that the store lacks, as files named by the hashes.

    Raises BadRequest, Denied, StoreError, TooLarge and UnsupportedMediaType.
    """
    asked = hash_list.read(request, "read")
    return Response(Archive(request.environ, request.store, request.backend.paths, asked), 200, FIELDS)


class Archive(Body):
    """An archive as a response body; its first bytes are read before the response begins.

    It has its end only if each blob was sent whole.
    """

    def __init__(
        self, environ: "WSGIEnvironment", store: Store, paths: LocalPaths | None, asked: Asked
    ) -> None:
        self._pieces = _pieces(_nearby(paths, asked) if paths is not None else _ahead(store, asked))
        super().__init__(environ, self._pieces.close)
        self._first = next(self._pieces)

    def _blocks(self) -> Iterator[bytes]:
        yield self._first
        yield from self._pieces


def _pieces(blobs: Generator[Begun, None, None]) -> Generator[bytes, None, None]:
    """Yield an archive of these blobs, each of which is closed before the next one is requested."""
    held: list[bytes] = []
    length = 0
    with closing(blobs):
        for reader, first in blobs:
            with closing(reader):
                size = reader.blob.size
                held += (tar.header(reader.blob.digest.hex, size), first)
                length += tar.BLOCK + len(first)
                left = size - len(first)
                for block in pieces(reader, left):
                    if length >= PIECE:
                        yield b"".join(held)
                        held, length = [], 0
                    held.append(block)
                    length += len(block)
                    left -= len(block)
                if left:
                    raise StoreUnavailable("a blob is shorter than it was when it was opened")
            held.append(tar.padding(size))
            if length >= PIECE:
                yield b"".join(held)
                held, length = [], 0
    held.append(tar.END)
    yield b"".join(held)


def _nearby(paths: LocalPaths, asked: Asked) -> Generator[Begun, None, None]:
    with paths.nearby() as open_:
        for digest, size in asked.items():
            try:
                reader = open_(digest)
            except BlobNotFound:
                continue
            if size is None or size == reader.blob.size:
                yield reader, b""
            else:
                reader.close()


def _ahead(store: Store, asked: Asked) -> Generator[Begun, None, None]:
    rest = iter(asked.items())
    waiting: deque[Future[Begun | None]] = deque()
    with pool_of(AHEAD, "wsgi_store-archive") as pool:
        try:
            waiting.extend(pool.submit(_begin, store, *one) for one in islice(rest, AHEAD))
            while waiting:
                begun = waiting.popleft().result()
                waiting.extend(pool.submit(_begin, store, *one) for one in islice(rest, 1))
                if begun is not None:
                    yield begun
        finally:
            for future in waiting:
                if not future.cancel():
                    future.add_done_callback(_close)


def _begin(store: Store, digest: Digest, size: int | None) -> Begun | None:
    """Open a blob and read its first bytes; None if there is none of this size."""
    try:
        reader = store.open(digest)
    except BlobNotFound:
        return None
    try:
        if size in (None, reader.blob.size):
            return reader, b"".join(pieces(reader, min(reader.blob.size, SEND_SIZE)))
    except StoreError:
        reader.close()
        raise
    reader.close()
    return None


def _close(future: Future[Begun | None]) -> None:
    with suppress(StoreError):
        if (begun := future.result()) is not None:
            begun[0].close()
