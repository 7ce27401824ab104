"""Folders that come back by the command."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli_service import fixture_server, fixture_url, objects, run
from tests.support.restoring import File, Folder, Link, expected, found, put_tree
from wsgi_store.client import Client

__all__ = ["fixture_server", "fixture_url"]  # imported for the tests that request them
ODD = "sub/\x1b]0;title\x07\n\udcff"
THINGS = {"file": File(b"hello"), ODD: File(b"odd"), "link": Link("file"), "closed": Folder(0o500)}


@pytest.fixture(name="client")
def fixture_client(url: str) -> Iterator[Client]:
    """A client of the service."""
    with Client(url, "all") as client:
        yield client


def test_a_folder(client: Client, tmp_path: Path) -> None:
    """The folder comes back; the command says how much it did."""
    tree = put_tree(client, THINGS)
    assert run("get", "-r", tree, "new").stdout == "6 entries restored, 0 already there\n"
    assert found(tmp_path / "new") == expected(THINGS)
    assert run("get", "-r", client.url(tree.upper()), "new").stdout == "0 entries restored, 6 already there\n"
    assert run("get", "-r", tree, "new", "--quiet").stdout == ""


def test_for_programs(client: Client) -> None:
    """With --json each entry is an object, and the last one counts them."""
    tree = put_tree(client, THINGS)
    *rows, counts = objects(run("get", "--json", "-r", tree, "new").stdout)
    assert counts == {"written": 6, "there": 0, "failed": 0}
    by_path = {row.pop("path"): row for row in rows}
    assert by_path.keys() == {".", "sub", *THINGS}
    assert by_path["link"] == {"kind": "link", "written": True, "failed": False, "target": "file"}
    file = by_path["file"]
    assert (file["kind"], file["size"], len(file["hash"])) == ("file", 5, 64)


def test_failures(client: Client, tmp_path: Path) -> None:
    """Failures are lines without control characters, the rest is restored, and the status is the highest."""
    tree = put_tree(client, {**THINGS, "out\x1b[2J": Link("../\x1b[31m"), "gone": File(b"gone")})
    client.delete(client.put(b"gone").hash)
    (tmp_path / "new" / ODD).mkdir(parents=True)
    result = run("get", "-r", tree, "new", status=3)
    assert result.stdout == "3 entries restored, 2 already there, 3 failed\n"
    assert re.fullmatch(
        r"wsgi-store: new/gone: no blob [0-9a-f]{64} of 4 bytes in this store\n"
        r"wsgi-store: new/sub/\\x1b\]0;title\\x07\\n\\udcff: a directory is in the way\n"
        r"wsgi-store: new/out\\x1b\[2J: leads out of the directory, to '\.\./\\x1b\[31m'\n",
        "".join(sorted(result.stderr.splitlines(keepends=True), key=lambda line: "out" in line)),
    )
    told = objects(run("get", "--json", "-r", tree, "new", status=3).stderr)
    assert sorted(one["code"] for one in told) == ["blob_not_found", "os_error", "outward_link"]
    assert not run("get", "-r", tree, "again", "--outward-links", status=3).stderr.count("leads out")
    assert os.readlink("again/out\x1b[2J") == "../\x1b[31m"


def test_what_ends_the_command(client: Client, tmp_path: Path) -> None:
    """Without the tree, or without a right, nothing is made."""
    tree = put_tree(client, THINGS)
    assert "no blob" in run("get", "-r", "0" * 64, "new", status=3).stderr
    assert "this is no tree" in run("get", "-r", client.put(b"no tree").hash, "new", status=2).stderr
    assert "the scope read" in run("get", "-r", "--token", "writer", tree, "new", status=4).stderr
    assert "malformed" in run("get", "-r", "x", "new", status=2).stderr
    assert (
        run("get", "-r", tree, "no/new", status=1).stderr == "wsgi-store: no/new: No such file or directory\n"
    )
    (tmp_path / "file").touch()
    assert run("get", "-r", tree, "file", status=1).stderr == "wsgi-store: file: Not a directory\n"
    assert os.listdir() == ["file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-r", "0" * 64],
        ["-r", "0" * 64, "new", "more"],
        ["-r", "-", "new"],
        ["-r", "0" * 64, "new", "-f"],
        ["-r", "0" * 64, "new", "-o", "new"],
        ["--outward-links", "0" * 64],
    ],
)
def test_arguments_that_do_not_fit(url: str, arguments: list[str]) -> None:
    """The command says what fits."""
    assert "-r" in run("get", *arguments, status=2).stderr and url
