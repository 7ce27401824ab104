"""The project's gunicorn worker: heads, TLS, Unix sockets, resource limits, graceful ends."""

import contextlib
import hashlib
import os
import resource
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crowds import (
    HALF_HEAD,
    LAST_REQUEST,
    SECONDS,
    SLOW_UPLOAD,
    Crowd,
    cpu_seconds,
    dripping,
    ends,
    limit,
    only_worker,
    served,
)
from tests.support.servers import Server, gunicorn, until
from tests.support.wire import Connection, message
from wsgi_store.gunicorn.process import MethodQueue

pytestmark = pytest.mark.long(110)
BIG = bytes(32 << 20)
BIG_HASH = hashlib.sha256(BIG).hexdigest()
UPLOAD = message("POST", "/", Content_Length=10)
# More than gunicorn's parser reads of an endless head.
ENDLESS_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (70 << 10)


def ends_of(clients: list[socket.socket]) -> list[float]:
    """Wait until the server has closed every connection; returns the seconds each took."""
    taken: list[float] = []
    threads = [threading.Thread(target=lambda one=client: taken.append(ends(one))) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(clients), "some were not ended"
    return taken


def test_heads_that_do_not_come_end(tmp_path: Path) -> None:
    """A head must arrive within ten seconds, and waiting for it takes no processor time."""
    with gunicorn(tmp_path, workers=1) as server, Crowd() as crowd:
        clients = [
            client
            for data in (b"", HALF_HEAD, message("HEAD", "/") + HALF_HEAD, ENDLESS_HEAD)
            for client in crowd.gather(server.port, 2, data)
        ]
        before = cpu_seconds(server)
        with dripping(clients[1::2]):
            assert all(3 < seconds < 15 for seconds in ends_of(clients))
        assert cpu_seconds(server) - before < 1


def test_a_head_in_single_bytes(tmp_path: Path) -> None:
    """A head may arrive byte by byte."""
    with gunicorn(tmp_path) as server, Connection(server.port) as connection:
        for _ in range(2):
            for byte in b"\r\n" + message("POST", "/", b"hello"):
                connection.send(bytes([byte]))
            assert connection.receive().status == 200


def test_continue_is_said_when_the_body_is_wanted(tmp_path: Path) -> None:
    """A client that expects 100 Continue gets it once, and only if its body is read."""
    with gunicorn(tmp_path) as server, Connection(server.port) as connection:
        for _ in range(2):
            connection.send(message("POST", "/", Content_Length=5, Expect="100-continue"))
            assert connection.receive().status == 100
            answer = connection.ask(b"hello")
            assert (answer.status, answer.fields["connection"]) == (200, "keep-alive")
        answer = connection.ask(message("POST", "/?hash=0", Content_Length=5, Expect="100-continue"))
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        assert connection.at_end()


def test_unread_chunks_end_the_connection(tmp_path: Path) -> None:
    """After an unread chunked body, even a malformed one, the connection is closed."""
    with gunicorn(tmp_path) as server, Connection(server.port) as connection:
        connection.send(message("GET", "/healthz", Transfer_Encoding="chunked"), b"zz\r\n")
        answer = connection.receive()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert connection.at_end()


def test_unix_socket(tmp_path: Path) -> None:
    """Requests over a Unix socket are served as over TCP, several per connection."""
    path = str(tmp_path / "socket")
    with gunicorn(tmp_path, "--bind", f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        with client.makefile("rb") as file:
            for _ in range(3):
                request = message("POST", "/", b"hello")
                client.sendall(request[:30])
                client.sendall(request[30:])
                assert file.readline() == b"HTTP/1.1 200 OK\r\n"
                while not file.readline().startswith(b'{"hash"'):
                    pass
            client.sendall(b"malformed\r\n\r\n")
            assert file.readline() == b"HTTP/1.1 400 Bad Request\r\n"


@pytest.fixture(name="certificate", scope="module")
def _certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(path), "-out", str(path.with_suffix(".crt")), *names]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@contextlib.contextmanager
def over_tls(server: Server, certificate: Path) -> Iterator[ssl.SSLSocket]:
    """A TLS connection."""
    context = ssl.create_default_context(cafile=str(certificate))
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as client,
    ):
        yield client


def test_tls(tmp_path: Path, certificate: Path) -> None:
    """TLS works; a client that starts no handshake takes no thread, and an unfinished one is cut off."""
    arguments = ["--certfile", str(certificate), "--threads", "2"]
    with gunicorn(tmp_path, *arguments, workers=1) as server, Crowd() as crowd:
        crowd.gather(server.port, 10)
        # One client sends no handshake, and one stops in the middle of it.
        plain = crowd.join(server.port, message("GET", "/"))
        ends(plain)
        half = crowd.join(server.port, b"\x16\x03\x01\x02\x00\x01\x00")
        with over_tls(server, certificate) as client, client.makefile("rb") as file:
            client.sendall(message("POST", "/", BIG))
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"
            while file.readline() != b"\r\n":
                pass
            assert BIG_HASH.encode() in file.readline()
            client.sendall(message("GET", f"/{BIG_HASH}", Connection="close"))
            while file.readline() != b"\r\n":
                pass
            assert file.read(len(BIG)) == BIG
            assert file.read() == b""
        assert ends(half) < 15


def test_leaving_over_tls(tmp_path: Path, certificate: Path) -> None:
    """A client that disconnects during a transfer over TLS causes no error."""
    with gunicorn(tmp_path, "--certfile", str(certificate), workers=1) as server:
        with over_tls(server, certificate) as client:
            client.sendall(message("POST", "/", BIG))
            assert client.recv(12) == b"HTTP/1.1 200"
        for request in (message("GET", f"/{BIG_HASH}"), SLOW_UPLOAD):
            with over_tls(server, certificate) as client:
                client.sendall(request)
                if request is SLOW_UPLOAD:
                    server.until_staged()
                else:
                    assert client.recv(12) == b"HTTP/1.1 200"
        server.await_log("GET /.* 200 ")
        server.await_log("POST / 400 ")


def test_pipelined_over_tls(tmp_path: Path, certificate: Path) -> None:
    """A request in the same TLS record as the end of the previous body is served, even with few threads."""
    arguments = ["--certfile", str(certificate), "--threads", "4"]
    with gunicorn(tmp_path, *arguments, workers=1) as server, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(over_tls(server, certificate)).sendall(SLOW_UPLOAD)
        until(lambda: sum("/.staging" in name for name in server.descriptors().elements()) == 2, "uploads")
        client = stack.enter_context(over_tls(server, certificate))
        # The last record holds more of the body than gunicorn reads at once.
        client.sendall(message("POST", "/", bytes(208_000)) + LAST_REQUEST)
        with client.makefile("rb") as file:
            assert file.read().count(b"HTTP/1.1 200 OK\r\n") == 2


def test_no_descriptors(tmp_path: Path) -> None:
    """A worker out of file descriptors waits for a free one, and survives."""
    with gunicorn(tmp_path, workers=1) as server, Crowd() as crowd:
        server.expected = ["cannot accept: Too many open files"]
        worker = only_worker(server)
        before = sum(server.descriptors().values())
        limit(worker, resource.RLIMIT_NOFILE, before + 4)
        crowd.gather(server.port, 12, HALF_HEAD)
        used = cpu_seconds(server)
        server.await_log("cannot accept", 3)
        assert cpu_seconds(server) - used < 1
        crowd.close()
        assert max(served(server.port, 3)) < 5
        limit(worker, resource.RLIMIT_NOFILE, before + 100)
        assert max(served(server.port)) < 5


def test_no_threads(tmp_path: Path) -> None:
    """A worker that cannot start another thread serves with those it has."""
    with gunicorn(tmp_path, workers=1) as server, Crowd() as crowd:
        worker = only_worker(server)
        assert served(server.port, 2)
        size = int(Path(f"/proc/{worker}/statm").read_text(encoding="ascii").split()[0])
        limit(worker, resource.RLIMIT_AS, size * resource.getpagesize() + (80 << 20))
        crowd.gather(server.port, 20, SLOW_UPLOAD)
        server.await_log("can't start new thread")
        crowd.close()
        assert served(server.port)


def renew(server: Server) -> None:
    """Make gunicorn replace its workers, and wait for the new ones."""
    old = server.workers
    server.process.send_signal(signal.SIGHUP)
    until(lambda: len(server.processes() - old) == len(old), "new workers")
    server.workers = server.processes() - old


@pytest.mark.alone
@pytest.mark.parametrize("end", ["HUP", "TERM"])
def test_transfers_outlive_their_worker(tmp_path: Path, end: str) -> None:
    """A worker told to stop completes its transfers, but does not wait for half a head."""
    with gunicorn(tmp_path, workers=1) as server, Crowd() as crowd:
        with Connection(server.port) as connection:
            assert connection.ask(message("POST", "/", BIG)).status == 200
        crowd.gather(server.port, 3, HALF_HEAD)
        with Connection(server.port) as upload, Connection(server.port, receive_buffer=4096) as download:
            upload.send(UPLOAD, b"hello")
            download.send(message("GET", f"/{BIG_HASH}"))
            server.until_staged()
            assert download.socket.recv(4) == b"HTTP"
            if end == "HUP":
                renew(server)
                assert max(served(server.port, 5)) < SECONDS
            else:
                server.process.send_signal(signal.SIGTERM)
                server.await_log("Handling signal: term")
            answer = upload.ask(b"hello")
            assert answer.status == 200
            received = 4
            while data := download.socket.recv(1 << 20):
                received += len(data)
            assert received > len(BIG)
        if end == "HUP":
            until(lambda: server.processes() == server.workers, "the old worker to end")
        else:
            assert server.process.wait(10) == 0
        assert server.blobs() == {BIG_HASH, hashlib.sha256(b"hellohello").hexdigest()}


@pytest.mark.alone
def test_transfers_that_outlive_graceful_timeout(tmp_path: Path) -> None:
    """After graceful_timeout a worker ends with a message, and unfinished uploads are discarded."""
    with (
        gunicorn(tmp_path, "--graceful-timeout", "1", workers=1) as server,
        Connection(server.port) as upload,
    ):
        upload.send(UPLOAD, b"hello")
        server.until_staged()
        renew(server)
        server.await_log("took longer than graceful_timeout: 1$")
        until(lambda: server.processes() == server.workers, "the old worker to end")
        assert upload.socket.recv(1) == b""
        assert served(server.port, 2)
        assert not server.blobs() | set(server.staged())


def test_calls_of_threads_that_outlive_the_loop(tmp_path: Path) -> None:
    """A call deferred by a thread after the loop has ended is not written to a reused descriptor."""
    calls = MethodQueue()
    calls.init()
    with contextlib.ExitStack() as stack:
        for end in (calls.fileno(), calls._write_fd):  # pylint: disable=protected-access
            stack.callback(os.close, end)
        calls.close()
        files = [stack.enter_context((tmp_path / name).open("wb")) for name in "abc"]
        calls.defer(print)
        assert [os.fstat(file.fileno()).st_size for file in files] == [0, 0, 0]
