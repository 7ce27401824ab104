"""HTTP byte by byte, for requests and responses that a client library would not send or show."""

import socket
import struct
from typing import NamedTuple, Self


class Answer(NamedTuple):
    """A response; field names are in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


class Connection:
    """A connection to a server."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            # A small buffer, so that an answer is still on its way when its first bytes are read.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        """Send bytes as they are, in one segment if they fit."""
        self.socket.sendall(b"".join(parts))

    def receive(self, head: bool = False) -> Answer:
        """Read one response; `head` if it answers a HEAD."""
        answer = self.receive_head()
        if head or answer.status < 200 or answer.status in (204, 304):
            return answer
        if "content-length" not in answer.fields:
            return answer._replace(body=self.rest())
        length = int(answer.fields["content-length"])
        body = self._file.read(length)
        assert len(body) == length, "the body of the response was cut"
        return answer._replace(body=body)

    def receive_head(self) -> Answer:
        """Read the head of a response and leave its body."""
        line = self._file.readline()
        assert line.startswith(b"HTTP/1."), line
        status = int(line.split()[1])
        fields: dict[str, str] = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            assert name.lower() not in fields, name
            fields[name.lower()] = value.strip()
        assert line, "the head of the response was cut"
        return Answer(status, fields, b"")

    def rest(self) -> bytes:
        """Read until the server closes the connection."""
        return self._file.read()

    def ask(self, *parts: bytes) -> Answer:
        """Send a request and read its response."""
        self.send(*parts)
        return self.receive(parts[0].startswith(b"HEAD "))

    def at_end(self) -> bool:
        """Whether the server has closed the connection without sending more."""
        return self._file.read(1) == b""

    def reset(self) -> None:
        """Reset the connection instead of closing it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self.socket.close()


def message(method: str, target: str, body: bytes | None = None, /, **fields: str | int) -> bytes:
    """A request, with a Content-Length if it has a body; `_` in a field's name stands for `-`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: example.org"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Bytes in the chunked coding (RFC 9112 section 7.1)."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end
