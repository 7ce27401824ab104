"""`wsgi-store put` continues uploads that were killed, interrupted or cut off."""

import hashlib
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.support.cli_service import objects, run
from tests.support.commands import install
from tests.support.commands import run as run_program
from tests.support.commands import start
from tests.support.peers import reply, saying
from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn, received, until
from wsgi_store.cli import upload
from wsgi_store.cli.main import main
from wsgi_store.cli.output import Output
from wsgi_store.cli.upload import put
from wsgi_store.client import Client, resume
from wsgi_store.client.held import Held

# Above what the client sends in one request without more ado.
SIZE = 20 << 20
RATE = 20e6
MORE = b"wsgi-store: interrupted: start the command again to continue where it stopped\n"


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service without tokens."""
    with gunicorn(tmp_path_factory.mktemp("resume")) as server:
        yield server
        assert not server.staged()


@pytest.fixture(name="program")
def fixture_program(tmp_path: Path) -> Path:
    """The command, in a directory of its own."""
    return install(tmp_path / "here")


@pytest.fixture(name="big")
def fixture_big(program: Path, request: pytest.FixtureRequest) -> Path:
    """A large file of the test's own."""
    path = program.parent / "big"
    path.write_bytes(Random(request.node.name).randbytes(SIZE))
    return path


class Stop(Exception):
    """Ends an upload, as the end of its process would."""


def hash_of(path: Path) -> str:
    """The name of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_command_is_killed(program: Path, server: Server, big: Path) -> None:
    """After kill -9 the next start continues, says where, and prints what any other upload prints."""
    with Relay(server.port, RATE) as relay:
        with start(program, "put", "big", "--url", relay.url) as process:
            until(lambda: received(server.root) > 5_000_000, "the first bytes")
            process.kill()
    there = received(server.root)
    assert there < SIZE
    url = f"http://127.0.0.1:{server.port}"
    done = run_program(program, "put", "big", "--url", url)
    hash_ = hash_of(big)
    assert (done.returncode, done.stdout.decode()) == (0, f"{hash_}\t{url}/{hash_}\tbig\n")
    *waiting, told = done.stderr.decode().splitlines()
    assert told.startswith("wsgi-store: big: continued at ") and told.endswith(" MB")
    assert abs(float(told.split()[-2]) - there / 1e6) < 2
    assert all("trying again in" in line for line in waiting)
    with Client(url) as client:
        assert client.get_bytes(hash_) == big.read_bytes()
    assert not received(server.root)


@pytest.mark.parametrize("how", [[], ["--quiet"], ["--json"]], ids=["", "quiet", "json"])
def test_interrupted(program: Path, server: Server, big: Path, how: list[str]) -> None:
    """Ctrl-C says that another start continues; output for programs stays as it is."""
    with Relay(server.port, RATE) as relay:
        with start(program, "put", "big", *how, "--url", relay.url) as process:
            until(lambda: received(server.root) > 5_000_000, "the first bytes")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"" if how else MORE)
    done = run_program(program, "put", "big", *how, "--url", f"http://127.0.0.1:{server.port}")
    assert done.returncode == 0
    if how:
        assert not done.stderr
    else:
        assert b"big: continued at " in done.stderr
    if how == ["--json"]:
        (row,) = objects(done.stdout.decode())
        names = {"sha256": hash_of(big)}
        assert {**row, "url": ""} == {
            "path": "big", "hash": hash_of(big), "size": SIZE, "url": "", "names": names,
            "created": True, "healed": False, "ambiguous": [],
        }  # fmt: skip


def test_several_files(program: Path, server: Server) -> None:
    """Files that are sent at the same time continue each for itself."""
    names = ["one", "two", "three"]
    for name in names:
        (program.parent / name).write_bytes(Random(name).randbytes(SIZE))
    with Relay(server.port, 2 * RATE) as relay:
        with start(program, "put", *names, "--url", relay.url) as process:
            until(lambda: received(server.root) > SIZE, "the first bytes")
            process.kill()
    done = run_program(program, "put", *names, "--url", f"http://127.0.0.1:{server.port}")
    assert done.returncode == 0
    assert [row.split("\t")[0] for row in done.stdout.decode().splitlines()] == [
        hash_of(program.parent / name) for name in names
    ]
    assert done.stderr.count(b": continued at ") == len(names)


def test_a_file_that_changes(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes after it was hashed is not stored, and the command says why."""
    path = tmp_path / "file"
    path.write_bytes(Random(1).randbytes(3_000_000))

    lacking = Held.lacking

    def changed(*arguments: Any, **options: Any) -> Collection[str]:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"?")
        return lacking(*arguments, **options)

    monkeypatch.setattr(Held, "lacking", changed)
    for least in (1 << 20, 1 << 30):
        monkeypatch.setattr(resume, "LEAST", least)
        path.write_bytes(Random(least).randbytes(3_000_000))
        result = run("put", str(path), "--url", f"http://127.0.0.1:{server.port}", status=5)
        assert result.stderr == f"wsgi-store: {path}: the file changed while it was sent\n"


def test_continued(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says where a file continued that another client began."""
    monkeypatch.setattr(resume, "LEAST", 1 << 20)
    path = tmp_path / "file"
    path.write_bytes(Random(4).randbytes(3_000_000))
    url = f"http://127.0.0.1:{server.port}"

    def stop(done: int) -> None:
        if done > 2_000_000:
            raise Stop

    with Client(url) as client, pytest.raises(Stop):
        client.put(path, progress=stop)
    result = CliRunner().invoke(main, ["put", str(path), "--url", url])
    assert (result.exit_code, result.stdout.split()[0]) == (0, hash_of(path))
    assert result.stderr.endswith(f"wsgi-store: {path}: continued at 1.0 MB\n")


@pytest.mark.parametrize("continues", [True, False])
def test_a_sentence_about_interruptions(continues: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said only if another start can continue."""
    with click.Context(put), pytest.raises(KeyboardInterrupt):
        with upload.told_of_interruption(lambda: continues, Output([])):
            raise KeyboardInterrupt
    assert capsys.readouterr().err == (MORE.decode() if continues else "")


def test_force(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --force a large file that the server has is sent in one request."""
    monkeypatch.setattr(resume, "LEAST", 1 << 20)
    path = tmp_path / "file"
    path.write_bytes(Random(2).randbytes(3_000_000))
    url = f"http://127.0.0.1:{server.port}"
    run("put", str(path), "--url", url)
    before = len(server.logged(" POST / "))
    (row,) = objects(run("put", "--json", "--force", str(path), "--url", url).stdout)
    assert (row["hash"], row["created"]) == (hash_of(path), False)
    assert len(server.await_log(" POST / ", before + 1)) == before + 1


def test_interrupted_where_nothing_is_kept(program: Path, big: Path) -> None:
    """Ctrl-C promises nothing if the server keeps no uploads."""
    assert big.stat().st_size == SIZE
    missing = reply(b"", "404 Not Found")
    # An answer that is announced and does not come.
    index = b'{"algorithm": "sha256", "names": []}'
    with saying(missing, missing, reply(b"", length=5), index=index) as peer:
        with start(program, "put", "big", "--url", peer.url, "--retries", "60") as process:
            until(lambda: peer.seen("PUT"), "the upload")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert b"start the command again" not in err
