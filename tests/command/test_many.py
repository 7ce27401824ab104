"""`wsgi-store put` of many files."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.cli_service import fixture_server, fixture_url, objects, run
from tests.support.commands import in_own_group, install, terminal
from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn, until
from wsgi_store.cli import upload
from wsgi_store.cli.main import main
from wsgi_store.client import many
from wsgi_store.digest import Algorithm
from wsgi_store.store.disk.store import LocalStore

__all__ = ["fixture_server", "fixture_url"]  # imported for the tests that request them

LARGE = Random(5).randbytes(2_000_000)


def fill(directory: Path, number: int) -> dict[str, str]:
    """Make a folder of small files; returns their hashes by their paths, in the order of the command."""
    directory.mkdir()
    for name in range(number):
        (directory / f"{name:04}").write_text(f"file {name}")
    return {
        f"{directory.name}/{name:04}": hashlib.sha256(f"file {name}".encode()).hexdigest()
        for name in range(number)
    }


def test_a_folder_again(url: str, server: Server, tmp_path: Path) -> None:
    """The second time nothing is sent, and the rows are the same."""
    hashes = fill(tmp_path / "d", 600)
    (tmp_path / "d" / "large").write_bytes(LARGE)
    hashes["d/large"] = hashlib.sha256(LARGE).hexdigest()
    dry = objects(run("put", "-r", "-n", "--json", "d").stdout)
    assert [(row["path"], row["hash"], row["state"]) for row in dry] == [
        (path, hash_, "would send") for path, hash_ in hashes.items()
    ]
    rows = run("put", "-r", "d").stdout
    assert rows == "".join(f"{hash_}\t{url}/{hash_}\t{path}\n" for path, hash_ in hashes.items())
    sent = len(server.logged("POST / ")), len(server.logged("PUT /"))
    assert run("put", "-r", "d").stdout == rows
    again = objects(run("put", "-r", "--json", "d").stdout)
    assert [(row["path"], row["hash"], row["created"]) for row in again] == [
        (path, hash_, False) for path, hash_ in hashes.items()
    ]
    assert (len(server.logged("POST / ")), len(server.logged("PUT /"))) == sent
    assert {row["state"] for row in objects(run("put", "-r", "-n", "--json", "d").stdout)} == {"there"}


@pytest.mark.parametrize("names", [[], [Algorithm.SHA256]], ids=["md5", "md5 and sha256"])
def test_a_store_of_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[Algorithm]) -> None:
    """The command says once why it sends everything; a further algorithm saves that."""
    LocalStore(str(tmp_path / "store"), Algorithm.MD5, names=names)
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "d", 300)
    with gunicorn(tmp_path, WSGI_STORE_HASH="md5") as server:
        monkeypatch.setenv("WSGI_STORE_URL", f"http://127.0.0.1:{server.port}")
        told = CliRunner().invoke(main, ["put", "-r", "d"])
        assert not told.exit_code and len(told.stdout.splitlines()) == 300
        assert told.stderr.count("not collision resistant") == (0 if names else 1)
        assert told.stderr.count("\n") == (0 if names else 1)
        for silent in ("--json", "--force", "--dry-run", "--quiet"):
            assert run("put", "-r", "d", silent).stderr == ""
        assert run("put", "d/0001").stdout.split()[0] == hashlib.md5(b"file 1").hexdigest()


def test_rows_come_while_others_are_sent(url: str, server: Server, tmp_path: Path) -> None:
    """The rows of small files are printed while a large one behind them is sent; Ctrl-C ends that."""
    program = install(tmp_path / "here")
    hashes = fill(program.parent / "d", many.FIRST_FILES)
    (program.parent / "d" / "large").write_bytes(LARGE)
    with Relay(server.port, 300_000) as relay:
        command = (program, "put", "-r", "d", "--url", relay.url, "--token", "all")
        with in_own_group(program.parent, *command) as process:
            assert process.stdout is not None
            for path in hashes:
                assert process.stdout.readline().decode().endswith(f"\t{path}\n")
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert url


def test_interrupted_in_a_batch(url: str, server: Server, tmp_path: Path) -> None:
    """Ctrl-C ends the command at once; what was not acknowledged is sent by the next start."""
    program = install(tmp_path / "here")
    (program.parent / "d").mkdir()
    for name in range(40):
        (program.parent / "d" / f"{name:02}").write_bytes(Random(name).randbytes(100_000))
    with Relay(server.port, 300_000) as relay:
        command = (program, "put", "-r", "d", "--url", relay.url, "--token", "all")
        with in_own_group(program.parent, *command) as process:
            until(lambda: relay.carried > 200_000, "the first bytes")
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")
    os.chdir(program.parent)
    assert len(run("put", "-r", "d").stdout.splitlines()) == 40
    assert url


def test_a_server_that_ends_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with one message, and prints no row of a file that was not acknowledged."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "d", 2000)
    server = gunicorn(tmp_path)
    killed: list[str] = []

    find = upload.find

    def killing(*arguments: Any) -> Iterator[str]:
        for path in find(*arguments):
            if path == "d/1500":
                server.kill()
                killed.append(path)
            yield path

    monkeypatch.setattr(upload, "find", killing)
    url = f"http://127.0.0.1:{server.port}"
    result = run("put", "-r", "d", "--json", "--retries", "0", "--url", url, status=6)
    (failure,) = objects(result.stderr)
    assert failure["code"] == "unreachable" and killed
    for row in objects(result.stdout):
        assert (server.root / row["hash"][:2] / row["hash"]).exists()


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """Rows and bars are shown, whether the files are sent or there already."""
    program = install(tmp_path / "here")
    hashes = fill(program.parent / "d", 300)
    (program.parent / "d" / "large").write_bytes(LARGE)
    with gunicorn(tmp_path) as server:
        for _ in range(2):
            shown = terminal(program, "put", "-r", "d", "--url", f"http://127.0.0.1:{server.port}")
            assert all(hash_ in shown for hash_ in hashes.values())
            assert "sending" in shown


def test_refused_files(url: str, tmp_path: Path) -> None:
    """Files that are refused are told by their paths, and the others of their batch are stored."""
    fill(tmp_path / "d", 10)
    (tmp_path / "d" / "0004").unlink()
    (tmp_path / "d" / "0004").symlink_to("nowhere")
    with (tmp_path / "d" / "0006").open("wb") as file:
        file.truncate(6_000_000)
    result = run("put", "-r", "--json", "d", status=7)
    assert [(row["code"], row["path"]) for row in objects(result.stderr)] == [
        ("os_error", "d/0004"),
        ("too_large", "d/0006"),
    ]
    assert [json.loads(row)["path"][-1] for row in result.stdout.splitlines()] == list("01235789")
    assert url
