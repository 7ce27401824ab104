"""The blobs of a tree: small ones many at a time, in archives; large ones to files."""

from collections.abc import Sequence
from functools import partial
from typing import BinaryIO

from wsgi_store.client.download import Download, Remote
from wsgi_store.client.kept import Kept
from wsgi_store.client.repair import mend
from wsgi_store.client.save import save
from wsgi_store.client.source import Progress
from wsgi_store.client.transport import PIECE, Transport
from wsgi_store.client.tree.archive import BLOCK, END, MOST_BLOCKS, Cut, files
from wsgi_store.digest import Digest
from wsgi_store.errors import (
    BlobNotFound,
    DigestMismatch,
    MethodNotAllowed,
    NotFound,
    StoreUnavailable,
    Unreachable,
    WSGIStoreError,
)

Wanted = tuple[Digest, int]
"""A digest, and the size that a blob must have, in bytes."""
Fetched = bytes | memoryview | WSGIStoreError | OSError
"""The bytes of a blob, which have its digest, or why there are none."""

FIELDS = {"Content-Type": "text/plain", "Accept": "application/x-tar"}


class Blobs:
    """The blobs of a server; threads may share it."""

    def __init__(self, transport: Transport, kept: Kept) -> None:
        self._transport = transport
        self._kept = kept
        self._archives = True

    def _knows(self, digest: Digest) -> bool:
        """Whether the server finds blobs by hashes of this algorithm."""
        return digest.algorithm in self._kept.algorithms()

    def save(
        self, digest: Digest, path: str, *, below: str, size: int | None, progress: Progress | None
    ) -> None:
        """Download a blob to a file; raises BlobNotFound if it has another size than this one."""
        if size is not None and not self._knows(digest):
            raise absent(digest, size)

        def begin(known: BinaryIO) -> Download:
            download = Download(
                Remote(self._transport, self._kept, digest, below, progress=progress, known=known)
            )
            if size is not None and download.size not in (None, size):
                download.close()
                raise absent(digest, size)
            return download

        save(begin, partial(mend, self._transport, digest, below), path, force=True)

    def fetch(self, wanted: Sequence[Wanted]) -> dict[Wanted, Fetched]:
        """Return small blobs, or the failure that concerns one alone; raises other failures."""
        fetched: dict[Wanted, Fetched] = {}
        if not self._knows(wanted[0][0]):
            return {one: absent(*one) for one in wanted}
        try:
            if self._archives:
                self._transport.retries.repeat(
                    lambda: self._by_archive(wanted, fetched), reached=lambda: len(fetched)
                )
        except (NotFound, MethodNotAllowed):
            self._archives = False  # an older server, or a proxy that refuses this
        except (StoreUnavailable, Unreachable):
            pass  # in the middle of an archive a server cannot say which blob it fails to read
        for one in wanted:
            if one not in fetched:
                fetched[one] = self._alone(*one)
        return fetched

    def _by_archive(self, wanted: Sequence[Wanted], fetched: dict[Wanted, Fetched]) -> None:
        missing = {digest.hex: (digest, size) for digest, size in wanted if (digest, size) not in fetched}
        # The server leaves out a blob of another size than asked, which might not fit in memory.
        body = "".join(f"{hash_} {size}\n" for hash_, (_, size) in missing.items()).encode()
        most = len(END) + sum(MOST_BLOCKS * BLOCK + size for _, size in missing.values())
        received = bytearray()
        try:
            self._receive(body, most, received)
        finally:
            # The blobs before the one where a connection breaks need not come again.
            is_whole = self._unpack(received, missing, fetched)
        if not is_whole:
            raise Unreachable(f"cannot reach {self._transport.base}: the archive was cut off")
        for one in wanted:
            fetched.setdefault(one, absent(*one))

    def _receive(self, body: bytes, most: int, received: bytearray) -> None:
        answer = self._transport.send("POST", "archive", body, headers=FIELDS)
        try:
            with self._transport.broken():
                for data in answer.stream(PIECE):
                    received += data
                    if len(received) > most:
                        raise self._transport.strange()
        finally:
            answer.close()

    def _unpack(
        self, received: bytearray, missing: dict[str, Wanted], fetched: dict[Wanted, Fetched]
    ) -> bool:
        """Compare blobs with their digests; returns whether the archive is whole."""
        try:
            for hash_, data in files(received):
                wanted = missing.get(hash_)
                if wanted is None or wanted in fetched or len(data) != wanted[1]:
                    raise self._transport.strange()
                found = wanted[0].algorithm.new()
                found.update(data)
                fetched[wanted] = data if found.digest() == wanted[0].raw else self._damaged(wanted[0])
        except Cut:
            return False
        return True

    def _damaged(self, digest: Digest) -> DigestMismatch:
        told = f"the copy of {digest.hex} on {self._transport.base} is damaged"
        return DigestMismatch(told, expected=digest)

    def _alone(self, digest: Digest, size: int) -> Fetched:
        try:
            with Download(Remote(self._transport, self._kept, digest, digest.hex)) as download:
                if download.size in (None, size):
                    # The bytes are compared with the digest when no more follow.
                    data = download.read(size + 1)
                    if len(data) == size:
                        return data
                return absent(digest, size)
        except WSGIStoreError as error:
            if not concerns_one(error):
                raise
            return error


def concerns_one(error: WSGIStoreError) -> bool:
    """Whether a failure concerns one blob, so that others may be fetched."""
    return isinstance(error, BlobNotFound | DigestMismatch) or (
        isinstance(error, StoreUnavailable) and "hash" in error.evidence
    )


def absent(digest: Digest, size: int) -> BlobNotFound:
    """Return the failure for a blob that the server lacks, or has with another size."""
    return BlobNotFound(f"no blob {digest.hex} of {size} bytes in this store", hash=digest.hex)
