"""The command `wsgi-store`, in process, against the shipped gunicorn."""

import hashlib
import json
import os
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.support.access import KEY
from tests.support.cli_service import fixture_server, fixture_url, objects, run
from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import reply, saying
from tests.support.servers import PROJECT, Server, until
from wsgi_store import errors
from wsgi_store.cli import output, progress, upload
from wsgi_store.cli.main import COMMANDS, main
from wsgi_store.cli.output import counted
from wsgi_store.client import Client

__all__ = ["fixture_server", "fixture_url"]  # imported for the tests that request them
HELLO = hashlib.sha256(b"hello").hexdigest()
NONE = "0" * 64


def test_the_way_of_a_file(url: str, tmp_path: Path) -> None:
    """Files are uploaded, described, downloaded and removed."""
    (tmp_path / "a b").write_bytes(DATA)
    result = run("put", "a b", "-", stdin=b"hello")
    assert result.stdout == f"{HASH}\t{url}/{HASH}\ta b\n{HELLO}\t{url}/{HELLO}\t-\n"
    both = sorted([(HASH, SIZE), (HELLO, 5)])
    assert run("ls").stdout == "".join(f"{hash_}\t{size}\n" for hash_, size in both)
    assert run("ls", "--after", both[0][0]).stdout == f"{both[1][0]}\t{both[1][1]}\n"
    assert run("ls", "--limit", "1").stdout == f"{both[0][0]}\t{both[0][1]}\n"
    assert run("stat", HASH).stdout == f"{HASH}\t{SIZE}\t{url}/{HASH}\n"
    assert run("get", HASH).stdout == f"{HASH}\n"
    assert (tmp_path / HASH).read_bytes() == DATA
    assert run("get", HASH, "-o", "-").stdout_bytes == DATA
    assert run("rm", HASH, HELLO.upper()).stdout == f"{HASH}\n{HELLO}\n"
    assert run("ls").stdout == ""


def test_json(url: str, tmp_path: Path) -> None:
    """With --json, each result and each error is a JSON object."""
    (tmp_path / "hello").write_bytes(b"hello")
    blob = {"hash": HELLO, "size": 5, "url": f"{url}/{HELLO}", "names": {"sha256": HELLO}}
    usual = {"healed": False, "ambiguous": []}
    assert objects(run("put", "--json", "hello").stdout) == [
        {"path": "hello", **blob, "created": True, **usual}
    ]
    assert objects(run("put", "--json", "-", stdin=b"hello").stdout) == [
        {"path": "-", **blob, "created": False, **usual}
    ]
    assert objects(run("ls", "--json").stdout) == objects(run("stat", "--json", HELLO).stdout) == [blob]
    assert objects(run("get", "--json", HELLO, "-o", "x").stdout) == [{"path": "x", **blob}]
    for name in ("link", "ticket"):
        told = objects(run(name, "--json", HELLO).stdout)
        assert [set(row) for row in told] == [{"url", "expires"}]
    assert objects(run("rm", "--json", HELLO).stdout) == [{"hash": HELLO, "names": {"sha256": HELLO}}]
    missing = {"code": "blob_not_found", "detail": f"no blob {NONE} in this store", "hash": NONE}
    assert objects(run("rm", "--json", NONE, status=3).stderr) == [missing]
    assert objects(run("get", "--json", NONE, status=3).stderr) == [missing]
    result = run("put", "--json", "nothing", "hello", status=1)
    assert objects(result.stderr) == [
        {"code": "os_error", "detail": "No such file or directory", "path": "nothing"}
    ]
    assert objects(result.stdout)[0]["path"] == "hello"


def test_directories(url: str, tmp_path: Path) -> None:
    """With -r, all files below a directory are uploaded in order; anything else is skipped."""
    for name in ("b/2", "b/1", "a/x/deep", "c"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    os.mkfifo(tmp_path / "d" / "pipe")
    (tmp_path / "d" / "broken").symlink_to("nowhere")
    (tmp_path / "d" / "to-c").symlink_to("c")
    (tmp_path / "d" / "a" / "up").symlink_to("..")
    result = run("put", "-r", "d", "d/c", status=1)
    assert [row.split("\t")[2] for row in result.stdout.splitlines()] == [
        *("d/c", "d/to-c", "d/a/x/deep", "d/b/1", "d/b/2", "d/c")
    ]
    assert sorted(result.stderr.splitlines()) == [
        "wsgi-store: d/a/up: links to directories are not followed",
        "wsgi-store: d/broken: No such file or directory",
        "wsgi-store: d/pipe: not a file, skipped",
    ]
    (tmp_path / "to-a").symlink_to("d/a/x")
    assert run("put", "-r", "to-a").stdout.endswith("\tto-a/deep\n")
    assert "is a directory: use -r" in run("put", "d", status=1).stderr
    assert len(run("ls").stdout.splitlines()) == 4
    assert url in result.stdout


def test_what_is_there_is_not_sent(url: str, server: Server, tmp_path: Path) -> None:
    """A large file that the store has is not sent again, unless the token lacks the right to check for it."""
    (tmp_path / "large").write_bytes(DATA)
    sent = f"PUT /{HASH}"
    puts, asked = len(server.logged(sent)) + 1, len(server.logged("POST /missing")) + 1
    run("put", "large")
    server.await_log(sent, puts)
    assert objects(run("put", "--json", "large").stdout)[0]["created"] is False
    assert len(server.await_log("POST /missing", asked + 1)) == asked + 1
    assert len(server.logged(sent)) == puts
    assert objects(run("put", "--json", "--token", "writer", "large").stdout)[0]["created"] is False
    assert len(server.await_log(sent, puts + 1)) == puts + 1
    assert url


def test_many_files(url: str, tmp_path: Path) -> None:
    """The output keeps the order of the arguments, whatever the number of parallel uploads."""
    for number in range(300):
        (tmp_path / f"{number:03}").write_text(str(number))
    for jobs in ("1", "9"):
        rows = run("put", "-j", jobs, *sorted(os.listdir(tmp_path))).stdout.splitlines()
        hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(300)]
        assert rows == [f"{hash_}\t{url}/{hash_}\t{number:03}" for number, hash_ in enumerate(hashes)]


def test_nothing_is_replaced(url: str, tmp_path: Path) -> None:
    """An existing file is replaced only with --force."""
    run("put", "-", stdin=b"hello")
    (tmp_path / "x").write_text("old")
    assert run("get", HELLO, "-o", "x", status=1).stderr == "wsgi-store: x: already exists\n"
    run("get", HELLO, "-o", "x", "--force")
    assert (tmp_path / "x").read_text() == "hello"
    assert "directory" in run("get", HELLO, "-o", "no/x", status=1).stderr
    assert url


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["get", NONE], 3, f"no blob {NONE} in this store"),
        *(
            ([name, "../etc"], 2, "malformed hash '../etc'")
            for name in ("get", "cat", "stat", "rm", "link", "ticket")
        ),
        (["get", "--token", "writer", NONE], 4, "this needs the scope read"),
        (["ls", "--token", "reader"], 4, "this needs the scope list"),
        (["ls", "--token", "unknown-secret"], 4, "unknown token"),
        (["ls", "--token", "un printable-secret"], 2, "the token: expected printable ASCII"),
        (["ls", "--token-file", "nothing"], 1, "nothing: No such file or directory"),
        (["ls", "--url", "ftp://u:secret@x"], 2, "the URL of the server: expected http://"),
        (
            ["ls", "--url", "http://u:secret@127.0.0.1:1", "--retries", "0"],
            6,
            "http://127.0.0.1:1: Connection",
        ),
        (["put", "large"], 7, "large: the file is larger than 5000000 bytes"),
        (["ls", "--limit", "-1"], 2, "Invalid value"),
        (["ls", "--after", "x"], 1, "after: "),
        (["nonsense"], 2, "No such command"),
        (["put"], 2, "Missing argument"),
        (["link"], 2, "Missing argument"),
        (["link", HELLO, "--expires", "soon"], 2, "expected a time"),
        (["link", HELLO, "--keys-file", "short"], 2, "WSGI_STORE_SIGNING_KEYS: expected keys"),
        (["link", HELLO, "--max-size", "3"], 2, "No such option"),
        (["ticket", "--name", "x"], 2, "No such option"),
        (["ticket", "--keys-file", "none"], 2, "WSGI_STORE_SIGNING_KEYS: expected keys"),
        *((["ls", "--timeout", text], 2, "expected a") for text in ("0", "-1", "nan", "inf", "1e30", "10x")),
    ],
)
def test_failures(url: str, tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    """Each kind of error has an exit status and a message, and shows no secret."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(6_000_000)
    (tmp_path / "short").write_text("my-secret")
    (tmp_path / "none").write_text("none")
    result = run(*arguments, status=status)
    assert message in result.stderr
    assert "secret" not in result.stderr
    assert url


def test_lies(url: str, tmp_path: Path) -> None:
    """Damaged or hostile answers give an error status, and leave no file and no control characters."""
    false = reply(DATA[:-1] + b"x")
    bad = f"its bytes have the hash {hashlib.sha256(DATA[:-1] + b'x').hexdigest()}"
    with saying(false) as peer:
        result = run("get", HASH, "--url", peer.url, "-o", "x", status=5)
        assert result.stderr == f"wsgi-store: the copy of {HASH} on {peer.url} is damaged: {bad}\n"
        assert not os.listdir(tmp_path)
        assert run("get", HASH, "--url", peer.url, "-o", "-", status=5).stdout_bytes != DATA
    with saying(reply(b"", "302 Found", Location="http://x/\x1b[31m\x07")) as peer:
        result = run("ls", "--url", peer.url, status=9)
        assert result.stderr.strip().isprintable()
    assert url


@pytest.mark.parametrize("name", ["small", "large", "-"])
def test_a_server_that_lies(url: str, tmp_path: Path, name: str) -> None:
    """An upload fails if the server answers with another hash: for small files, large files and pipes."""
    data = b"hello" if name == "small" else DATA
    (tmp_path / name).write_bytes(data)
    lie = {"hash": NONE, "size": len(data), "created": True}
    answers = [] if name == "small" else [reply(b"", "404 Not Found")]  # does it have the file?
    with saying(*answers, reply(json.dumps(lie).encode())) as peer:
        result = run("put", "--url", peer.url, "--json", name, stdin=data, status=5)
    assert result.stdout == ""
    (failure,) = objects(result.stderr)
    hash_ = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert {**failure, "detail": ""} == {
        "code": "unexpected_digest",
        "detail": "",
        "expected": hash_,
        "actual": f"sha256:{NONE}",
        "path": name,
    }
    assert url


@pytest.mark.parametrize("text", ["10", "10s", "0.5m", "1h", "7d"])
def test_times(url: str, text: str) -> None:
    """Every option accepts the same notation of durations."""
    run("ls", "--timeout", text)
    run("link", HELLO, "--expires", text)
    assert url


def test_numbers() -> None:
    """Counts are written with the right plural."""
    assert [counted(number, "blob") for number in (0, 1, 2, 1000)] == [
        "0 blobs",
        "1 blob",
        "2 blobs",
        "1,000 blobs",
    ]
    assert str(errors.TooLarge(limit=1)) == "the file is larger than 1 byte"


def test_tokens(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token comes from an option, a file, the environment or .netrc."""
    monkeypatch.delenv("WSGI_STORE_TOKEN")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    run("ls", status=4)
    run("ls", "--token", "all")
    (tmp_path / "token").write_text("all\n")
    run("ls", "--token-file", "token")
    (tmp_path / "netrc").write_text("default login me password all\n")
    run("ls")
    monkeypatch.setenv("WSGI_STORE_TOKEN", "wrong")
    run("ls", status=4)
    run("ls", "--token-file", "token")
    assert url


def test_links(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links and tickets signed with a local key file work without a token."""
    run("put", "-", stdin=b"hello")
    monkeypatch.delenv("WSGI_STORE_TOKEN")
    monkeypatch.delenv("WSGI_STORE_SIGNING_KEYS")
    (tmp_path / "keys").write_text(f"{KEY}\n")
    keys = ("--keys-file", "keys")
    with Client(url) as client:
        pool = client._transport._pool  # pylint: disable=protected-access

        def ask(command: str, *arguments: str) -> int:
            signed = run(command, *keys, *arguments).stdout.strip()
            assert signed.startswith(f"{url}/")
            method, body = ("GET", None) if command == "link" else ("POST", b"more")
            return pool.request(method, signed.removeprefix(url), body=body).status

        assert ask("link", HELLO) == ask("link", HELLO, "--name", "ä /b.txt") == 200
        assert ask("link", HELLO, "--expires", "0s") == ask("ticket", "--expires", "0s") == 403
        assert ask("link", NONE) == 404
        assert ask("ticket") == 200
        assert ask("ticket", "--max-size", "3") == 413
        assert ask("ticket", HELLO) == 422


def test_what_cannot_be_read_stops_nothing(url: str, tmp_path: Path) -> None:
    """Each failing argument is reported, the others are uploaded, and the exit status is the highest."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(6_000_000)
    (tmp_path / "loop").symlink_to("loop")
    names = ["a", "gone", "large", "b", "loop", "a/below", "n" * 300, "c"]
    result = run("put", *names, status=7)
    assert [row.split("\t")[2] for row in result.stdout.splitlines()] == ["a", "b", "c"]
    told = [line.split(": ")[1] for line in result.stderr.splitlines()]
    assert told == ["gone", "large", "loop", "a/below", "n" * 300]
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in "abc"]
    result = run("rm", hashes[0], NONE, hashes[1], status=3)
    assert result.stdout.split() == hashes[:2] and NONE in result.stderr
    result = run("stat", NONE, hashes[2], status=3)
    assert result.stdout.startswith(hashes[2]) and NONE in result.stderr
    assert url


def test_a_file_that_vanishes(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that vanishes before it is opened is reported, and the others are uploaded."""
    for name in ("1", "2", "3"):
        (tmp_path / "d" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "d" / name).write_text(name)
    find = upload.find

    def found(*arguments: Any) -> Iterator[str]:
        for path in find(*arguments):
            if path == "d/2":
                os.unlink(path)
            yield path

    monkeypatch.setattr(upload, "find", found)
    result = run("put", "-r", "d", status=1)
    assert [row.split("\t")[2] for row in result.stdout.splitlines()] == ["d/1", "d/3"]
    assert result.stderr == "wsgi-store: d/2: No such file or directory\n"
    assert url


MANY = [f"f{number}" for number in range(100)]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--url", "http://127.0.0.1:1", "--retries", "0"], 6, "Connection refused"),
        (["--token", "unknown"], 4, "unknown token"),
        (["--url", "{url}/wrong"], 9, "/wrong/ answered 404: there is no store at http://"),
        (["--token", "lister"], 4, "this needs the scope"),
    ],
)
@pytest.mark.parametrize("command", ["put", "rm", "stat"])
def test_what_fails_for_all_is_told_once(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    url: str, tmp_path: Path, command: str, arguments: list[str], status: int, message: str
) -> None:
    """An unreachable server, an invalid token or a wrong prefix ends the run at once with one message."""
    things = MANY if command == "put" else [f"{number:064x}" for number in range(100)]
    for name in MANY:
        (tmp_path / name).write_text(name)
    result = run(command, *things, *(text.format(url=url) for text in arguments), status=status)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert message in line
    # The command does not wait for running uploads; each keeps its file open until it ends.
    until(
        lambda: not any(thread.name.startswith("ThreadPool") for thread in threading.enumerate()),
        "the uploads under way",
    )


@pytest.mark.parametrize("answer", [b"<html>", b"[1]", b'{"algorithm": "crc32"}'])
def test_what_is_no_store_is_told_once(url: str, tmp_path: Path, answer: bytes) -> None:
    """A server that is not wsgi_store is reported once, and not asked again for each file."""
    for name in MANY:
        (tmp_path / name).write_text(name)
    with saying(b"", index=answer) as peer:
        result = run("put", *MANY, "--url", peer.url, status=9)
        assert (
            result.stderr == f"wsgi-store: {peer.url} is not a wsgi_store server: its answer makes no sense\n"
        )
        assert len(peer.heads) == 1
    assert url


def test_a_failure_that_passes_for_one_of_all(url: str, tmp_path: Path) -> None:
    """If one file fails while the server still answers, the others are uploaded."""
    for name in ("1", "2"):
        (tmp_path / name).write_text(name * 500_000)
    hash_ = hashlib.sha256(b"2" * 500_000).hexdigest()
    # The answer to the question whether it is missing, and to the upload.
    two = {"missing": [hash_], "hash": hash_, "size": 500_000, "created": True}
    answers = [
        reply(b"", "502 Bad Gateway"),
        reply(json.dumps(two).encode()),
    ]
    with saying(*answers) as peer:
        result = run("put", "-j", "1", "1", "2", "--retries", "0", "--url", peer.url, status=6)
    assert result.stdout.endswith("\t2\n") and result.stderr.startswith("wsgi-store: 1: ")
    with saying(*answers[:1]) as peer:
        result = run("put", "-j", "1", "1", "2", "--retries", "0", "--url", peer.url, status=6)
    assert result.stdout == "" and result.stderr.count("\n") == 1
    assert url


def test_help() -> None:
    """Help describes every command and every exit status."""
    text = run("--help").stdout
    for exit_ in output.EXITS:
        assert f"{exit_.status}  " in text and exit_.meaning in text
    for name, (_, what) in COMMANDS.items():
        assert what in text
        assert "Usage: main " + name in CliRunner().invoke(main, [name, "--help"]).output
    assert "0.2.0" in run("--version").stdout


def test_every_failure_has_a_status() -> None:
    """Every error, remote or local, has an exit status from the table."""
    statuses = {exit_.status for exit_ in output.EXITS}
    assert len(statuses) == len(output.EXITS)
    for kind in (*errors.BY_CODE.values(), *errors.WSGIStoreError.__subclasses__(), OSError):
        assert output.status_of(kind("it failed")) in statuses - {0}
    assert output.status_of(errors.BlobNotFound(hash="x")) == 3
    assert output.status_of(OSError()) == 1


def test_progress_and_tables(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, progress bars go to standard error."""
    (tmp_path / "large").write_bytes(DATA)
    context = click.Context(upload.put)
    with context:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        shown = output.Output(["hash", "size"])
        assert shown.live
        with shown.progress() as bars:
            meter = progress.meter(bars.add("sending", SIZE).advance)
            for done in (SIZE // 2, 0, SIZE):
                meter(done)
    assert url


def test_names_that_steer(url: str, tmp_path: Path) -> None:
    """A file name cannot break an output line or control the terminal."""
    names = ["a\nb", "c\x1b[31m", os.fsdecode(b"\xff")]
    for name in names:
        (tmp_path / name).write_text(name, errors="surrogateescape")
    result = run("put", *names)
    assert len(result.stdout.splitlines()) == 3
    assert result.stdout.replace("\t", "").replace("\n", "").isprintable()
    rows = objects(run("put", "--json", *names).stdout)
    assert [row["path"] for row in rows] == names
    assert url


def test_the_script_is_installed() -> None:
    """The package installs the command."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"wsgi-store": "wsgi_store.cli.main:main"}
    extras = project["optional-dependencies"]
    assert set(extras["client"]) < set(extras["cli"]) < set(extras["test"])
