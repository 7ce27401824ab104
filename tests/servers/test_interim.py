"""Interim responses (104) of the IETF's resumable uploads, byte by byte."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exchanges import DATA, HASH, SIZE, form, told
from tests.support.servers import Server, gunicorn, nginx, start, uwsgi
from tests.support.speakers import DRAFT, TUS, create, finish, offset
from tests.support.wire import Connection, chunked, message

ON = {"WSGI_STORE_INTERIM": "yes"}
HALF = SIZE // 2
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server store 127.0.0.1:{store}
"""


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that sends interim responses."""
    with gunicorn(tmp_path_factory.mktemp("interim"), **ON) as server:
        yield server


def creation(version: int | None = 8, **fields: str | int) -> bytes:
    """A creation with the whole file, without its body."""
    if version is not None:
        fields["Upload_Draft_Interop_Version"] = version
    return message("POST", "/uploads", Upload_Complete="?1", Content_Length=SIZE, **fields)


@pytest.mark.parametrize("version", [5, 6, 8])
def test_a_creation(server: Server, version: int) -> None:
    """The first response to a creation tells where the upload is, before its body has arrived."""
    with Connection(server.port) as connection:
        connection.send(creation(version), DATA[:HALF])
        first = connection.receive()
        assert first.status == 104
        assert first.fields.keys() == {"location", "upload-limit", "upload-draft-interop-version"}
        assert first.fields["upload-draft-interop-version"] == str(version)
        connection.reset()
    url = first.fields["location"]
    assert offset(DRAFT, server.port, url) <= HALF
    assert finish(DRAFT, server.port, url, DATA) == HASH


def test_the_same_location(server: Server) -> None:
    """All responses to one request have the same Location."""
    head = message("POST", "/uploads", DATA[:9], Upload_Complete="?0", Upload_Draft_Interop_Version=8)
    with Connection(server.port) as connection:
        first = connection.ask(head)
        final = connection.receive()
        assert (first.status, final.status) == (104, 201)
        assert first.fields["location"] == final.fields["location"]
        # The connection is still in step.
        assert connection.ask(message("GET", "/healthz")).status == 200


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
def test_progress(server: Server, coded: bool) -> None:
    """While a body arrives the client is told how many bytes are safe, and never where the upload is."""
    url = create(DRAFT, server.port, SIZE)
    fields: dict[str, str | int] = {"Transfer_Encoding": "chunked"} if coded else {"Content_Length": SIZE}
    with Connection(server.port) as connection:
        connection.send(DRAFT.patch(url, 0, **fields))
        for begin in range(0, 13_000, 1000):
            data = DATA[begin : begin + 1000]
            connection.send(chunked(data, end=b"") if coded else data)
            time.sleep(0.5)
        answer = connection.receive()
        assert answer.status == 104
        assert answer.fields.keys() == {"upload-offset", "upload-draft-interop-version"}
        told_ = int(answer.fields["upload-offset"])
        assert 5000 <= told_ <= 13_000
        connection.reset()
    assert offset(DRAFT, server.port, url) >= told_
    assert finish(DRAFT, server.port, url, DATA) == HASH


def test_beside_100_continue(server: Server) -> None:
    """The server MUST NOT omit 100 (Continue) because it has sent 104."""
    with Connection(server.port) as connection:
        assert connection.ask(creation(Expect="100-continue")).status == 104
        assert connection.receive().status == 100
        connection.send(DATA)
        assert told(connection.receive())[0] == HASH


@pytest.mark.parametrize("version", [None, 3, 4, 7, 9])
def test_other_versions(server: Server, version: int | None) -> None:
    """The server MUST NOT send 104 when the version of the client is missing or another one."""
    with Connection(server.port) as connection:
        answer = connection.ask(creation(version), DATA)
        assert answer.status == (200 if version is None else 400)


def test_other_clients(server: Server) -> None:
    """Clients of tus, of HTTP/1.0 and of plain uploads get no interim response."""
    url = create(TUS, server.port, SIZE)
    assert finish(TUS, server.port, url, DATA) == HASH
    with Connection(server.port) as connection:
        assert connection.ask(creation().replace(b"HTTP/1.1", b"HTTP/1.0"), DATA).status == 200
    with Connection(server.port) as connection:
        assert connection.ask(message("POST", "/", DATA)).status == 200


def test_a_plain_upload(server: Server) -> None:
    """A plain upload whose client asks for it can be continued, and is answered as it always was."""
    with Connection(server.port) as connection:
        head = creation().replace(b"/uploads", b"/")
        connection.send(head, DATA[:HALF])
        first = connection.receive()
        assert first.status == 104
        connection.send(DATA[HALF:])
        final = connection.receive()
        assert told(final)[0] == HASH
        assert final.fields["upload-complete"] == "?1"
    with Connection(server.port) as connection:
        connection.send(head, DATA[:HALF])
        url = connection.receive().fields["location"]
        connection.reset()
    assert finish(DRAFT, server.port, url, DATA) == HASH
    with Connection(server.port) as connection:
        options = connection.ask(message("OPTIONS", "/"))
    assert options.fields["upload-limit"] == "min-size=0"
    assert "tus-version" not in options.fields


@pytest.mark.parametrize("version", [None, 4])
def test_a_plain_upload_of_another_version(server: Server, version: int | None) -> None:
    """Without a version that is spoken, a plain upload stays one."""
    with Connection(server.port) as connection:
        answer = connection.ask(creation(version).replace(b"/uploads", b"/"), DATA)
        assert told(answer)[0] == HASH
        assert "upload-complete" not in answer.fields


def test_a_form(server: Server) -> None:
    """A form stays one, whatever its client asks for."""
    head, _, body = form("name", DATA).partition(b"\r\n\r\n")
    fields = b"\r\nUpload-Complete: ?1\r\nUpload-Draft-Interop-Version: 8\r\n\r\n"
    with Connection(server.port) as connection:
        assert told(connection.ask(head + fields + body))[0] == HASH


def test_a_client_that_does_not_wait(server: Server) -> None:
    """A client that is gone before the interim response does no harm."""
    with Connection(server.port) as connection:
        connection.send(creation())
        connection.reset()
    server.await_answer()


@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
def test_without(on: bool, tmp_path: Path) -> None:
    """Without the setting there is none, and with uWSGI there is none either."""
    with uwsgi(tmp_path, **ON) if on else gunicorn(tmp_path) as server:
        with Connection(server.port) as connection:
            assert told(connection.ask(creation(), DATA))[0] == HASH


def test_through_nginx(tmp_path: Path) -> None:
    """Without the setting, nginx passes on uploads of clients that would understand interim responses."""
    (tmp_path / "nginx").mkdir()
    with gunicorn(tmp_path) as server, nginx(tmp_path / "nginx", server, direct=False) as front:
        with Connection(front.port) as connection:
            assert told(connection.ask(creation(), DATA))[0] == HASH
        url = create(DRAFT, front.port, SIZE)
        assert finish(DRAFT, front.port, url, DATA) == HASH


def test_through_haproxy(server: Server, tmp_path: Path) -> None:
    """HAProxy passes interim responses on."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("haproxy is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = tmp_path / "haproxy.cfg"
    settings.write_text(HAPROXY.format(port=port, store=server.port), encoding="ascii")
    log = tmp_path / "haproxy.log"
    front = start([program, "-db", "-f", str(settings)], server.root, log, {}, port=port)
    try:
        front.await_answer()
        with Connection(port) as connection:
            first = connection.ask(creation(), DATA[:HALF])
            assert first.status == 104
            connection.send(DATA[HALF:])
            assert told(connection.receive())[0] == HASH
        with Connection(port) as connection:
            head = message("HEAD", first.fields["location"], Upload_Draft_Interop_Version=8)
            assert connection.ask(head).fields["upload-complete"] == "?1"
    finally:
        front.kill()
