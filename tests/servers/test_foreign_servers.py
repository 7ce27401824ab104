"""The table of docs/servers.md holds for each server, and none stores a truncated body."""

import getpass
import hashlib
import json
import os
import pwd
import shutil
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import speakers
from tests.support.exchanges import DATA, HASH, SIZE, form, told
from tests.support.foreign import SERVERS
from tests.support.servers import PROJECT, Server, gunicorn, received, start, until, uwsgi
from tests.support.speakers import SPEAKERS, Speaker, create, finish, offset
from tests.support.wire import Connection, chunked, message

pytestmark = pytest.mark.clients
APACHE = """
ServerRoot {directory}
ServerName localhost
PidFile {directory}/pid
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
ErrorLog {directory}/error.log
{user}
WSGISocketPrefix {directory}/wsgi
WSGIChunkedRequest On
WSGIDaemonProcess store processes=1 threads=8 python-path={path}
WSGIProcessGroup store
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {directory}/store.wsgi
<Directory {directory}>
    Require all granted
</Directory>
"""


class Seen(NamedTuple):
    """The statuses of chunked uploads; the connection may also close without any."""

    whole: int
    cut: set[int]
    bad_size: set[int]
    """Of a chunk size that is no number; 200 where it is taken for the end."""
    both: int
    """With Content-Length, too."""


# Two statuses: server and service race to answer first.
SEEN = {
    "gunicorn": Seen(200, {400}, {400}, 400),
    "uwsgi": Seen(200, {400}, {200}, 400),
    "werkzeug": Seen(200, {400}, {400}, 400),
    "cheroot": Seen(200, {400}, {400}, 400),
    "gevent": Seen(200, {400}, {400}, 200),
    "apache": Seen(200, {400, 500}, {400}, 200),
    "waitress": Seen(200, set(), {400}, 200),
    "tornado": Seen(411, set(), {400}, 400),
    "uvicorn": Seen(411, {411}, {400, 411}, 400),
    "hypercorn": Seen(411, {400, 411}, {400, 411}, 400),
    "granian": Seen(411, {411}, {411}, 411),
    "wsgiref": Seen(411, {411}, {411}, 400),
}
# Servers that send no header before the first bytes of a body.
NO_HEAD = {"hypercorn"}
POST = b"POST /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
CODED = POST % b"" + b"Transfer-Encoding: chunked\r\n"


@contextmanager
def apache(directory: Path) -> Iterator[Server]:
    """The system's Apache with mod_wsgi."""
    program = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or not Path("/usr/lib/apache2/modules/mod_wsgi.so").exists():
        pytest.skip("apache2 or its mod_wsgi is not installed")
    # In /tmp, which www-data may enter; started by root, Apache must be told its user.
    with tempfile.TemporaryDirectory(dir="/tmp") as name, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        user = "www-data" if os.getuid() == 0 else getpass.getuser()
        os.chown(name, pwd.getpwnam(user).pw_uid, -1)
        text = APACHE.format(
            directory=name,
            port=port,
            modules="/usr/lib/apache2/modules",
            user=f"User {user}\nGroup {user}" if os.getuid() == 0 else "",
            path=f"{PROJECT}:{sysconfig.get_path('purelib')}",
        )
        Path(name, "apache.conf").write_text(text, encoding="utf-8")
        Path(name, "store.wsgi").write_text("from wsgi_store.wsgi import application\n", encoding="utf-8")
        probe.close()
        command = [program, "-f", f"{name}/apache.conf", "-DFOREGROUND"]
        yield start(command, Path(name, "store"), directory / "apache.log", {}, port=port)


@contextmanager
def foreign(name: str, directory: Path) -> Iterator[Server]:
    """A server with an empty store."""
    if name in ("gunicorn", "uwsgi"):
        yield {"gunicorn": gunicorn, "uwsgi": uwsgi}[name](directory)
    elif name == "apache":
        with apache(directory) as server:
            yield server
    else:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [sys.executable, str(PROJECT / "tests/support/foreign.py"), name, str(port)]
        yield start(command, directory / "store", directory / f"{name}.log", {}, port=port)


@pytest.fixture(scope="module", name="shared", params=SEEN)
def fixture_shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Seen]]:
    """A server that holds one blob, and the expected statuses."""
    directory = tmp_path_factory.mktemp(request.param)
    # pylint: disable-next=contextmanager-generator-missing-cleanup  # pytest ends every fixture
    with foreign(request.param, directory) as server:
        try:
            server.await_answer()
            with Connection(server.port) as connection:
                assert told(connection.ask(message("POST", "/", DATA))) == (HASH, SIZE, True)
            yield server, SEEN[request.param]
        finally:
            server.kill()


@pytest.fixture(name="at")
def fixture_at(shared: tuple[Server, Seen]) -> Iterator[tuple[Server, Seen]]:
    """The same server, checked afterwards for partial bodies."""
    yield shared
    server, _ = shared
    assert server.blobs() - {HASH} <= {hashlib.sha256(b"whole").hexdigest()}
    server.await_answer()


def ask(server: Server, *parts: bytes, end: bool = False) -> int | None:
    """The status of the answer, or None; `end` shuts down the sending side first."""
    with Connection(server.port) as connection:
        connection.send(*parts)
        if end:
            connection.socket.shutdown(socket.SHUT_WR)
        head = connection.rest().partition(b"\r\n")[0].split()
        return int(head[1]) if head else None


def reset(server: Server, *parts: bytes) -> None:
    """Reset the connection in the middle of a request."""
    lines = len(server.logged(" POST / "))
    with Connection(server.port) as connection:
        connection.send(*parts)
        with suppress(AssertionError):  # some servers first wait for the whole body
            until(lambda: any("/.staging" in name for name in server.descriptors()), "a staged file", 0.5)
        connection.reset()
    with suppress(AssertionError):  # some never call the service
        until(lambda: len(server.logged(" POST / ")) > lines, "the end of the request", 2)


def test_downloads(at: tuple[Server, Seen]) -> None:
    """Whole blobs, ranges, HEAD and form uploads work."""
    server, _ = at
    for field, (start_, stop) in {"": (0, SIZE), "bytes=70000-2000000": (70_000, 2_000_001)}.items():
        with Connection(server.port) as connection:
            answer = connection.ask(message("GET", f"/{HASH}", **({"Range": field} if field else {})))
            assert (answer.status, answer.body == DATA[start_:stop]) == (206 if field else 200, True)
    with Connection(server.port) as connection:
        answer = connection.ask(message("HEAD", f"/{HASH}"))
        if server.log.stem not in NO_HEAD:
            assert (answer.status, answer.fields["content-length"]) == (200, str(SIZE))
    with Connection(server.port) as connection:
        assert told(connection.ask(form("rose.png", DATA))) == (HASH, SIZE, False)


def test_put(at: tuple[Server, Seen]) -> None:
    """PUT works under a hash and under a name, with a condition, and refuses part of a file."""
    server, _ = at
    for status, target, fields in [
        (200, f"/{HASH}", {}),
        (200, "/%C3%A4%20b%0A.txt", {}),
        (200, "/", {}),
        (412, f"/{HASH}", {"If_None_Match": "*"}),
        (400, f"/{HASH}", {"Content_Range": f"bytes 0-{SIZE - 1}/{SIZE}"}),
        (404, "/a/b", {}),
    ]:
        with Connection(server.port) as connection:
            # uWSGI resets the connection if it answers in the middle of a large body.
            answer = connection.ask(message("PUT", target, DATA if status == 200 else b"part", **fields))
            assert answer.status == status
            if status == 200:
                assert told(answer) == (HASH, SIZE, False)
            assert json.loads(answer.body).get("name") == ("ä b\n.txt" if "%" in target else None)


@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
def test_resumable_uploads(at: tuple[Server, Seen], speaker: Speaker) -> None:
    """An upload that broke off goes on where it broke off, in both protocols."""
    server, _ = at
    if server.log.stem in NO_HEAD:
        return  # nor a response without a body
    url = create(speaker, server.port, SIZE)
    with Connection(server.port) as connection:
        connection.send(speaker.patch(url, 0, Content_Length=SIZE), DATA[: SIZE // 2])
        with suppress(AssertionError):
            until(lambda: received(server.root, url) > SIZE // 2 - (1 << 20), "bytes to be written", 2)
        kept = received(server.root, url)
        connection.reset()
    until(lambda: speakers.head(speaker, server.port, url).status in (200, 204), "the end of the request")
    assert offset(speaker, server.port, url) >= kept
    assert finish(speaker, server.port, url, DATA) == HASH


def test_short_length(at: tuple[Server, Seen]) -> None:
    """A body shorter than its Content-Length stores nothing, whether the connection closes or resets."""
    server, _ = at
    head = POST % b"" + b"Content-Length: 1000000\r\n\r\n"
    assert ask(server, head, DATA[:500_000], end=True) in (400, 500, None)
    reset(server, head, DATA[:500_000])


def test_whole(at: tuple[Server, Seen]) -> None:
    """A complete chunked body is stored only under servers that detect truncated ones."""
    server, seen = at
    assert ask(server, CODED, b"\r\n", chunked(b"wh", b"ole")) == seen.whole


@pytest.mark.parametrize("body", [b"5\r\nab", chunked(b"part", end=b""), b""], ids=["in", "behind", "before"])
def test_cut(at: tuple[Server, Seen], body: bytes) -> None:
    """A truncated chunked body stores nothing, whether the connection closes or resets."""
    server, seen = at
    assert ask(server, CODED, b"\r\n", body, end=True) in {*seen.cut, None}
    reset(server, CODED, b"\r\n", body)


def test_cut_with_a_digest(at: tuple[Server, Seen]) -> None:
    """With a digest no server stores a truncated chunked body."""
    server, seen = at
    hash_ = hashlib.sha256(b"whole").hexdigest().encode()
    for head in (POST % b"?hash=%s" % hash_, (POST % hash_).replace(b"POST", b"PUT")):
        coded = head + b"Transfer-Encoding: chunked\r\n\r\n"
        assert ask(server, coded, chunked(b"whol", end=b""), end=True) in (400, 411, 422, 500, None)
        taken = 200 if server.log.stem == "granian" else seen.whole
        assert ask(server, coded, chunked(b"wh", b"ole")) in (taken, 201 if taken == 200 else taken)


def test_bad_size(at: tuple[Server, Seen]) -> None:
    """A malformed chunk size is refused or ends the body, as documented."""
    server, seen = at
    assert ask(server, CODED, b"\r\n", b"5\r\nwhole\r\nzz\r\nx\r\n0\r\n\r\n") in {*seen.bad_size, None}


def test_both_framings(at: tuple[Server, Seen]) -> None:
    """A chunked body with a Content-Length is refused or stored as its chunks say."""
    server, seen = at
    assert ask(server, CODED, b"Content-Length: 4\r\n\r\n", chunked(b"wh", b"ole")) == seen.both


def test_the_table_is_what_was_seen() -> None:
    """docs/servers.md has a row for each server."""
    text = (PROJECT / "docs" / "servers.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].lower() for line in text.splitlines() if line.startswith("| ")][1:]
    for name in SEEN:
        assert [row for row in rows if name in row], name
    assert set(SERVERS) <= set(SEEN)
