"""Bad peers for a client: servers with prescribed answers, proxies that cut connections."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from wsgi_store.client import Client

INDEX = b'{"algorithm": "sha256"}'


def hurried(url: str, token: str | None = None, **options: Any) -> Client:
    """A client with pauses that are short but measurable."""
    return Client(url, token, first_pause=0.02, **options)


def reply(body: bytes, status: str = "200 OK", length: int | None = None, **fields: str) -> bytes:
    """A response, after which the server closes the connection.

    `length` overrides its Content-Length, `_` in a field's name stands for `-`.
    """
    # A client that is not told could send its next request just when the connection is closed.
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Peer:
    """The address of a server, its answer to `GET /`, and the heads of the requests it received."""

    port: int
    heads: list[str] = field(default_factory=list)
    host: str = "127.0.0.1"
    index: bytes = INDEX

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://{self.host}:{self.port}"

    def seen(self, method: str) -> list[str]:
        """The heads of the requests with a method, except those for the index."""
        return [head for head in self.heads if head.startswith(method) and not head.startswith("GET / ")]


@contextmanager
def _listening(serve: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[int]:
    """Serve each connection in a thread of its own."""
    threads = []
    with socket.create_server((host, 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threads.append(threading.Thread(target=run, args=(client,)))
                    threads[-1].start()

        def run(client: socket.socket) -> None:
            with client, suppress(OSError):
                client.settimeout(20)
                serve(client)

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


@contextmanager
def saying(*answers: bytes, host: str = "127.0.0.1", index: bytes = INDEX) -> Iterator[Peer]:
    """A server that gives one of these answers on each connection, and repeats the last one.

    `GET /` gets `index`, which by default says that the algorithm is sha256.
    """
    remaining = list(answers)
    peer = Peer(0, host=host, index=index)

    def serve(client: socket.socket) -> None:
        with client.makefile("rb") as stream:
            lines = []
            while (line := stream.readline()) not in (b"\r\n", b""):
                lines.append(line.decode("latin-1"))
            head = "".join(lines)
            if not head or head.startswith("\x16"):
                return  # a client without an answer tests whether this is TLS
            peer.heads.append(head)
            if length := re.search(r"(?i)content-length: (\d+)", head):
                stream.read(int(length[1]))
            elif re.search("(?i)transfer-encoding: chunked", head):
                while size := int(stream.readline() or b"0", 16):
                    stream.read(size + 2)
                stream.readline()
        if head.startswith("GET / "):
            client.sendall(reply(peer.index))
        else:
            client.sendall(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    with _listening(serve, host) as peer.port:
        yield peer


@contextmanager
def cutting(port: int, *limits: tuple[int, int]) -> Iterator[Peer]:
    """A proxy to a port that cuts one connection for each pair of limits, and then none.

    A pair limits the bytes forwarded to the server and to the client before the cut.
    """
    remaining = list(limits)
    peer = Peer(0)

    def serve(client: socket.socket) -> None:
        up, down = remaining.pop(0) if remaining else (1 << 60, 1 << 60)
        with socket.create_connection(("127.0.0.1", port)) as server:
            server.settimeout(20)
            passing = threading.Thread(target=pump, args=(client, server, up))
            passing.start()
            pump(server, client, down)
            passing.join()

    def pump(source: socket.socket, target: socket.socket, limit: int) -> None:
        with suppress(OSError):
            while limit and (data := source.recv(min(limit, 1 << 16))):
                target.sendall(data)
                limit -= len(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    with _listening(serve) as peer.port:
        yield peer
