"""How connections are shared among workers and threads, and pipelined requests answered in order."""

import contextlib
import select
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.support.crowds import SECONDS, Crowd, running, served
from tests.support.pauses import paused
from tests.support.servers import Server, gunicorn, until
from tests.support.wire import Connection, chunked, message

pytestmark = pytest.mark.alone
BURST = 16
TRIES = 20


def burst(crowd: Crowd, server: Server, name: str) -> Counter[int]:
    """Connect many clients at once and keep them; returns the number of connections per worker."""
    with contextlib.closing(select.epoll()) as poller:
        clients = {}
        for _ in range(BURST):
            client = crowd.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", server.port))
            poller.register(client, select.EPOLLOUT)
            clients[client.fileno()] = client
        waiting = set(clients)
        while waiting:
            events = poller.poll(20)
            assert events, f"{len(waiting)} of {BURST} were not served"
            for number, event in events:
                if event & select.EPOLLOUT:
                    clients[number].send(message("GET", "/healthz", X_Request_ID=name))
                    poller.modify(number, select.EPOLLIN)
                else:
                    assert clients[number].recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
                    poller.unregister(number)
                    waiting.remove(number)
    lines = server.await_log(rf"\[(\d+)\] GET /healthz .*id={name}$", BURST)
    return Counter(int(line[1]) for line in lines)


def surpluses(directory: Path) -> list[int]:
    """By how many connections the first of two workers is ahead of the second, after each burst."""
    directory.mkdir()
    with gunicorn(directory, "--keep-alive", "60", workers=2) as server, Crowd() as crowd:
        first, second = server.workers
        total: Counter[int] = Counter()
        found = []
        for number in range(TRIES):
            total += burst(crowd, server, f"try-{number}")
            found.append(total[first] - total[second])
        return found


def test_workers_share_connections(tmp_path: Path) -> None:
    """Clients that connect at once and stay are shared among the workers."""
    tried = []
    # A few bursts may be unbalanced, because the system may let a worker wait for a processor.
    for number in range(3):
        tried.append(surpluses(tmp_path / str(number)))
        if sum(abs(surplus) > BURST - 4 for surplus in tried[-1]) <= TRIES // 4:
            return
    pytest.fail(str(tried))


def test_a_stopped_worker_delays_nobody(tmp_path: Path) -> None:
    """While one worker is stopped, the other serves all connections without delay."""
    with gunicorn(tmp_path, workers=2) as server:
        worker = min(server.workers)
        with paused(worker):
            assert max(served(server.port, 60)) < SECONDS


@pytest.mark.parametrize("threads", ["1", "32"])
def test_pipelined_requests(tmp_path: Path, threads: str) -> None:
    """Pipelined requests are answered in order, wherever the segments end."""
    with (
        gunicorn(tmp_path, "--threads", threads, workers=1) as server,
        Connection(server.port) as connection,
    ):
        requests = [
            message("POST", "/", b"hello", X_Request_ID=0),
            message(
                "GET", "/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", X_Request_ID=1
            ),
            message(
                "HEAD", "/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", X_Request_ID=2
            ),
            message("POST", "/", X_Request_ID=3, Transfer_Encoding="chunked") + chunked(b"he", b"llo"),
            message("GET", "/nowhere", X_Request_ID=4),
            message("GET", "/healthz", b"unread", X_Request_ID=5),
        ]
        sent = b"".join(requests)
        for size in (len(sent), 1000, 333, 20):
            pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
            sender = threading.Thread(target=lambda pieces=pieces: [connection.send(one) for one in pieces])
            sender.start()
            answers = [connection.receive(head=number == 2) for number in range(len(requests))]
            sender.join()
            assert [answer.status for answer in answers] == [200, 200, 200, 200, 404, 200]
            assert [answer.fields["x-request-id"] for answer in answers] == list("012345")
            assert (answers[1].body, answers[2].body) == (b"hello", b"")


def test_busy_connections_keep_no_thread(tmp_path: Path) -> None:
    """With twice as many busy clients as threads, all of them and new clients are served."""
    with gunicorn(tmp_path, "--threads", "4", workers=1) as server, Crowd() as crowd:
        end = threading.Event()
        answered = [0] * 8

        def ask(number: int, client: socket.socket) -> None:
            while not end.is_set():
                client.sendall(message("HEAD", "/"))
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
                answered[number] += 1

        clients = crowd.gather(server.port, 8)
        with running(end, *(threading.Thread(target=ask, args=each) for each in enumerate(clients))):
            for _ in range(5):
                assert max(served(server.port, 4)) < SECONDS
            # The loop above may end quickly, so wait here until each client has had more answers.
            before = list(answered)
            until(lambda: all(now > then + 5 for now, then in zip(answered, before)), "all to be answered")
