"""Downloads by the command: by hash, URL or link, one or many, to files, directories and pipes."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.support.access import KEY
from tests.support.cli_service import fixture_server, fixture_url, objects, run
from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import reply, saying
from tests.support.servers import Server
from wsgi_store.client import Client

__all__ = ["fixture_server", "fixture_url"]  # imported for the tests that request them
HELLO = hashlib.sha256(b"hello").hexdigest()
NONE = "0" * 64


@pytest.fixture(name="there", autouse=True)
def fixture_there(url: str) -> str:
    """Two blobs."""
    run("put", "-", stdin=b"hello")
    run("put", "-", stdin=DATA)
    return url


def test_by_url(url: str, tmp_path: Path) -> None:
    """A URL printed by `put`, `stat` or `link` can be used in place of a hash."""
    assert run("get", f"{url}/{HELLO}").stdout == f"{HELLO}\n"
    assert run("get", f"{url}/{HELLO.upper()}/report.txt").stdout == "report.txt\n"
    assert (tmp_path / "report.txt").read_text() == "hello"
    assert run("cat", f"{url}/{HELLO}/x?y=z#part").stdout == "hello"
    assert run("stat", f"{url}/{HELLO}").stdout.startswith(HELLO)
    assert run("rm", f"{url}/{HELLO}").stdout == f"{HELLO}\n"


def test_by_a_signed_link(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signed link works without a token or WSGI_STORE_URL, and resumes a partial download."""
    plain = run("link", HASH).stdout.strip()
    named = run("link", HASH, "--name", "ä b.bin").stdout.strip()
    for name in ("TOKEN", "URL"):
        monkeypatch.delenv(f"WSGI_STORE_{name}")
    assert run("get", plain).stdout == f"{HASH}\n"
    (tmp_path / "ä b.bin.part").write_bytes(DATA[:1000])
    assert run("get", named).stdout == "ä b.bin\n"
    assert (tmp_path / "ä b.bin").read_bytes() == DATA
    assert run("cat", plain).stdout_bytes == DATA
    assert run("stat", plain).stdout.startswith(HASH)
    # The signature never appears in a message.
    forged = run("get", plain.replace("link=", "link=secret"), "-o", "x", status=4)
    assert "secret" not in forged.stderr
    assert url and KEY


def test_a_token_stays_with_its_server(url: str, tmp_path: Path) -> None:
    """The token is not sent to another server named by a URL."""
    with saying(reply(DATA)) as other:
        run("get", f"{other.url}/{HASH}", f"{url}/{HELLO}")
        assert other.heads and not any("authorization" in head.lower() for head in other.heads)
    assert sorted(os.listdir(tmp_path)) == sorted([HASH, HELLO])


def test_into_a_directory(url: str, tmp_path: Path) -> None:
    """-o may name a directory, and must do so for several blobs."""
    (tmp_path / "d").mkdir()
    assert run("get", HELLO, "-o", "d").stdout == f"d/{HELLO}\n"
    assert run("get", HASH, f"{url}/{HELLO}/a.txt", "-o", "d/").stdout == f"d/{HASH}\nd/a.txt\n"
    assert (tmp_path / "d" / "a.txt").read_text() == "hello"
    assert "name a directory" in run("get", HASH, HELLO, "-o", "file", status=2).stderr
    assert "No such file or directory" in run("get", HASH, "-o", "no/", status=1).stderr
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("name", ["..", ".hidden", "%2e%2e%2fup", "a%2Fb", "%00"])
def test_a_name_that_leads_elsewhere(url: str, tmp_path: Path, name: str) -> None:
    """A name in a URL cannot lead to another directory or create a hidden file."""
    run("get", f"{url}/{HELLO}/{name}")
    assert os.listdir(tmp_path) == [HELLO]


def test_a_list(url: str, tmp_path: Path) -> None:
    """The argument - reads a list in the format that other commands print; duplicates are written once."""
    for name in ("1", "2"):
        (tmp_path / name).write_text(name)
    printed = run("put", "1", "2", "1").stdout
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in "12"]
    (tmp_path / "out").mkdir()
    done = run("get", "-", "-o", "out", stdin=f"\n{printed}".encode())
    assert done.stdout.split() == [f"out/{hash_}" for hash_ in hashes]
    listing = run("ls", "--json").stdout
    assert len(objects(listing)) == 4
    assert len(run("get", "-", stdin=listing.encode()).stdout.splitlines()) == 4
    links = "".join(run("link", hash_).stdout for hash_ in hashes)
    assert run("cat", "-", stdin=links.encode()).stdout == "12"
    assert run("stat", "-", stdin=printed.encode()).stdout.count("\n") == 3
    assert run("rm", "-", stdin="\n".join(hashes).encode()).stdout.split() == hashes
    assert run("get", "-", stdin=b"").stdout == ""
    assert url


def test_one_that_fails_stops_none(url: str, tmp_path: Path) -> None:
    """Each failure is reported, and the other blobs are downloaded."""
    (tmp_path / HELLO).write_text("old")
    done = run("get", "nonsense", NONE, HELLO, HASH, "-", status=3, stdin=b"{broken\n")
    assert done.stdout == f"{HASH}\n"
    first, *others = done.stderr.splitlines()
    assert "malformed hash 'nonsense'" in first
    assert sorted(others) == sorted(
        [
            "wsgi-store: malformed hash '{broken': expected the 32, 40, 64 or 128 hexadecimal digits of a "
            "hash",
            f"wsgi-store: no blob {NONE} in this store",
            f"wsgi-store: {HELLO}: already exists",
        ]
    )
    assert run("cat", NONE, HELLO, status=3).stdout == "hello"
    assert url


def test_no_server_is_asked_for_nonsense(url: str) -> None:
    """A malformed hash is rejected before any request."""
    with saying(b"") as peer:
        for command in ("get", "cat", "stat", "rm"):
            for text in ("x", HELLO[:-1], f"{HELLO}0", "http://a/b", f"ftp://a/{HELLO}", f"{HELLO} "):
                done = run(command, text, "--url", peer.url, status=2)
                assert "malformed hash" in done.stderr
        assert not peer.heads
    assert url


def test_a_hash_of_another_algorithm(url: str) -> None:
    """A hash by an algorithm that the server does not keep is no blob; the message names those it keeps."""
    for command in ("get", "cat", "stat", "rm"):
        (failure,) = objects(run(command, "--json", "0" * 32, status=3).stderr)
        assert (failure["code"], failure["hash"], failure["algorithms"]) == (
            "blob_not_found",
            "0" * 32,
            ["sha256"],
        )
        assert failure["detail"] == f"no blob {'0' * 32} in this store: its hashes are of sha256"
    assert url


def test_a_damaged_copy(url: str, server: Server, tmp_path: Path) -> None:
    """A damaged or truncated blob is reported as damaged, with its actual hash."""
    path = server.root / HASH[:2] / HASH
    for data in (DATA[:-1] + b"?", DATA[:1000]):
        path.chmod(0o644)
        path.write_bytes(data)
        for arguments in (["get", HASH], ["cat", HASH]):
            done = run(*arguments, status=5)
            actual = hashlib.sha256(data).hexdigest()
            damaged = f"the copy of {HASH} on {url} is damaged: its bytes have the hash {actual}"
            assert done.stderr == f"wsgi-store: {damaged}\n"
        assert os.listdir(tmp_path) == []
    run("put", "-", stdin=DATA)
    run("get", HASH)


def test_to_a_stream(url: str, tmp_path: Path) -> None:
    """Output to a device or a pipe is written directly, because a file cannot replace it."""
    assert run("get", HASH, "-o", "/dev/null").stdout == ""
    assert run("get", HASH, HELLO, "-o", "-").stdout_bytes == DATA + b"hello"
    assert os.path.exists("/dev/null") and not os.listdir(tmp_path)
    assert url


def test_json_of_several(url: str) -> None:
    """With --json, each file is an object with its path."""
    rows = objects(run("get", "--json", HASH, HELLO).stdout)
    assert rows == [
        {"path": hash_, "hash": hash_, "size": size, "url": f"{url}/{hash_}", "names": {"sha256": hash_}}
        for hash_, size in ((HASH, SIZE), (HELLO, 5))
    ]
    assert json.dumps(rows)


def test_from_python(url: str, tmp_path: Path) -> None:
    """The Python client accepts URLs and links of its own server, and rejects those of others."""
    link = run("link", HELLO, "--name", "a.txt").stdout.strip()
    with Client(url) as client:
        client.get(link, tmp_path / "file")
        with client.open(link) as download:
            assert download.read() == b"hello"
        assert client.stat(link).size == 5
        with pytest.raises(Exception, match="is another server than"):
            client.open(f"http://127.0.0.1:1/{HELLO}")
