"""Folders by the command: what their trees say, and what differs."""

import os
import signal
import stat
from pathlib import Path
from random import Random

from tests.support.cli_service import fixture_server, fixture_url, invoke, objects, run
from tests.support.commands import environment, in_own_group, install, terminal
from tests.support.relay import Relay
from tests.support.servers import Server, until
from wsgi_store.client import Client
from wsgi_store.client.tree.entry import Entry, Kind
from wsgi_store.client.tree.format import write
from wsgi_store.digest import Algorithm

__all__ = ["fixture_server", "fixture_url"]  # imported for the tests that request them

HASH = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"
FILE = Entry("d/f", Kind.FILE, 0o640, 3, 1_700_000_000_123_456_789, Algorithm.SHA256.parse(HASH))
TREE = [
    Entry(".", Kind.DIRECTORY, 0o755),
    Entry("d", Kind.DIRECTORY, 0o700),
    FILE,
    Entry("l\n\udcff", Kind.LINK, 0o777, target="d/f"),
]


def stored(url: str, entries: list[Entry]) -> str:
    """Upload a tree; returns its hash."""
    with Client(url, "all") as client:
        return client.put(b"".join(write(entries))).hash


def test_a_listing(url: str) -> None:
    """`ls -r` prints what is in a folder, and with --json all that the tree says."""
    tree = stored(url, TREE)
    assert run("ls", "-r", tree).stdout.splitlines() == [
        "drwxr-xr-x\t\t\t.\t",
        "drwx------\t\t\td\t",
        f"-rw-r-----\t3\t{HASH}\td/f\t",
        "lrwxrwxrwx\t\t\tl\\n\\udcff\td/f",
    ]
    top, _, file, link = objects(run("ls", "--json", "--recursive", tree).stdout)
    assert top == {"path": ".", "kind": "dir", "mode": "0755", "permissions": "drwxr-xr-x"}
    assert (file["mode"], file["modified"], file["algorithm"]) == ("0640", FILE.modified, "sha256")
    assert (link["path"], link["target"]) == ("l\n\udcff", "d/f")
    assert stat.filemode(stat.S_IFREG | int(file["mode"], 8)) == file["permissions"]


def test_the_difference(url: str) -> None:
    """`diff` prints what differs, and ends with 1 if anything does."""
    more = Entry("d/g", Kind.DIRECTORY, 0o755)
    changed = Entry("d/f", Kind.FILE, 0o600, 3, FILE.modified, Algorithm.SHA256.parse("0" * 64))
    before, after = stored(url, TREE), stored(url, [TREE[0], TREE[1], changed, more])
    assert run("diff", before, before).stdout == ""
    arguments = ("diff", before, after)
    result = invoke(*arguments, status=1)
    assert result.stdout.splitlines() == ["M\td/f\tmode,content", "+\td/g\t", "-\tl\\n\\udcff\t"]
    assert result.stderr == ""
    first, second, third = objects(invoke(*arguments, "--json", status=1).stdout)
    assert (first["change"], first["what"]) == ("M", ["mode", "content"])
    assert (first["before"]["hash"], first["after"]["hash"]) == (HASH, "0" * 64)
    assert (second["change"], second["after"]["kind"], "before" in second) == ("+", "dir", False)
    assert (third["change"], third["before"]["target"], "after" in third) == ("-", "d/f", False)


def test_no_trees(url: str) -> None:
    """A blob that is no tree, a missing one and a bad hash are failures, never a difference."""
    tree = stored(url, TREE)
    with Client(url, "all") as client:
        other = client.put(b"no tree").hash
        cut = client.put(b"".join(write(TREE))[:-1]).hash
    missing = "0" * 64
    for hash_, status, told in (
        (other, 2, "line 1: this is no tree"),
        (cut, 2, "line 5: cut off"),
        (missing, 3, "no blob"),
        ("xyz", 2, "malformed hash"),
    ):
        assert told in run("ls", "-r", hash_, status=status).stderr
        assert told in run("diff", tree, hash_, status=status).stderr
        assert told in run("diff", hash_, tree, status=status).stderr
    assert objects(run("diff", "--json", tree, other, status=2).stderr)[0]["line"] == 1
    assert "not/there" in run("diff", tree, tree, "--token-file", "not/there", status=2).stderr
    assert run("diff", tree, tree, "--token", "writer", status=4).stdout == ""
    assert "one tree" in run("ls", "-r", tree, "--limit", "5", status=2).stderr


def test_put_tree(url: str, tmp_path: Path) -> None:
    """`put -r --tree` prints the tree of a folder as `put` prints a file, and sends only what is new."""
    top = tmp_path / "a folder"
    (top / "cache").mkdir(parents=True)
    for name in ("x", "y", "z.pyc", "cache/c"):
        (top / name).write_text(name)
    arguments = ("put", "-r", "--tree", "a folder", "--exclude", "*.pyc", "--exclude", "cache/")
    result = invoke(*arguments)
    assert result.stderr == "wsgi-store: a folder: 2 files, 2 sent\n"
    hash_, address, path = result.stdout.rstrip("\n").split("\t")
    assert (address, path) == (f"{url}/{hash_}", "a folder")
    assert [row.split("\t")[3] for row in run("ls", "-r", hash_).stdout.splitlines()] == [".", "x", "y"]
    (row,) = objects(run(*arguments, "--json").stdout)
    assert (row["hash"], row["files"], row["sent"], row["created"]) == (hash_, 2, 0, False)
    (top / "x").chmod(0o600)
    (after,) = objects(run(*arguments, "--json").stdout)
    assert run("put", "-q", "-r", "--tree", "a folder").stdout == ""
    assert objects(invoke("diff", "--json", hash_, after["hash"], status=1).stdout)[0]["what"] == ["mode"]


def test_what_is_left_out_is_named(url: str, tmp_path: Path) -> None:
    """A pipe is no failure, but the command says that it left it out."""
    os.mkfifo(tmp_path / "pipe")
    result = invoke("put", "-r", "--tree", str(tmp_path))
    assert "pipe: neither a file, a directory nor a link: the tree leaves it out\n" in result.stderr
    assert len(run("ls", "-r", result.stdout.split("\t")[0]).stdout.splitlines()) == 1
    assert url


def test_no_tree_after_a_failure(url: str, tmp_path: Path) -> None:
    """The first file that fails is named, and no tree is printed or stored."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "a").write_bytes(b"a")
    (top / "large").write_bytes(bytes(6_000_000))
    result = run("put", "-r", "--tree", "top", status=7)
    assert result.stdout == ""
    assert result.stderr.startswith("wsgi-store: top/large: ")
    (failure,) = objects(run("put", "-r", "--tree", "top", "--json", status=7).stderr)
    assert (failure["code"], failure["path"]) == ("too_large", "top/large")
    assert len(run("ls").stdout.splitlines()) <= 1
    (top / "large").unlink()
    os.symlink("large", tmp_path / "nowhere")
    for arguments in (
        ("--tree", "top"),
        ("-r", "--tree", "top/a"),
        ("-r", "--tree", "nowhere"),
        ("-r", "--tree", "top", "top"),
        ("-r", "--tree", "-n", "top"),
        ("-r", "--tree", "--hash", HASH, "top"),
    ):
        assert (
            "--tree is for one directory" in run("put", *arguments, status=2).stderr or "--hash" in arguments
        )
    assert run("put", "-r", "--tree", "top", "--token", "reader", status=4).stdout == ""
    assert invoke("put", "-r", "--tree", "top", "--token", "writer").stdout
    assert url


def test_interrupted(url: str, server: Server, tmp_path: Path) -> None:
    """Ctrl-C ends an upload of a folder at once, and the next start sends only the rest."""
    program = install(tmp_path / "here")
    (program.parent / "d").mkdir()
    for name in range(40):
        (program.parent / "d" / f"{name:02}").write_bytes(Random(name).randbytes(300_000))
    with Relay(server.port, 1_000_000) as relay:
        command = (program, "put", "-r", "--tree", "d", "--url", relay.url, "--token", "all")
        with in_own_group(program.parent, *command) as process:
            until(lambda: relay.carried > 3_000_000, "the first files")
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert err == b"wsgi-store: interrupted: start the command again to continue where it stopped\n"
    os.chdir(program.parent)
    (row,) = objects(run("put", "-r", "--tree", "d", "--json").stdout)
    assert row["files"] == 40 and 0 < row["sent"] < 40
    assert url


def test_a_reader_that_goes(url: str, tmp_path: Path) -> None:
    """`diff` whose output nobody reads ends as any command does."""
    many = [TREE[0], *(Entry(f"{number:06}", Kind.DIRECTORY, 0o755) for number in range(20_000))]
    before, after = stored(url, TREE), stored(url, many)
    program = install(tmp_path / "bin")
    reading, writing = os.pipe()
    pid = os.posix_spawn(
        program,
        [str(program), "diff", before, after, "--url", url, "--token", "all"],
        environment(tmp_path),
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, reading)],
    )
    os.close(writing)
    assert os.read(reading, 1) == b"+"
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 141


def test_a_table(url: str, tmp_path: Path) -> None:
    """On a terminal a listing is a table."""
    tree = stored(url, TREE)
    lines = terminal(install(tmp_path), "ls", "-r", tree, "--url", url, "--token", "all").splitlines()
    assert lines[0].split() == ["permissions", "size", "hash", "path", "target"]
    assert [line.split()[0] for line in lines[1:]] == ["drwxr-xr-x", "drwx------", "-rw-r-----", "lrwxrwxrwx"]
    assert "3 bytes" in lines[3]
