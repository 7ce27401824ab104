"""Downloads: resumed after a broken connection, and checked before the last bytes are returned."""

import errno
import io
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from urllib3 import BaseHTTPResponse

from wsgi_store.client.kept import Kept
from wsgi_store.client.source import Progress
from wsgi_store.client.transport import PIECE, Transport
from wsgi_store.digest import Digest
from wsgi_store.errors import DigestMismatch, RangeNotSatisfiable, UnexpectedAnswer, Unreachable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bytes that small reads read ahead, and that a seek discards.
BUFFER = 64 << 10


class Download(io.BufferedReader):
    """A blob as a binary file, for all that reads files: json, zipfile, io.TextIOWrapper.

    A read from the beginning to the end returns the last bytes only if all bytes have the digest;
    otherwise it raises DigestMismatch. After a seek the bytes cannot be checked, only TLS protects
    them. A broken connection is resumed; raises Unreachable when that fails, UnexpectedAnswer, and
    the failures that the server reports.
    """

    def __init__(self, remote: "Remote") -> None:
        super().__init__(remote, BUFFER)
        self._remote = remote

    @property
    def size(self) -> int | None:
        """The size of the blob in bytes; None if the server does not say."""
        return self._remote.size

    @property
    def withheld(self) -> bytes:
        """The last bytes, if they were not returned because the digest is another one."""
        return self._remote.withheld

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive, faster than `read`; do not mix the two."""
        return self._remote.pieces()


class Remote(io.RawIOBase):
    """The unbuffered bytes of a blob; `known` holds the first of them, which are not read again."""

    def __init__(  # pylint: disable=too-many-arguments
        self,
        transport: Transport,
        kept: Kept,
        digest: Digest,
        path: str,
        *,
        progress: Progress | None = None,
        known: BinaryIO | None = None,
    ) -> None:
        super().__init__()
        self._answer: BaseHTTPResponse | None = None
        self._transport = transport
        self._kept = kept
        self._digest = digest
        self._path = path
        self._progress = progress
        self._hash = digest.algorithm.new()
        self._at = 0
        self._skip = 0
        while known is not None and (data := known.read(PIECE)):
            self._hash.update(data)
            self._at += len(data)
        self.size: int | None = None
        """The size of the blob in bytes; None if the server does not say."""
        self.withheld = b""
        self._answer = transport.retries.repeat(self._request)
        self._chunks = self._checked()
        self._rest = memoryview(b"")
        self._position = 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive."""
        return self._chunks

    def seekable(self) -> bool:
        """It can be read from any position."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Change the position; the next read asks the server for the bytes from there."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if origin is None:
            raise io.UnsupportedOperation("the server does not say how large the blob is")
        if origin + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        ahead = origin + offset - self._position
        self._position += ahead
        if 0 <= ahead <= len(self._rest):
            self._rest = self._rest[ahead:]
        else:
            self._rest = memoryview(b"")
            self._chunks = self._from(self._position)
        return self._position

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    def _from(self, start: int) -> Iterator[bytes]:
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        if self.size is not None and start >= self.size:
            return
        self._hash = self._digest.algorithm.new()
        self._at = start
        self._answer = self._transport.retries.repeat(self._request)
        yield from self._received() if start else self._checked()

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read into a buffer; return the number of bytes, 0 only at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        with memoryview(buffer).cast("B") as view:
            length = min(len(view), len(self._rest))
            view[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        self._position += length
        return length

    def close(self) -> None:
        """Drop the connection."""
        if not self.closed and self._answer is not None:
            self._answer.close()
        super().close()

    def _checked(self) -> Iterator[bytes]:
        held = b""
        for data in self._received():
            self._hash.update(data)
            if held:
                yield held
            held = data
        actual = Digest(self._digest.algorithm, self._hash.digest())
        if actual != self._digest:
            self._kept.forget()
            if self._digest.algorithm not in self._kept.algorithms():
                raise UnexpectedAnswer(
                    f"{self._transport.base} has changed its algorithms, and {self._digest.hex} is no "
                    f"{self._digest.algorithm.value} hash any more: start the download again"
                )
            self.withheld = held
            # TCP checks what it carries, so the copy on the server is what must be damaged.
            raise DigestMismatch(
                f"the copy of {self._digest.hex} on {self._transport.base} is damaged: its bytes have the "
                f"hash {actual.hex}",
                expected=self._digest,
                actual=actual,
            )
        if held:
            yield held

    def _received(self) -> Iterator[bytes]:
        pauses = self._transport.retries.pauses()
        while self._answer is not None:
            begin = self._at
            try:
                yield from self._body(self._answer)
                # A server may send less than the requested range (RFC 9110 section 15.3.7).
                if self._at == begin or self._at >= (self.size or 0):
                    return
            except Unreachable:
                self._answer.close()
                # A connection that delivered something counts as a success.
                if self._at > begin:
                    pauses = self._transport.retries.pauses()
                pause = next(pauses, None)
                if pause is None or self._transport.retries.pause(pause):
                    raise
            self._answer = self._transport.retries.repeat(self._request)

    def _body(self, answer: BaseHTTPResponse) -> Iterator[bytes]:
        with self._transport.broken():
            for data in answer.stream(PIECE):
                skipped = min(self._skip, len(data))
                self._skip -= skipped
                if skipped == len(data):
                    continue
                self._at += len(data) - skipped
                if self._progress is not None:
                    self._progress(self._at)
                yield data[skipped:] if skipped else data

    def _request(self) -> BaseHTTPResponse | None:
        """Request the bytes from the current one on; return None if there are none."""
        fields = {}
        self._skip = 0
        if self._at:
            fields = {"Range": f"bytes={self._at}-", "If-Range": f'"{self._digest.hex}"'}
        try:
            answer = self._transport.send("GET", self._path, headers=fields, redirect=True)
            if answer.status == 307:
                elsewhere = self._transport.follow(answer)
                answer.close()
                # The object store may be unreachable from here. A server that gets a condition answers
                # itself; therefore it redirects only requests for a whole blob.
                answer = elsewhere or self._transport.send(
                    "GET", self._path, headers={"If-Match": f'"{self._digest.hex}"'}
                )
        except RangeNotSatisfiable as error:
            if error.evidence.get("size") != self._at:
                raise
            self.size = self._at
            return None
        if answer.status == 200:
            # A server without ranges sends the whole blob; skip what was received before.
            self._skip = self._at
            self.size = answer.length_remaining
            return answer
        told = re.fullmatch(rf"bytes {self._at}-[0-9]+/([0-9]+)", answer.headers.get("Content-Range", ""))
        if told is None:
            answer.close()
            raise UnexpectedAnswer(f"{self._transport.base} sent another range than the requested one")
        self.size = int(told[1])
        return answer
