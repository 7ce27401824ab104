"""Kept connections served in turn by one thread."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.support.crowds import Crowd, ends, only_worker, running
from tests.support.servers import Server, gunicorn
from tests.support.wire import Connection, message

HELLO = "/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
# Too large for the socket buffers, so that a thread sending it blocks on a client that does not read.
LARGE = b"x" * (32 << 20)


def put(server: Server, data: bytes) -> str:
    """Upload data; returns the path of the blob."""
    with Connection(server.port) as connection:
        connection.send(message("POST", "/", data))
        return connection.receive().fields["location"]


def enter(server: Server, stack: contextlib.ExitStack) -> Connection:
    """A connection whose next request is served in the lane."""
    connection = stack.enter_context(Connection(server.port))
    for _ in range(2):
        connection.send(message("GET", HELLO))
        assert connection.receive().body == b"hello"
        time.sleep(0.02)
    return connection


def threads(server: Server) -> int:
    """The number of threads of the worker."""
    return len(list(Path(f"/proc/{only_worker(server)}/task").iterdir()))


# A leader that waits 20 ms for a processor counts as blocked, and then each request gets a thread.
@pytest.mark.alone
def test_few_threads_serve_many_connections(tmp_path: Path) -> None:
    """Busy kept connections do not take a thread each."""
    with gunicorn(tmp_path, workers=1) as server, contextlib.ExitStack() as stack:
        put(server, b"hello")
        connections = [enter(server, stack) for _ in range(16)]
        before = threads(server)
        for _ in range(50):
            for connection in connections:
                connection.send(message("GET", HELLO))
            for connection in connections:
                assert connection.receive().body == b"hello"
        assert threads(server) <= before + 1 < 16


def test_a_client_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """A client that does not read its answer does not delay the others in the lane."""
    with gunicorn(tmp_path, workers=1) as server, contextlib.ExitStack() as stack:
        put(server, b"hello")
        large = put(server, LARGE)
        stalled = [enter(server, stack) for _ in range(3)]
        others = [enter(server, stack) for _ in range(4)]
        for connection in stalled:
            connection.send(message("GET", large))
            time.sleep(0.1)
            for other in others:
                begin = time.monotonic()
                other.send(message("GET", HELLO))
                assert other.receive().body == b"hello"
                # One that waits for the stalled ones waits until they time out.
                assert time.monotonic() - begin < 5
        for connection in stalled:
            assert connection.receive().body == LARGE
            connection.send(message("GET", HELLO))
            assert connection.receive().body == b"hello"


def test_uploads_on_a_connection_of_the_lane(tmp_path: Path) -> None:
    """After a GET on a kept connection, any other request is served as usual."""
    with gunicorn(tmp_path, workers=1) as server, contextlib.ExitStack() as stack:
        put(server, b"hello")
        connection = enter(server, stack)
        for number in range(20):
            connection.send(message("POST", "/", LARGE if number == 10 else b"%d" % number))
            assert connection.receive().status == 200
            connection.send(message("GET", HELLO, b"a body that nobody reads"))
            assert connection.receive().body == b"hello"
            connection.send(message("HEAD", HELLO))
            assert connection.receive(head=True).status == 200


def test_halves_in_the_lane(tmp_path: Path) -> None:
    """Half a head on a kept connection waits for the rest without delaying the others."""
    with gunicorn(tmp_path, workers=1) as server, contextlib.ExitStack() as stack:
        put(server, b"hello")
        halves = [enter(server, stack) for _ in range(5)]
        whole = message("GET", HELLO)
        for number, connection in enumerate(halves):
            connection.send((whole * 2)[: len(whole) * number // 2 + 5])
        other = enter(server, stack)
        for number, connection in enumerate(halves):
            connection.send((whole * 2)[len(whole) * number // 2 + 5 :] if number < 4 else whole)
            for _ in range(2):
                assert connection.receive().body == b"hello"
        other.send(whole)
        assert other.receive().body == b"hello"


def test_the_lane_ends(tmp_path: Path) -> None:
    """A kept connection is closed after the idle limit, or when the client asks for it or leaves."""
    with gunicorn(tmp_path, "--keep-alive", "4", workers=1) as server, Crowd() as crowd:
        put(server, b"hello")
        clients = crowd.gather(server.port, 3)
        for _ in range(3):
            for client in clients:
                client.sendall(message("GET", HELLO))
                assert client.recv(1 << 16).endswith(b"hello")
        clients[0].sendall(message("GET", HELLO, Connection="close"))
        assert ends(clients[0]) < 3
        # The worker forgets a closed connection, and keeps serving the others.
        clients[1].shutdown(socket.SHUT_WR)
        assert ends(clients[1]) < 3
        for _ in range(10):
            time.sleep(0.5)
            clients[2].sendall(message("GET", HELLO))
            assert clients[2].recv(1 << 16).endswith(b"hello")
        assert 2 < ends(clients[2]) < 10


def test_a_stop_empties_the_lane(tmp_path: Path) -> None:
    """A stopping worker answers requests on kept connections, and waits two seconds for idle ones."""
    with gunicorn(tmp_path, "--keep-alive", "60", workers=1) as server, contextlib.ExitStack() as stack:
        put(server, b"hello")
        idle = [enter(server, stack) for _ in range(4)]
        end = threading.Event()
        refused = 0

        def ask(connection: Connection) -> None:
            nonlocal refused
            while not end.is_set():
                connection.send(message("GET", HELLO))
                answer = connection.receive()
                assert answer.body == b"hello"
                if answer.fields["connection"] == "close":
                    refused += 1
                    return

        busy = [threading.Thread(target=ask, args=[enter(server, stack)]) for _ in range(4)]
        with running(end, *busy):
            # Far less than the keep-alive limit of 60 seconds.
            begin = time.monotonic()
            server.stop()
            assert time.monotonic() - begin < 20
            for thread in busy:
                thread.join(10)
        assert refused == len(busy)
        del idle
