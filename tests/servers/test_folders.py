"""A folder as people have them goes to a real server and comes back, by the command."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests.support.commands import install, run
from tests.support.homes import check_same, library, looked_at
from tests.support.servers import Server, gunicorn
from tests.support.wire import Connection, message

CHANGED = 10


class Received(NamedTuple):
    """What a server has received so far."""

    created: int
    """Files that it did not have."""
    size: int
    """Bytes of all files."""


@pytest.fixture(name="server")
def fixture_server(tmp_path: Path) -> Iterator[Server]:
    """A server that counts what it receives."""
    with gunicorn(tmp_path, WSGI_STORE_METRICS="on") as server:
        yield server


def received(server: Server) -> Received:
    """Ask the server what it has received."""
    with Connection(server.port) as connection:
        text = connection.ask(message("GET", "/metrics")).body.decode()

    def value(name: str) -> int:
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, text
        return int(float(found[1]))

    return Received(
        value('wsgi_store_uploads_total{outcome="created"}'), value("wsgi_store_received_bytes_total")
    )


def change(folder: Path) -> tuple[int, list[Path]]:
    """Change ten files, and some others only in what a tree says of them.

    Returns the bytes of the ten, and the paths that are gone.
    """
    files = sorted(path for path in folder.glob("*.py") if path.stat().st_size)
    *changed, renamed, removed, executable, touched = Random(1).sample(files, CHANGED + 4)
    for number, path in enumerate(changed):
        path.write_bytes(path.read_bytes() + f"# {number}\n".encode())
    size = sum(path.stat().st_size for path in changed)
    renamed.rename(folder / "odd" / "renamed")
    removed.unlink()
    executable.chmod(0o711)
    os.utime(touched, ns=(0, 12_345_678_901))
    (folder / "odd" / "links" / "new").symlink_to("../renamed")
    return size, [path.relative_to(folder) for path in (renamed, removed)]


@pytest.mark.races
def test_a_real_folder(server: Server, tmp_path: Path) -> None:
    """The library of Python and odd files come back as they were, and only what changed is sent again."""
    folder, back = tmp_path / "folder", tmp_path / "back"
    program = install(tmp_path / "here")
    url = ["--url", f"http://127.0.0.1:{server.port}"]

    def put() -> tuple[str, int]:
        done = run(program, "put", "-r", "--tree", str(folder), *url)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        told = re.fullmatch(rb"wsgi-store: .*: [\d,]+ files, ([\d,]+) sent\n", done.stderr)
        assert told, done.stderr
        return line.split()[0].decode(), int(told[1].replace(b",", b""))

    def get(hash_: str, target: Path) -> None:
        # The library of a distribution may have links that lead elsewhere.
        done = run(program, "get", "-r", "--outward-links", hash_, str(target), *url)
        assert done.returncode == 0, done.stderr
        check_same(folder, target)

    library(folder)
    assert len(looked_at(folder)) > 1000
    first, sent = put()
    before = received(server)
    assert before.size >= sum(found.size for found in looked_at(folder).values()) / 2
    get(first, back)
    assert 1000 < sent < before.created
    assert put() == (first, 0)
    assert received(server) == before

    size, gone = change(folder)
    second, sent = put()
    assert sent == CHANGED
    size += (server.root / second[:2] / second).stat().st_size
    assert received(server) == Received(before.created + CHANGED + 1, before.size + size)
    get(second, tmp_path / "elsewhere")
    # What the tree does not name stays.
    for path in gone:
        (back / path).unlink()
    get(second, back)
