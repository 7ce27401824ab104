"""gunicorn with the shipped settings: persistent connections, parallel requests, the log."""

import hashlib
import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.exchanges import DATA, HASH, SIZE, parts, told
from tests.support.servers import Server, gunicorn
from tests.support.wire import Connection, chunked, message

CODED = message("POST", "/", Transfer_Encoding="chunked")


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn with four workers on a store that holds one blob."""
    with gunicorn(tmp_path_factory.mktemp("gunicorn"), workers=4) as server:
        with Connection(server.port) as connection:
            assert told(connection.ask(message("POST", "/", DATA))) == (HASH, SIZE, True)
        before = server.descriptors()
        yield server
        server.until_unused(before)
        assert server.blobs() == {HASH}
        assert not server.staged()


def test_pipelined(server: Server) -> None:
    """Pipelined requests are answered in order, errors among them."""
    small = hashlib.sha256(b"small").hexdigest()
    with Connection(server.port) as connection:
        connection.send(
            message("POST", "/", b"small"),
            message("GET", f"/{small}"),
            message("GET", f"/{'0' * 64}"),
            message("POST", "/?hash=" + "0" * 64, b"other"),
            message("POST", "/nowhere", b"unread body"),
            message("HEAD", f"/{HASH}"),
            message("GET", f"/{HASH}", Range="bytes=70000-270000"),
            CODED,
            chunked(b"sm", b"all"),
            message("DELETE", f"/{small}"),
            message("DELETE", f"/{small}"),
            message("PATCH", "/"),
            message("GET", f"/{HASH}"),
        )
        assert told(connection.receive()) == (small, 5, True)
        assert connection.receive().body == b"small"
        assert connection.receive().status == 404
        assert connection.receive().status == 422
        assert connection.receive().status == 404
        assert connection.receive(head=True).fields["content-length"] == str(SIZE)
        assert connection.receive().body == DATA[70_000:270_001]
        assert told(connection.receive()) == (small, 5, False)
        assert connection.receive().status == 200
        assert connection.receive().status == 404
        assert connection.receive().status == 405
        assert connection.receive().body == DATA


def test_kept_alive(server: Server) -> None:
    """A connection stays usable after every kind of answer."""
    with Connection(server.port) as connection:
        for _ in range(3):
            answer = connection.ask(message("GET", f"/{HASH}", Range="bytes=5-9"))
            assert (answer.status, answer.body) == (206, DATA[5:10])
            answer = connection.ask(message("GET", f"/{HASH}", Range="bytes=100000-"))
            assert (answer.status, answer.body == DATA[100_000:]) == (206, True)
            answer = connection.ask(message("GET", f"/{HASH}", If_None_Match=f'"{HASH}"'))
            assert answer.status == 304
            answer = connection.ask(message("GET", f"/{HASH}", Range=f"bytes={SIZE}-"))
            assert answer.status == 416
            answer = connection.ask(message("GET", f"/{HASH}"))
            assert (answer.status, answer.body == DATA) == (200, True)
            answer = connection.ask(message("HEAD", f"/{HASH}", Range="bytes=100000-"))
            assert (answer.status, answer.body) == (200, b"")
            answer = connection.ask(message("GET", f"/{HASH}", Range="bytes=0-80000,200000-300000"))
            assert [body for _, _, body in parts(answer)] == [DATA[:80_001], DATA[200_000:300_001]]


@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE)), min_size=1, max_size=4))
def test_any_range(server: Server, wanted: list[tuple[int, int]]) -> None:
    """Each range gives exactly its bytes, over one connection."""
    with Connection(server.port) as connection:
        for start, length in wanted:
            stop = min(start + length, SIZE - 1)
            answer = connection.ask(message("GET", f"/{HASH}", Range=f"bytes={start}-{stop}"))
            assert answer.status == 206
            assert answer.body == DATA[start : stop + 1]


@pytest.mark.parametrize(
    "field, length",
    [({}, SIZE), ({"Range": "bytes=1-"}, SIZE - 1), ({"Range": "bytes=0-1000000,1100000-"}, SIZE)],
    ids=["whole", "range", "parts"],
)
@pytest.mark.parametrize("way", ["closed", "reset"])
def test_vanished_downloader(server: Server, field: dict[str, str], length: int, way: str) -> None:
    """A client that disconnects during a download leaves no file open."""
    line = rf"GET /{HASH} 20[06] (\d+) B"
    seen = len(server.logged(line))
    with Connection(server.port, receive_buffer=4096) as connection:
        connection.send(message("GET", f"/{HASH}", **field))
        received = len(connection.socket.recv(1000))
        if way == "reset":
            connection.reset()
    # The received bytes include the head, the logged ones do not.
    assert received - 1000 < int(server.await_log(line, seen + 1)[-1][1]) < length


def test_half_closed_downloader(server: Server) -> None:
    """A client that has closed its sending side still gets the answer."""
    with Connection(server.port) as connection:
        connection.send(message("GET", f"/{HASH}"))
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.receive().body == DATA
        assert connection.at_end()


def test_parallel_uploads(server: Server) -> None:
    """Of many simultaneous uploads of the same bytes, exactly one creates the blob."""
    data = DATA[:1_000_000]
    start = Barrier(64)

    def upload(_: int) -> bool:
        with Connection(server.port) as connection:
            start.wait()
            hash_, size, created = told(connection.ask(message("POST", "/", data)))
            assert (hash_, size) == (hashlib.sha256(data).hexdigest(), len(data))
            return created

    with ThreadPoolExecutor(64) as threads:
        assert Counter(threads.map(upload, range(64))) == {True: 1, False: 63}
    with Connection(server.port) as connection:
        assert connection.ask(message("DELETE", f"/{hashlib.sha256(data).hexdigest()}")).status == 200


def test_parallel_changes(server: Server) -> None:
    """Simultaneous uploads, removals and downloads stay consistent, and every download is complete."""
    blobs = {hashlib.sha256(data).hexdigest(): data for data in (b"", b"small", DATA[:70_000], DATA[1:])}

    def change(seed: int) -> Counter[tuple[str, str]]:
        random = Random(seed)
        done: Counter[tuple[str, str]] = Counter()
        with Connection(server.port) as connection:
            for _ in range(40):
                hash_, data = random.choice(list(blobs.items()))
                what = random.choice(["upload", "remove", "download", "download"])
                if what == "upload":
                    done["created", hash_] += told(connection.ask(message("POST", "/", data)))[2]
                elif what == "remove":
                    status = connection.ask(message("DELETE", f"/{hash_}")).status
                    assert status in (200, 404)
                    done["removed", hash_] += status == 200
                else:
                    answer = connection.ask(message("GET", f"/{hash_}"))
                    assert answer.status in (200, 404)
                    assert answer.status == 404 or answer.body == data
        return done

    with ThreadPoolExecutor(16) as threads:
        done = sum(threads.map(change, range(16)), Counter())
    for hash_ in blobs:
        # Each removal needs one upload that created the blob.
        assert done["created", hash_] - done["removed", hash_] == (hash_ in server.blobs())
        assert done["removed", hash_]
        with Connection(server.port) as connection:
            connection.ask(message("DELETE", f"/{hash_}"))


@pytest.mark.parametrize(
    "asked, fields, status, sent",
    [
        (f"GET /{HASH}", {}, 200, SIZE),
        (f"GET /{HASH}", {"Range": "bytes=5-14"}, 206, 10),
        (f"GET /{HASH}", {"Range": "bytes=1000-2000999"}, 206, 2_000_000),
        (f"GET /{HASH}", {"Range": "bytes=-100000"}, 206, 100_000),
        (f"GET /{HASH}", {"If_None_Match": "*"}, 304, 0),
        (f"HEAD /{HASH}", {}, 200, 0),
        ("GET /healthz", {}, 200, 17),
        (f"GET /{HASH}/%C3%A4%20{{}}%1B", {}, 200, SIZE),
        ("PATCH /?a=%0A", {}, 405, None),
    ],
)
def test_access_line(
    server: Server, asked: str, fields: dict[str, str], status: int, sent: int | None
) -> None:
    """The access line has the request, the status, the size of the body, the client and the request id."""
    identity = hashlib.sha256(repr((asked, fields)).encode()).hexdigest()
    method, target = asked.split()
    with Connection(server.port) as connection:
        answer = connection.ask(message(method, target, None, X_Request_ID=identity, **fields))
    assert (answer.status, answer.fields["x-request-id"]) == (status, identity)
    line = server.await_log(f"id={identity}$")[0].string
    length = len(answer.body) if sent is None else sent
    done = f"{re.escape(asked.partition('?')[0])} {status} {length}"
    who = r"client=127\.0\.0\.1( user=anyone)?"
    expected = rf"INFO +\[\d+\] {done} B \d+\.\d ms {who} id={identity}$"
    assert re.search(expected, line), line


@pytest.mark.parametrize("path", [b"/nasty\x1b[31m", b"/nasty\x9b", b"/nasty\xe2\x80\xa8", b"/nasty\r"])
def test_control_characters(server: Server, path: bytes) -> None:
    """Control characters from a client do not appear in the log."""
    seen = len(server.logged("WARNING"))
    with Connection(server.port) as connection:
        connection.send(b"GET ", path, b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.receive().status == 400
    line = server.await_log("WARNING", seen + 1)[-1].string
    assert line.isprintable()
    assert "nasty" not in line


def test_json_log(tmp_path: Path) -> None:
    """With the JSON format, every line is an object, gunicorn's own lines included."""
    with gunicorn(tmp_path, WSGI_STORE_LOG_FORMAT="json") as server:
        with Connection(server.port) as connection:
            connection.ask(message("GET", "/nothing%E2%80%A8here", X_Request_ID="abc"))
        with Connection(server.port) as connection:
            connection.send(b"bad\r\n\r\n")
            connection.receive()
        server.await_log('"warning"')
    lines = [json.loads(line) for line in server.text().split("\n")[:-1]]
    assert all({"time", "level", "message", "process"} <= line.keys() for line in lines)
    asked = [line for line in lines if line.get("request_id") == "abc"]
    assert len(asked) == 1
    assert asked[0]["method"] == "GET"
    assert asked[0]["path"] == "/nothing%E2%80%A8here"
    assert asked[0]["status"] == 404
    assert asked[0]["bytes"] > 0
    assert asked[0]["ms"] > 0
    assert asked[0]["client"] == "127.0.0.1"
    messages = " ".join(line["message"] for line in lines)
    assert "Starting gunicorn" in messages
    assert "refused a request from 127.0.0.1: malformed request line" in messages
    assert "Shutting down" in messages
