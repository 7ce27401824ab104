"""Raw bytes sent to a server, and the promises that it keeps for any input."""

import contextlib
import hashlib
import json
import re
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.servers import Server, gunicorn

SECONDS = 15
"""Until then every connection has been answered or ended."""
HELD = b"held"
HELD_HASH = hashlib.sha256(HELD).hexdigest()
ANSWER = re.compile(rb"^HTTP/1\.[01] ([0-9]{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)+)\r\n", re.MULTILINE)


def patient(directory: Path) -> Iterator[Server]:
    """A server that must end with no extra descriptor, no staged file and a clean log."""
    limits = {"WSGI_STORE_IDLE_TIMEOUT": "1s", "WSGI_STORE_MAX_SIZE": "1MiB"}
    with gunicorn(directory, workers=1, **limits) as server:
        before = server.descriptors()
        yield server
        server.until_unused(before)
        assert not server.staged()


def exchange(server: Server, pieces: Iterable[bytes], pause: float = 0, half_close: bool = True) -> bytes:
    """Send bytes piece by piece; returns everything that the server sends until it closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
                if pause:
                    time.sleep(pause)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        end = time.monotonic() + SECONDS
        with contextlib.suppress(ConnectionError):
            while data := client.recv(1 << 16):
                received += data
                assert time.monotonic() < end, "still answering"
    return received


def judge(server: Server, answers: bytes, allowed: set[str] | None = None) -> list[int]:
    """Check that the service keeps its promises; returns the statuses of its answers.

    Only the `allowed` blobs may have been stored, any if None; they are removed.
    """
    statuses = []
    for answer in ANSWER.finditer(answers):
        status, head = int(answer[1]), answer[2].decode("latin-1").lower()
        statuses.append(status)
        # An unknown coding or method gets 501 (RFC 9110 section 15.6.2).
        assert status < 500 or status == 501, answers
        if status >= 400:
            assert "\r\ncontent-type: application/problem+json\r\n" in "\r\n" + head, answers
            assert "x-request-id: " in head
            body = answers[answer.end() :].partition(b"\n")[0]
            if body.startswith(b"{"):  # otherwise it answers a HEAD
                assert json.loads(body)["status"] == status
    assert bool(statuses) == bool(answers), answers
    stored = set(server.blobs())
    for hash_ in stored:  # also after a failure, or every later request would seem to have failed
        (server.root / hash_[:2] / hash_).unlink()
    assert allowed is None or stored <= allowed, (stored, answers)
    return statuses
