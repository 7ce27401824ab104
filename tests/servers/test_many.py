"""Lists of hashes and archives on each server: hostile and slow bodies, clients that leave, damaged blobs."""

import hashlib
import http.client
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.exchanges import told
from tests.support.servers import Server, gunicorn, nginx, uwsgi, waitress
from tests.support.wire import Answer, Connection, chunked, message
from wsgi_store.web import tar
from wsgi_store.web.hash_list import LONGEST, MOST

SERVERS = {"gunicorn": gunicorn, "uwsgi": uwsgi, "waitress": waitress}
JSON = {"Content_Type": "application/json"}
MIB = 1 << 20
LARGE = Random(0).randbytes(MIB) * 32
SMALL = [b"%d" % number * 500 for number in range(300)]
ABSENT = hashlib.sha256(b"never added").hexdigest()
END = bytes(1024)


@pytest.fixture(scope="module", name="server", params=SERVERS.values(), ids=SERVERS)
def fixture_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Each server, with some small blobs."""
    start: Callable[..., Server] = request.param
    with start(tmp_path_factory.mktemp("many"), WSGI_STORE_HASH="sha256") as server:
        for data in SMALL:
            upload(server, data)
        yield server


def upload(server: Server, data: bytes) -> str:
    """Upload a blob; returns its hash."""
    with Connection(server.port) as connection:
        return told(connection.ask(message("POST", "/", data)))[0]


def hashes() -> list[str]:
    """The hashes of the small blobs."""
    return [hashlib.sha256(data).hexdigest() for data in SMALL]


def ask(server: Server, body: bytes, coded: bool, path: str = "/missing", **fields: str) -> Answer:
    """Send a list, all at once."""
    with Connection(server.port) as connection:
        if not coded:
            return connection.ask(message("POST", path, body, **(JSON | fields)))
        head = message("POST", path, Transfer_Encoding="chunked", **(JSON | fields))
        return connection.ask(head + chunked(*(body[at : at + 50_000] for at in range(0, len(body), 50_000))))


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
def test_a_whole_list(server: Server, coded: bool) -> None:
    """Ten thousand hashes in one request, as JSON and as text."""
    many = [hashlib.sha256(b"absent %d" % number).hexdigest() for number in range(MOST - len(SMALL))]
    body = json.dumps(hashes() + many).encode()
    answer = ask(server, body, coded)
    assert (answer.status, json.loads(answer.body)["missing"]) == (200, many)
    lines = "".join(f"{one}\n" for one in many).encode()
    answer = ask(server, lines, coded, Content_Type="text/plain", Accept="text/plain")
    assert answer.body == lines


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("path", ["/missing", "/archive"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, json.dumps([ABSENT] * (MOST + 1)).encode()),
        (400, b"[" * MIB),
        (400, b"[" + b"[]," * 500_000 + b"[]]"),
        (400, b'["\xff"]'),
        (400, b'["' + b"0" * MIB + b'"]'),
        (400, b'[{"hash": "%s", "size": %s}]' % (ABSENT.encode(), b"9" * MIB)),
    ],
    ids=["many", "deep", "wide", "latin-1", "long", "size"],
)
def test_hostile_lists(server: Server, status: int, body: bytes, path: str, coded: bool) -> None:
    """Each is refused with a short answer, and the server goes on."""
    answer = ask(server, body, coded, path)
    assert answer.status == status
    assert len(answer.body) < 1000
    assert json.loads(ask(server, b"[]", False).body) == {"missing": []}


@pytest.mark.parametrize("path", ["/missing", "/archive"])
def test_a_list_that_is_too_large(server: Server, path: str) -> None:
    """It is refused before it is sent if its length is announced, else when it becomes too large."""
    # waitress receives every body before the application sees the request.
    body = b" " * (LONGEST + 1) if server.log.name.startswith("waitress") else b""
    with Connection(server.port) as connection:
        answer = connection.ask(message("POST", path, Content_Length=LONGEST + 1, **JSON), body)
    assert (answer.status, json.loads(answer.body)["limit"]) == (413, LONGEST)
    answer = ask(server, b"[" + b" " * LONGEST + b"]", True, path)
    assert (answer.status, json.loads(answer.body)["limit"]) == (413, LONGEST)


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
def test_a_slow_list(server: Server, coded: bool) -> None:
    """A list that arrives in pieces is read to its end; one that is cut is refused."""
    body = json.dumps([*hashes(), ABSENT]).encode()
    fields = {"Transfer_Encoding": "chunked"} if coded else {"Content_Length": len(body)}
    head = message("POST", "/missing", **JSON, **fields)
    pieces = [body[at : at + 5000] for at in range(0, len(body), 5000)]
    with Connection(server.port) as connection:
        connection.send(head)
        for piece in pieces:
            time.sleep(0.05)
            connection.send(chunked(piece, end=b"") if coded else piece)
        answer = connection.ask(b"0\r\n\r\n" if coded else b"")
        assert json.loads(answer.body) == {"missing": [ABSENT]}
    before = server.descriptors()
    with Connection(server.port) as connection:
        connection.send(head, chunked(pieces[0], end=b"") if coded else pieces[0])
        connection.reset()
    server.until_unused(before)


def fetch(server: Server, asked: list[str]) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Begin to download an archive."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", "/archive", json.dumps(asked), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/x-tar")
    return connection, answer


def test_an_archive(server: Server) -> None:
    """It arrives whole, in the order of the list, and the connection can be used again where it is kept."""
    large = upload(server, LARGE)
    asked = [*hashes()[::-1], ABSENT, large]
    connection, answer = fetch(server, asked)
    data = answer.read()
    connection.close()
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        names = opened.getnames()
        assert names == [*hashes()[::-1], large]
        for name in names:
            file = opened.extractfile(name)
            assert file is not None and hashlib.sha256(file.read()).hexdigest() == name
    assert data.endswith(END)


def test_a_blob_that_is_cut(server: Server) -> None:
    """No client takes an archive for whole that broke off: its end is missing."""
    breaks_off(server, server)


def test_behind_nginx(tmp_path: Path) -> None:
    """nginx passes an archive on while it is sent, and does not end one that broke off."""
    with (
        gunicorn(tmp_path, WSGI_STORE_HASH="sha256") as server,
        nginx(tmp_path, server, direct=False) as front,
    ):
        asked = [upload(front, data) for data in [*SMALL, LARGE]]
        assert json.loads(ask(front, json.dumps([*asked, ABSENT]).encode(), True).body)["missing"] == [ABSENT]
        connection, answer = fetch(front, asked)
        data = answer.read()
        connection.close()
        assert data.endswith(END)
        with tarfile.open(fileobj=io.BytesIO(data)) as opened:
            assert opened.getnames() == asked
        front.expected.append("prematurely closed")
        breaks_off(server, front)


def breaks_off(server: Server, front: Server) -> None:
    """Cut a blob while it is sent in an archive through `front`."""
    server.expected += ["a response broke off", "Exception while serving", "Traceback", "StoreUnavailable"]
    hash_ = upload(server, LARGE)
    path = server.root / hash_[:2] / hash_
    connection, answer = fetch(front, [hash_, *hashes()])
    data = answer.read(MIB)
    os.truncate(path, MIB * 20)
    try:
        data += answer.read()
    except (http.client.IncompleteRead, ConnectionError) as error:
        data += getattr(error, "partial", b"")
    connection.close()
    assert len(data) < len(LARGE)
    with pytest.raises(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(data)) as opened:
        opened.getnames()
    path.unlink()


def test_a_client_that_leaves(server: Server) -> None:
    """The server closes the blob soon after the client has gone."""
    hash_ = upload(server, LARGE)
    before = server.descriptors()
    connection, answer = fetch(server, [hash_, *hashes()])
    assert answer.read(1000)
    connection.close()
    answer.close()
    server.until_unused(before)


@pytest.mark.clients
@pytest.mark.parametrize("program", ["tar", "bsdtar", "python"])
@pytest.mark.parametrize("algorithm", ["sha256", "blake2b"])
def test_programs_that_read_archives(tmp_path: Path, program: str, algorithm: str) -> None:
    """GNU tar, bsdtar and Python restore each file from an archive."""
    with gunicorn(tmp_path, WSGI_STORE_HASH=algorithm) as server:
        contents = {upload(server, data): data for data in [*SMALL, LARGE, b""]}
        connection, answer = fetch(server, list(contents))
        data = answer.read()
        connection.close()
    there = tmp_path / "there"
    there.mkdir()
    if program == "python":
        with tarfile.open(fileobj=io.BytesIO(data)) as opened:
            opened.extractall(there, filter="data")
    else:
        subprocess.run([program, "-x", "-C", str(there), "-f", "-"], input=data, check=True)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == contents
    assert all(path.stat().st_mode & 0o7777 == 0o444 for path in there.iterdir()) or program == "python"


@pytest.mark.clients
@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_programs_that_read_large_members(tmp_path: Path, program: str) -> None:
    """Beyond 8 GiB, and with 128 digits, the size and the name of the file are read as they were written."""
    path, size = tmp_path / "large.tar", tar.MAX_SIZE + 2
    members = [("a" * 64, size), ("b" * 128, 5), ("c" * 64, 5)]
    with path.open("wb") as file:
        for name, length in members:
            file.write(tar.header(name, length))
            file.seek(length + len(tar.padding(length)), os.SEEK_CUR)
        file.write(tar.END)
    listed = subprocess.run([program, "-tvf", str(path)], check=True, capture_output=True, text=True).stdout
    found = [line.split() for line in listed.splitlines()]
    sizes = 2 if program == "tar" else 4
    assert [(fields[-1], int(fields[sizes])) for fields in found] == members
