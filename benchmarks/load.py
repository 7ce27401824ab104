"""Many small requests at once: with wrk, or for HEAD in a loop, because wrk waits for a body."""

import contextlib
import json
import secrets
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.client import BOUNDARY, Connection, Failure, form_frame
from benchmarks.servers import Server, head

CONNECTIONS = 16
SMALL = 4 << 10
PLACE = "@" * 16


class Load(NamedTuple):
    """Requests per second, and the latencies at the 50th and the 99th percentile, in seconds."""

    rate: float
    p50: float
    p99: float


def wrk(port: int, request: bytes, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Send a request repeatedly on many connections."""
    program = shutil.which("wrk")
    if program is None:
        raise Failure("wrk is missing (apt install wrk)")
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        script = Path(__file__).with_name("requests.lua")
        # wrk accepts only whole seconds.
        command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
        command += [f"http://127.0.0.1:{port}", "--", file.name, secrets.token_hex(4)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode:
        raise Failure(f"wrk: {done.stderr.strip()}")
    result = json.loads(done.stdout.splitlines()[-1])
    if result["errors"] or not result["requests"]:
        raise Failure(f"{result['errors']} of {result['requests']} requests failed")
    return Load(result["rate"], result["p50"], result["p99"])


def heads(port: int, request: bytes, seconds: float) -> Load:
    """Send a HEAD request repeatedly; wrk would wait for a body because of Content-Length."""
    waited = []
    with contextlib.ExitStack() as stack:
        poller = stack.enter_context(contextlib.closing(select.epoll()))
        connections = {}
        since = {}
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(Connection(port)).socket
            connections[connection.fileno()] = connection
            poller.register(connection, select.EPOLLIN)
        begin = time.perf_counter()
        for number, connection in connections.items():
            since[number] = time.perf_counter()
            connection.sendall(request)
        while (now := time.perf_counter()) < begin + seconds:
            for number, _ in poller.poll(1):
                connection = connections[number]
                data = connection.recv(SMALL)
                while not data.endswith(b"\r\n\r\n"):
                    more = connection.recv(SMALL)
                    if not more:
                        raise Failure("a connection was closed")
                    data += more
                if not data.startswith((b"HTTP/1.1 2", b"HTTP/1.1 304")):
                    raise Failure(f"HEAD got {data[:30]!r}")
                now = time.perf_counter()
                waited.append(now - since[number])
                since[number] = now
                connection.sendall(request)
    waited.sort()
    return Load(len(waited) / (now - begin), waited[len(waited) // 2], waited[len(waited) * 99 // 100])


def get(server: Server, digest: str, seconds: float) -> Load:
    """Load with GET of a small blob."""
    return wrk(server.port, head("GET", server.path(digest)), seconds)


def ask_head(server: Server, digest: str, seconds: float) -> Load:
    """Load with HEAD of a small blob."""
    return heads(server.port, head("HEAD", server.path(digest)), seconds)


def not_modified(server: Server, digest: str, seconds: float) -> Load:
    """Load with conditional GETs that get 304."""
    with Connection(server.port) as connection:
        answer = connection.ask(head("GET", server.path(digest)))
    if etag := answer.field("ETag"):
        condition = f"If-None-Match: {etag}"
    else:
        condition = f"If-Modified-Since: {answer.field('Last-Modified')}"
    request = head("GET", server.path(digest), condition)
    with Connection(server.port) as connection:
        if (status := connection.ask(request).status) != 304:
            raise Failure(f"{server.title} answered {status} to a condition")
    return wrk(server.port, request, seconds)


def post(server: Server, _: str, seconds: float) -> Load:
    """Load with uploads of new small files."""
    body = PLACE.encode() + b"x" * (SMALL - len(PLACE))
    fields: tuple[str, ...] = ()
    if "raw" not in server.takes:
        before, after = form_frame(server.file_field, server.form_fields, "file")
        body = before + body + after
        fields = (f"Content-Type: multipart/form-data; boundary={BOUNDARY}",)
    return wrk(server.port, server.request(PLACE, len(body), fields) + body, seconds)
