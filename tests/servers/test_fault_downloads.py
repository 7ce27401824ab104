"""Blobs truncated or unreadable during a download: no client takes it for complete."""

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.support.exchanges import told
from tests.support.faults import fetched, hash_of, injected, serving, stored, upload
from tests.support.servers import Server
from tests.support.wire import Connection, message

MIB = 1 << 20
# More than the socket buffers hold, so that the server is still sending.
DATA = Random(0).randbytes(MIB) * 32
HASH = hash_of(DATA)
CUT = 16 * MIB
READ = 64 << 10
RANGES = {
    "whole": None,
    "range": f"bytes=1000-{len(DATA) - 1000}",
    "ranges": f"bytes=0-{20 * MIB},{21 * MIB}-{31 * MIB}",
}
# Errors of sendfile(2), of read(2), and of the fallback from one to the other.
UNREADABLE = {
    "later": ("whole", ["/^sendfile:error=EIO:when=2+"]),
    "later in a range": ("range", ["/^sendfile:error=EIO:when=2+"]),
    "at once": ("whole", ["/^sendfile:error=EIO", "/^pread:error=EIO"]),
    "after a while": ("range", ["/^sendfile:error=EINVAL", "/^pread:error=EIO:when=5+"]),
    "in ranges": ("ranges", ["/^pread:error=EIO:when=5+"]),
    "no longer there": ("whole", ["/^sendfile:error=ESTALE:when=2+"]),
}

LATER = {"later", "later in a range", "no longer there"}
# The line logged when an answer breaks off, with the reason.
HANDLING = f"GET /{HASH}: a response broke off: "
SHORTER = f"a response broke off: the blob {HASH} is shorter"


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("downloads")) as server:
        yield server
        assert not server.logged("Traceback")


@pytest.fixture(name="path")
def _path(server: Server) -> Iterator[Path]:
    """The file of a large blob, which a test may damage."""
    with Connection(server.port) as client:
        assert told(client.ask(upload(DATA)))[0] == HASH
        other = stored(client, b"another")
    before = server.descriptors()
    path = server.root / HASH[:2] / HASH
    yield path
    # The same workers still serve, and nothing of the download is left open.
    server.until_unused(before)
    with Connection(server.port) as client:
        assert fetched(client, other) == b"another"
        assert client.ask(message("DELETE", f"/{HASH}")).status == 200


def cut(path: Path) -> None:
    """Truncate a blob behind the server's back."""
    os.truncate(path, CUT)


def fields(kind: str) -> dict[str, str]:
    """The header fields for the whole blob or for parts of it."""
    wanted = RANGES[kind]
    return {} if wanted is None else {"Range": wanted}


def logged_once(server: Server, pattern: str, cause: str, call: Callable[[], None]) -> None:
    """Check that `call` logs one error with its cause."""
    server.expected.append(pattern)
    errors, causes = len(server.logged(" ERROR ")), len(server.logged(cause))
    call()
    server.await_log(cause, causes + 1)
    (found,) = server.logged(" ERROR ")[errors:]
    assert re.search(pattern, found.string), found.string


@pytest.mark.parametrize("kind", RANGES)
def test_a_blob_that_is_cut(server: Server, path: Path, kind: str) -> None:
    """The connection closes before the announced length, and a pipelined request gets no answer."""

    def download() -> None:
        with Connection(server.port, receive_buffer=READ) as client:
            client.send(message("GET", f"/{HASH}", **fields(kind)))
            client.send(message("GET", f"/{hash_of(b'another')}"))
            head = client.receive_head()
            cut(path)
            body = client.rest()
        assert head.status in (200, 206)
        assert len(body) < int(head.fields["content-length"])
        assert b"HTTP/1.1" not in body

    logged_once(server, HANDLING, SHORTER, download)


@pytest.mark.parametrize("kind", RANGES)
def test_http_client_sees_a_cut(server: Server, path: Path, kind: str) -> None:
    """http.client raises IncompleteRead."""

    def download() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
            client.request("GET", f"/{HASH}", headers=fields(kind))
            answer = client.getresponse()
            answer.read(READ)
            cut(path)
            with pytest.raises(http.client.IncompleteRead):
                answer.read()

    logged_once(server, HANDLING, SHORTER, download)


@pytest.mark.parametrize("kind", RANGES)
def test_curl_sees_a_cut(server: Server, path: Path, kind: str) -> None:
    """curl exits with status 18, partial file."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    command = [program, "-sS", f"http://127.0.0.1:{server.port}/{HASH}"]
    for name, value in fields(kind).items():
        command += ["-H", f"{name}: {value}"]

    def download() -> None:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.read(READ)
            cut(path)
            _, error = process.communicate(timeout=30)
        assert process.returncode == 18, error

    logged_once(server, HANDLING, SHORTER, download)


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_blob_that_cannot_be_read(server: Server, path: Path, case: str) -> None:
    """A read error closes the connection; afterwards the blob downloads again."""
    kind, faults = UNREADABLE[case]

    def download() -> None:
        with injected(server, *faults, paths=[path]), Connection(server.port, receive_buffer=READ) as client:
            client.send(message("GET", f"/{HASH}", **fields(kind)))
            client.send(message("GET", f"/{hash_of(b'another')}"))
            head = client.receive_head()
            body = client.rest()
        assert head.status in (200, 206)
        assert len(body) < int(head.fields["content-length"])
        assert b"HTTP/1.1" not in body

    cause = "Stale file handle" if "ESTALE" in faults[0] else "Input/output error"
    error = f"The answer to GET /{HASH} broke off: {cause}" if case in LATER else HANDLING
    logged_once(server, error, cause, download)
    with Connection(server.port) as client:
        assert hash_of(fetched(client, HASH)) == HASH


def test_a_blob_that_was_cut_before(server: Server, path: Path) -> None:
    """A truncated blob is sent at its actual size, and uploading it again heals it."""
    cut(path)
    with Connection(server.port) as client:
        assert fetched(client, HASH) == DATA[:CUT]
        assert client.ask(message("GET", f"/{HASH}", Range=f"bytes={CUT}-")).status == 416
        answer = client.ask(upload(DATA))
        assert json.loads(answer.body)["healed"] is True
        assert fetched(client, HASH) == DATA
    server.await_log(f"WARNING .*an upload replaced the damaged blob {HASH}")


@pytest.mark.parametrize("first", [True, False])
def test_an_archive_with_a_blob_that_cannot_be_read(server: Server, path: Path, first: bool) -> None:
    """The answer is 503 if nothing was sent yet; later the connection breaks off, without an end."""
    asked = json.dumps([HASH]).encode()
    head = {"Content_Type": "application/json"}

    def download() -> None:
        with injected(server, f"/^pread:error=EIO:when={1 if first else 5}+", paths=[path]):
            with Connection(server.port, receive_buffer=READ) as client:
                client.send(message("POST", "/archive", asked, **head))
                answer = client.receive_head()
                body = client.rest() if not first else b""
        assert answer.status == (503 if first else 200)
        assert not body.endswith(b"0\r\n\r\n") and len(body) < len(DATA)

    cause = "cannot read the blob"
    logged_once(server, cause if first else "POST /archive: a response broke off: ", cause, download)
    with Connection(server.port) as client:
        assert fetched(client, HASH) == DATA
