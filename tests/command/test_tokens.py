"""The commands that change the token file, and a server that reads it."""

import hashlib
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.commands import install, run
from tests.support.servers import gunicorn
from wsgi_store.access.tokens import Tokens
from wsgi_store.cli.main import main
from wsgi_store.client import Client
from wsgi_store.errors import Denied, Unauthenticated


@pytest.fixture(name="file")
def fixture_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the token file, set in the environment."""
    path = tmp_path / "tokens"
    monkeypatch.setenv("WSGI_STORE_TOKENS", str(path))
    return path


def token(*arguments: str, status: int = 0) -> Result:
    """Run a command of `token`."""
    result = CliRunner().invoke(main, ["token", *arguments])
    assert result.exit_code == status, (result.output, result.exception)
    return result


def sha256(text: str) -> str:
    """The hash of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_running_server(tmp_path: Path) -> None:
    """A running server accepts a new token and rejects a revoked one from the next request on."""
    program = install(tmp_path)
    env = {"WSGI_STORE_TOKENS": str(tmp_path / "tokens")}
    first = run(program, "token", "add", "ci", "--scope", "read", "--scope", "write", **env)
    assert (first.returncode, first.stderr) == (0, b"")
    with gunicorn(tmp_path, **env) as server:

        def client(token: bytes) -> Client:
            return Client(f"http://127.0.0.1:{server.port}", token.decode().strip(), retries=0)

        with client(first.stdout) as ci:
            hash_ = ci.put(b"hello").hash
            with pytest.raises(Denied):
                ci.delete(hash_)
            admin = run(program, "token", "add", "admin", "--scope", "delete", **env)
            with client(admin.stdout) as other:
                other.delete(hash_)
            assert ci.put(b"hello").created
            assert run(program, "token", "revoke", "ci", **env).returncode == 0
            with pytest.raises(Unauthenticated):
                ci.put(b"hello")
        assert run(program, "token", "list", **env).stdout == b"admin\tdelete\n"


def test_the_file(file: Path) -> None:
    """The token file holds only hashes, is private to its owner, and keeps its other content."""
    made = token("add", "ci", "--scope", "write", "--scope", "read").stdout.strip()
    assert file.read_text() == f"ci read,write {sha256(made)}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"# ours \xff\r\n\n" + file.read_bytes().strip() + b" # of the build")
    file.chmod(0o640)
    other = token("add", "other", "--scope", "admin").stdout.strip()
    head = b"# ours \xff\r\n\n"
    assert file.read_bytes() == head + (
        f"ci read,write {sha256(made)} # of the build\nother admin {sha256(other)}\n".encode()
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    again = token("add", "ci", "--scope", "list", "--replace").stdout.strip()
    assert again != made
    tail = f"other admin {sha256(other)}\n".encode()
    assert file.read_bytes() == head + f"ci list {sha256(again)} # of the build\n".encode() + tail
    assert token("list").stdout == "ci\tlist\nother\tadmin\n"
    assert [json.loads(row) for row in token("list", "--json").stdout.splitlines()] == [
        {"name": "ci", "scopes": ["list"]},
        {"name": "other", "scopes": ["admin"]},
    ]
    assert json.loads(token("revoke", "--json", "ci").stdout) == {"name": "ci"}
    assert file.read_bytes() == head + tail
    assert os.listdir(file.parent) == [file.name]


def test_a_key(file: Path) -> None:
    """A key of Nostr is kept as it is, in lower case, beside the tokens, and is no token itself."""
    key = "AB" * 32
    assert token("add", "me", "--scope", "write", "--nostr", key).stdout == f"{key.lower()}\n"
    made = token("add", "ci", "--scope", "read").stdout.strip()
    assert file.read_text() == f"me write nostr:{key.lower()}\nci read {sha256(made)}\n"
    assert token("list").stdout == "me\twrite\nci\tread\n"
    assert [json.loads(row) for row in token("list", "--json").stdout.splitlines()] == [
        {"name": "me", "scopes": ["write"], "nostr": key.lower()},
        {"name": "ci", "scopes": ["read"]},
    ]
    tokens = Tokens(str(file))
    granted = tokens.find_key(key.lower())
    assert granted is not None and granted.name == "me"
    for other in (key, f"nostr:{key.lower()}", sha256(made), ""):
        assert tokens.find_key(other) is None
    for text in (key, key.lower(), f"nostr:{key.lower()}"):
        assert tokens.find(text.encode()) is None
    # One that is replaced keeps its place, as a token does.
    told = token("add", "me", "--scope", "read", "--nostr", "cd" * 32, "--replace", "--json").stdout
    assert json.loads(told) == {"nostr": "cd" * 32, "name": "me", "scopes": ["read"]}
    assert tokens.find_key(key.lower()) is None
    token("revoke", "me")
    assert tokens.find_key("cd" * 32) is None


def test_a_name_that_is_there(file: Path) -> None:
    """An existing token is replaced only with --replace, which removes all lines of that name."""
    text = f"# a\nci read {sha256('a')}\nci write {sha256('b')}\n"
    file.write_text(text)
    assert "--replace" in token("add", "ci", "--scope", "read", status=2).stderr
    assert file.read_text() == text
    made = token("add", "ci", "--scope", "read", "--replace").stdout.strip()
    assert file.read_text() == f"# a\nci read {sha256(made)}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "ci"],
        ["add", "ci", "--scope", "root"],
        ["add", "two words", "--scope", "read"],
        ["add", "#", "--scope", "read"],
        ["add", "", "--scope", "read"],
        [
            "add",
            "ci",
            "--scope",
            "read",
            "--nostr",
            "npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9",
        ],
        ["add", "ci", "--scope", "read", "--nostr", "nostr:" + "a" * 64],
        ["add", "ci", "--scope", "read", "--nostr", ""],
        ["revoke", "nobody"],
    ],
)
def test_what_is_refused(file: Path, arguments: list[str]) -> None:
    """Invalid arguments change nothing."""
    assert token(*arguments, status=2).stdout == ""
    assert not file.exists()


def test_a_file_with_a_bad_line(file: Path) -> None:
    """If a line is invalid, adding and listing name that line and fail; revoking still works."""
    text = f"ci read nonsense\nother read {sha256('a')}\n"
    file.write_text(text)
    for arguments in (["add", "x", "--scope", "read"], ["list"]):
        assert "line 1: expected a name" in token(*arguments, status=2).stderr
    assert file.read_text() == text
    token("revoke", "other")
    assert file.read_text() == "ci read nonsense\n"
    token("revoke", "ci")
    assert file.read_text() == "# no tokens\n"


def test_no_file_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token file, the command asks for WSGI_STORE_TOKENS."""
    monkeypatch.delenv("WSGI_STORE_TOKENS", raising=False)
    assert "WSGI_STORE_TOKENS" in token("add", "ci", "--scope", "read", status=2).stderr


def test_a_directory_that_cannot_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed change leaves the token file unchanged, leaves no temporary file and prints no token."""
    token("add", "ci", "--scope", "read")
    before = file.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, f"No space left on device {fd}")

    monkeypatch.setattr(os, "fsync", full)
    result = token("add", "other", "--scope", "read", status=7)
    assert (result.stdout, file.read_bytes(), os.listdir(file.parent)) == ("", before, [file.name])


def test_a_link(file: Path) -> None:
    """A change through a symbolic link changes the target and keeps the link."""
    (file.parent / "real").touch()
    file.symlink_to("real")
    token("add", "ci", "--scope", "read")
    assert file.is_symlink()
    assert token("list").stdout == "ci\tread\n"


def test_two_at_once(tmp_path: Path) -> None:
    """Simultaneous changes are all kept."""
    program = install(tmp_path)
    file = str(tmp_path / "tokens")
    threads = [
        threading.Thread(
            target=run, args=(program, "token", "add", f"t{number}", "--scope", "read", "--file", file)
        )
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Tokens(file)
    listed = run(program, "token", "list", "--file", file).stdout.decode()
    assert sorted(listed.splitlines()) == [f"t{number}\tread" for number in range(6)]
