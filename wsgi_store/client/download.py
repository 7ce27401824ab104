"""Downloads: carried on where a connection broke, and checked before their last byte is given out."""

import errno
import io
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from urllib3 import BaseHTTPResponse

from wsgi_store.client.source import Progress
from wsgi_store.client.transport import BLOCK, Transport
from wsgi_store.digest import Digest
from wsgi_store.errors import DigestMismatch, RangeNotSatisfiable, UnexpectedAnswer, Unreachable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What is read ahead by small reads, and thrown away where one seeks.
BUFFER = 64 << 10


class Download(io.BufferedReader):
    """The bytes of a blob as a binary file, for whatever reads files: json, zipfile, io.TextIOWrapper.

    Where a connection breaks the next one carries on; Unreachable is raised when none does. Read
    from the beginning to the end, the last bytes are given out only when all of them have the
    digest; else DigestMismatch is raised. To seek asks the server for the bytes from there on, which
    cannot be compared with the digest alone: TLS is what vouches for them.
    """

    def __init__(self, remote: "Remote") -> None:
        super().__init__(remote, BUFFER)
        self._remote = remote

    @property
    def size(self) -> int | None:
        """In bytes; None where the server does not tell."""
        return self._remote.size

    def pieces(self) -> Iterator[bytes]:
        """The bytes in pieces as they come, which takes least; for a download that is not read otherwise."""
        return self._remote.pieces()


class Remote(io.RawIOBase):
    """The bytes of a blob as they come. `known` are the first ones, which are not given out."""

    def __init__(
        self,
        transport: Transport,
        digest: Digest,
        path: str,
        progress: Progress | None = None,
        known: BinaryIO | None = None,
    ) -> None:
        super().__init__()
        self._answer: BaseHTTPResponse | None = None
        self._transport = transport
        self._digest = digest
        self._path = path
        self._progress = progress
        self._hash = digest.algorithm.new()
        self._at = 0
        self._skip = 0
        while known is not None and (data := known.read(BLOCK)):
            self._hash.update(data)
            self._at += len(data)
        self.size: int | None = None
        """In bytes; None where the server does not tell."""
        self._answer = transport.repeat(self._request)
        self._chunks = self._checked()
        self._rest = memoryview(b"")
        self._position = 0

    def pieces(self) -> Iterator[bytes]:
        """The bytes in pieces."""
        return self._chunks

    def seekable(self) -> bool:
        """It can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go on from another place; the server is asked when there is something to read from there."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if origin is None:
            raise io.UnsupportedOperation("the server does not tell the size")
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
        """Where it is."""
        return self._position

    def _from(self, start: int) -> Iterator[bytes]:
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        if self.size is not None and start >= self.size:
            return
        self._hash = self._digest.algorithm.new()
        self._at = start
        self._answer = self._transport.repeat(self._request)
        yield from self._received() if start else self._checked()

    def readable(self) -> bool:
        """It can be read from."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read up to as many bytes as the buffer takes; 0 only at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        with memoryview(buffer).cast("B") as view:
            length = min(len(view), len(self._rest))
            view[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        self._position += length
        return length

    def close(self) -> None:
        """Give the connection up."""
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
            # Until the last byte nobody knows; and what TCP carries breaks on its way but seldom.
            raise DigestMismatch(
                f"the copy of {self._digest.hex} on {self._transport.base} is damaged: its bytes have the "
                f"hash {actual.hex}",
                expected=self._digest,
                actual=actual,
            )
        if held:
            yield held

    def _received(self) -> Iterator[bytes]:
        pauses = self._transport.pauses()
        while self._answer is not None:
            begin = self._at
            try:
                yield from self._body(self._answer)
                # Less of a range may come than was asked for (RFC 9110 section 15.3.7).
                if self._at == begin or self._at >= (self.size or 0):
                    return
            except Unreachable:
                self._answer.close()
                # As long as something comes there is no reason to give up.
                if self._at > begin:
                    pauses = self._transport.pauses()
                pause = next(pauses, None)
                if pause is None or self._transport.pause(pause):
                    raise
            self._answer = self._transport.repeat(self._request)

    def _body(self, answer: BaseHTTPResponse) -> Iterator[bytes]:
        with self._transport.broken():
            for data in answer.stream(BLOCK):
                skipped = min(self._skip, len(data))
                self._skip -= skipped
                if skipped == len(data):
                    continue
                self._at += len(data) - skipped
                if self._progress is not None:
                    self._progress(self._at)
                yield data[skipped:] if skipped else data

    def _request(self) -> BaseHTTPResponse | None:
        """Ask for the bytes from here on; None when there are no more."""
        fields = {}
        self._skip = 0
        if self._at:
            fields = {"Range": f"bytes={self._at}-", "If-Range": f'"{self._digest.hex}"'}
        try:
            answer = self._transport.send("GET", self._path, headers=fields, redirect=True)
            if answer.status == 307:
                elsewhere = self._transport.follow(answer)
                answer.close()
                # Object stores may be out of reach here. On a condition a server answers itself, which
                # is why nothing but the beginning of a download is redirected.
                answer = elsewhere or self._transport.send(
                    "GET", self._path, headers={"If-Match": f'"{self._digest.hex}"'}
                )
        except RangeNotSatisfiable as error:
            if error.evidence.get("size") != self._at:
                raise
            self.size = self._at
            return None
        if answer.status == 200:
            # Whoever does not do ranges sends the whole, whose bytes are the same.
            self._skip = self._at
            self.size = answer.length_remaining
            return answer
        told = re.fullmatch(rf"bytes {self._at}-[0-9]+/([0-9]+)", answer.headers.get("Content-Range", ""))
        if told is None:
            answer.close()
            raise UnexpectedAnswer(f"{self._transport.base} sends other bytes than were asked for")
        self.size = int(told[1])
        return answer
