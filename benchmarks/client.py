"""A client with very little overhead: it sends files with sendfile(2) and discards bodies unread."""

import hashlib
import os
import re
import secrets
import socket
import struct
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MIB = 1 << 20
UNIT = 64 * MIB
CHUNK = 64 << 10
BOUNDARY = "benchmark-of-wsgi-store"
SECONDS = 600
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def whole_units(text: str) -> int:
    """Read the size of a big file in MiB, which is one payload or several; raises ArgumentTypeError."""
    if (size := int(text)) <= 0 or size * MIB % UNIT:
        raise ArgumentTypeError(f"{size} is not a multiple of {UNIT // MIB}")
    return size


class Failure(Exception):
    """A server gave a wrong response, or none."""


class Answer(NamedTuple):
    """A response; `fields` is its unparsed head."""

    status: int
    fields: bytes
    body: bytes

    def field(self, name: str) -> str | None:
        """Return the value of a header field, if any."""
        match = re.search(rf"\r\n{name}: *(.*?)\r\n".encode(), self.fields, re.IGNORECASE)
        return match[1].decode("latin-1") if match else None


@dataclass(frozen=True)
class Body:
    """A request body: the same file `times` times, between bytes that make it unique."""

    name: str
    digest: str  # of the uploaded file, not of the body
    before: bytes
    file: IO[bytes]
    times: int
    after: bytes
    size: int  # of the uploaded file
    length: int | None  # of the body, None when it is chunked
    fields: tuple[str, ...]


class Payload:
    """The bytes of all uploads: 64 MiB of random data, plain and in the chunked coding."""

    def __init__(self, directory: Path, chunk: int = CHUNK) -> None:
        noise = os.urandom(UNIT)
        self.raw = (directory / "raw").open("w+b")
        self.raw.write(noise)
        self.raw.flush()
        self.chunked = (directory / "chunked").open("w+b")
        for start in range(0, UNIT, chunk):
            self.chunked.write(b"%x\r\n%s\r\n" % (chunk, noise[start : start + chunk]))
        self.chunked.flush()
        self._noise = noise
        self._hashes = {0: hashlib.sha256()}

    def close(self) -> None:
        """Close the files."""
        self.raw.close()
        self.chunked.close()

    def body(self, kind: str, size: int, form: tuple[str, tuple[tuple[str, str], ...]] = ("", ())) -> Body:
        """Return a new, unique body of about `size` bytes; `form` names its parts."""
        times = size // UNIT
        name = secrets.token_hex(16)
        unique = name.encode()
        digest = self._hash(times)
        digest.update(unique)
        before, after, file = b"", unique, self.raw
        fields: tuple[str, ...] = ()
        if kind == "chunked":
            file, after = self.chunked, b"%x\r\n%s\r\n0\r\n\r\n" % (len(unique), unique)
        elif kind == "form":
            before, end = form_frame(form[0], form[1], name)
            after = unique + end
            fields = (f"Content-Type: multipart/form-data; boundary={BOUNDARY}",)
        length = None if kind == "chunked" else len(before) + times * UNIT + len(after)
        size = times * UNIT + len(unique)
        return Body(name, digest.hexdigest(), before, file, times, after, size, length, fields)

    def write(self, path: Path, size: int) -> str:
        """Write a file of `size` bytes; return its digest."""
        data = self._noise[: min(size, UNIT)]
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for _ in range(max(1, size // UNIT)):
                file.write(data)
                digest.update(data)
        return digest.hexdigest()

    def _hash(self, times: int) -> "hashlib._Hash":
        """Return the hash state after hashing the file `times` times."""
        if times not in self._hashes:
            state = hashlib.sha256()
            for _ in range(times):
                state.update(self._noise)
            self._hashes[times] = state
        return self._hashes[times].copy()


def form_frame(field: str, others: tuple[tuple[str, str], ...], name: str) -> tuple[bytes, bytes]:
    """Return what comes before and after the file in a form (RFC 7578)."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in others
    ]
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


class Connection:
    """A connection to a server, as a context manager."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Kernel timeouts, because Python's own make the socket non-blocking.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SECONDS, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, request: bytes, body: Body) -> None:
        """Send a request with a body."""
        self.socket.sendall(request + body.before, socket.MSG_MORE)
        length = os.fstat(body.file.fileno()).st_size
        for _ in range(body.times):
            offset = 0
            while offset < length:
                offset += os.sendfile(self.socket.fileno(), body.file.fileno(), offset, length - offset)
        self.socket.sendall(body.after)

    def ask(self, request: bytes) -> Answer:
        """Send a request and return the response."""
        self.socket.sendall(request)
        return self.answer(request.startswith(b"HEAD "))

    def answer(self, bodiless: bool = False) -> Answer:
        """Receive a whole response."""
        status, fields, data, length = self._head()
        if bodiless or status in (204, 304):
            return Answer(status, fields, b"")
        while len(data) < length:
            more = self.socket.recv(MIB)
            if not more:
                raise Failure("a response was cut off")
            data += more
        return Answer(status, fields, data)

    def download(
        self, request: bytes, look: Callable[["ReadableBuffer"], object] | None = None
    ) -> tuple[int, int]:
        """Receive a response and discard its body, or pass it to `look`; return its status and length."""
        self.socket.sendall(request)
        status, _, data, length = self._head()
        left = length - len(data)
        buffer = memoryview(bytearray(MIB))
        # With MSG_TRUNC the kernel discards the bytes instead of copying them (tcp(7)).
        flags = 0 if look else socket.MSG_TRUNC
        if look:
            look(data)
        while left:
            received = self.socket.recv_into(buffer, min(left, MIB), flags)
            if not received:
                raise Failure("a download was cut off")
            if look:
                look(buffer[:received])
            left -= received
        return status, length

    def _head(self) -> tuple[int, bytes, bytes, int]:
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(CHUNK)
            if not more:
                raise Failure("the connection was closed without an answer")
            data += more
        fields, _, body = data.partition(b"\r\n\r\n")
        match = LENGTH.search(fields)
        return int(fields[9:12]), fields + b"\r\n", body, int(match[1]) if match else 0
