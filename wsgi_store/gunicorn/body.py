"""Request bodies, received straight into the buffer of whoever reads them."""

import math
import re
import time
from typing import Any

from gunicorn.http import body
from gunicorn.http.errors import ChunkMissingTerminator, NoMoreData

from wsgi_store.gunicorn.interim import Continue
from wsgi_store.gunicorn.transfer import Transfer

# What stands between the data of two chunks, unless the sender adds extensions (RFC 9112 section 7.1).
BETWEEN = re.compile(rb"\r\n([0-9a-fA-F]{1,15})\r\n")
# The line of the last chunk, which trailers and an empty line follow.
LAST = re.compile(rb"\r\n0+[ \t]*(;[^\r]*)?\r\n")
# A buffer with less room than this, in bytes, counts as full: a system call for a few bytes is not worth it.
ROOM = 4096
# `receive_into` returns what has arrived after this many seconds.
MOMENT = 0.5


class LengthReader(body.LengthReader):  # type: ignore[misc]  # gunicorn has no type hints
    """A body of known length, received into the reader's buffer past gunicorn's own."""

    length: int

    def __init__(self, unreader: Any, length: int) -> None:
        super().__init__(unreader, length)
        self._total = length

    def received(self) -> int:
        """Return how many bytes of the body have been received."""
        return self._total - self.length

    def read(self, size: int) -> bytes:
        """Read `size` bytes; fewer where the body ends or the connection breaks."""
        size = min(self.length, size)
        if size <= self.unreader.buf.getbuffer().nbytes:
            data: bytes = super().read(size)
            return data
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: self.readinto(buffer)])

    def readinto(self, buffer: memoryview, until: float = math.inf) -> int:
        """Fill `buffer`, less where the body ends or the connection breaks; return the number of bytes.

        Return what has arrived by `until` (monotonic time), or before an error, which the next call meets.
        """
        unreader = self.unreader
        # What arrived with the head is in gunicorn's buffer. Asked for more than that, gunicorn's reader
        # would receive and copy the rest in pieces.
        filled: int = min(len(buffer), self.length, unreader.buf.getbuffer().nbytes)
        buffer[:filled] = super().read(filled)
        end = min(len(buffer), filled + self.length)
        try:
            while filled < end and (count := unreader.sock.recv_into(buffer[filled:end])):
                filled += count
                self.length -= count
                if time.monotonic() >= until:
                    break
        except OSError:
            if until == math.inf or not filled:
                raise
        return filled


class ChunkedReader(body.ChunkedReader):  # type: ignore[misc]
    """A chunked body, decoded in the buffer that it is received into.

    gunicorn's reader receives and copies chunk by chunk. It still parses whatever stands between chunks
    besides a plain size, so that its limits and its errors apply.
    """

    _received = 0
    # What has arrived of the bytes between two chunks. Every chunk but the first follows the line end of
    # another.
    _held = b"\r\n"
    _left = 0  # how many bytes of the chunk are missing
    _behind = memoryview(b"")  # received behind the bytes that gunicorn is parsing

    def __init__(self, request: Any, unreader: Any) -> None:
        super().__init__(request, unreader)
        self.unreader = unreader

    def received(self) -> int:
        """Return how many bytes have been received, including those between chunks."""
        return self._received

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; none at the end."""
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: self.readinto(buffer)])

    def readinto(self, buffer: memoryview, until: float = math.inf) -> int:
        """Fill `buffer` almost or completely and return the number of bytes; 0 at the end.

        Return what has arrived by `until` (monotonic time), or before an error, which the next call meets.
        """
        filled = 0
        while self.parser and (not filled or len(buffer) - filled - len(self._held) >= ROOM):
            begin = filled + len(self._held)
            if begin >= len(buffer):
                self._take_held()
                continue
            try:
                count = self._receive(buffer[begin:])
            except (OSError, ChunkMissingTerminator):
                if until == math.inf or not filled:
                    raise
                return filled
            buffer[filled:begin], self._held = self._held, b""
            filled = self._join(buffer, filled, begin + count)
            if filled and time.monotonic() >= until:
                break
        return filled

    def _receive(self, buffer: memoryview) -> int:
        if held := self.unreader.buf.getbuffer().nbytes:
            data = self.unreader.read(min(held, len(buffer)))
            buffer[: len(data)] = data
            return len(data)
        count: int = self.unreader.sock.recv_into(buffer)
        if not count:
            if self._held:
                self._take_held()  # gunicorn meets the end, too
            raise NoMoreData() if self._left else ChunkMissingTerminator(b"")
        self._received += count
        return count

    def _take_held(self) -> None:
        held, self._held = self._held, b""
        self._read_between(memoryview(held))

    def _join(self, buffer: memoryview, filled: int, end: int) -> int:
        """Remove what stands between chunks from buffer[filled:end]; return where the data ends."""
        start = filled
        while start < end:
            if self._left:
                count = min(self._left, end - start)
                if filled < start:
                    buffer[filled : filled + count] = buffer[start : start + count]
                filled += count
                start += count
                self._left -= count
            elif (match := BETWEEN.match(buffer, start, end)) and (size := int(match[1], 16)):
                self._left = size
                start = match.end()
            elif self._is_cut(buffer[start:end]):
                self._held = bytes(buffer[start:end])
                break
            else:
                start += self._read_between(buffer[start:end])
        return filled

    def _is_cut(self, received: memoryview) -> bool:
        """Whether more has to arrive before gunicorn can parse what stands between two chunks."""
        if len(received) > self.limit_chunk_size_line:
            return False
        text = bytes(received)
        if text[:2] != b"\r\n":
            return text == b"\r"
        return text.find(b"\r\n\r\n" if LAST.match(text) else b"\r\n", 2) < 0

    def _read_between(self, received: memoryview) -> int:
        """Have gunicorn parse what stands between two chunks; return how many bytes of `received` it took."""
        # A copy of everything received, for each of many chunks, would take quadratic time. A line longer
        # than gunicorn's limit is enough for it to raise its error.
        line = bytes(received[: self.limit_chunk_size_line + 4])
        self._behind = received[len(line) :]
        try:
            while len(line) < 2 and (more := self.unreader.read()):
                line += more
            if line[:2] != b"\r\n":
                raise ChunkMissingTerminator(line[:2])
            self._left, rest = self.parse_chunk_size(self.unreader, data=line[2:])
        except TimeoutError:
            # A part of the line is lost, so no later call can go on.
            raise NoMoreData() from None
        if not self._left:
            self.parser = None
        elif self._behind:
            return len(line) - len(rest)
        else:
            self.unreader.unread(rest)
        return len(received)

    def parse_trailers(self, unreader: Any, data: bytes) -> None:
        """Read the trailers; what follows them belongs to the next request."""
        unreader.unread(bytes(self._behind))
        super().parse_trailers(unreader, data)


class Body(body.Body):  # type: ignore[misc]
    """A body that can be read into a buffer, and whose reads fail after its transfer was ended."""

    transfer: Transfer | None = None
    _silent_since: float | None = None
    """Since when nothing has arrived for a caller of `receive_into` (monotonic time)."""

    def received(self) -> int:
        """Return how many bytes have been received; 0 where the reader does not count."""
        count = getattr(self.reader, "received", None)
        return int(count()) if count else 0

    def is_whole(self) -> bool:
        """Whether the whole body has been received."""
        reader = self.reader
        return getattr(reader, "length", 1) == 0 or getattr(reader, "parser", reader) is None

    def read(self, size: int | None = None) -> bytes:
        """Read `size` bytes; fewer at the end or where the connection breaks."""
        try:
            data: bytes = super().read(size)
        except Exception:
            self._check()
            raise
        if size is None or len(data) < size:
            self._check()
        return data

    def readinto(self, buffer: memoryview, until: float = math.inf) -> int:
        """Fill `buffer` almost or completely and return the number of bytes; 0 at the end.

        Return what has arrived by `until` (monotonic time). Raises TimeoutError after the transfer was ended.
        """
        self._ask()
        reader = self.reader
        if self.buf.tell() or not isinstance(reader, LengthReader | ChunkedReader):
            data = self.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        try:
            count = reader.readinto(buffer, until)
        except BaseException:
            self.failed = True
            self._check()
            raise
        if count < len(buffer):
            self._check()
        return count

    def receive_into(self, buffer: memoryview) -> int | None:
        """Receive what arrives within a moment; return the number of bytes, None for none, 0 at the end.

        Raises TimeoutError if nothing has arrived for as long as the timeout of the socket.
        """
        self._ask()
        if not isinstance(self.reader, LengthReader | ChunkedReader):
            return self.readinto(buffer)
        sock = self.reader.unreader.sock
        patience = sock.gettimeout()
        begin = time.monotonic()
        sock.settimeout(MOMENT)
        try:
            count = self.readinto(buffer, begin + MOMENT)
        except TimeoutError:
            if self.transfer is not None and self.transfer.ended:
                raise
            self._silent_since = self._silent_since or begin
            if patience is not None and time.monotonic() >= self._silent_since + patience:
                raise
            self.failed = False
            return None
        finally:
            sock.settimeout(patience)
        self._silent_since = None
        return count

    def _ask(self) -> None:
        if isinstance(self.reader, Continue):
            self.reader.ask()

    def _check(self) -> None:
        if self.transfer is not None and self.transfer.ended:
            self.failed = True
            raise TimeoutError("the upload was too slow while others waited") from None
