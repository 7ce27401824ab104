"""The command with a server that keeps several names of a blob, or is migrated while the command runs."""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from urllib3 import request

from tests.support.access import KEY, line
from tests.support.cli_service import objects, run
from tests.support.exchanges import DATA, SIZE
from tests.support.servers import Server, gunicorn
from wsgi_store.cli import upload
from wsgi_store.cli.main import main
from wsgi_store.client import Client
from wsgi_store.digest import Algorithm
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.marker import Marker
from wsgi_store.testing.helpers import COLLIDING

MD5, SHA256 = Algorithm.MD5, Algorithm.SHA256
PRIMARY, HASH = (hashlib.new(one, DATA).hexdigest() for one in ("sha256", "md5"))
NAMES = {"sha256": PRIMARY, "md5": HASH}
# Appended to both files of a pair with one md5, it leaves their md5 equal; a file of this size is sent alone.
LARGE = bytes(1 << 20)


@pytest.fixture(name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose store names its blobs by sha256 and md5."""
    directory = tmp_path_factory.mktemp("named")
    LocalStore(str(directory / "store"), SHA256, names=[MD5])
    (directory / "tokens").write_text(line("all", "read,write,delete,list"), encoding="ascii")
    settings = {"HASH": "sha256", "SIGNING_KEYS": KEY, "TOKENS": str(directory / "tokens")}
    with gunicorn(directory, **{f"WSGI_STORE_{name}": value for name, value in settings.items()}) as server:
        yield server


@pytest.fixture(name="old")
def fixture_old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with md5."""
    with gunicorn(tmp_path_factory.mktemp("old"), WSGI_STORE_HASH="md5") as server:
        yield server


def here(server: Server, monkeypatch: pytest.MonkeyPatch, directory: Path) -> str:
    """Make a service the one of the command, which then runs in this directory; returns its URL."""
    url = f"http://127.0.0.1:{server.port}"
    monkeypatch.setenv("WSGI_STORE_URL", url)
    monkeypatch.setenv("WSGI_STORE_TOKEN", "all")
    monkeypatch.setenv("WSGI_STORE_SIGNING_KEYS", KEY)
    monkeypatch.chdir(directory)
    return url


def test_the_way_of_a_file(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command takes any name of a blob, and tells the names with --json."""
    url = here(server, monkeypatch, tmp_path)
    (tmp_path / "large").write_bytes(DATA)
    assert run("put", "large").stdout == f"{PRIMARY}\t{url}/{PRIMARY}\tlarge\n"
    for hash_ in NAMES.values():
        assert run("stat", hash_).stdout == f"{hash_}\t{SIZE}\t{url}/{hash_}\n"
        (told,) = objects(run("stat", "--json", hash_).stdout)
        assert told["names"] == {"sha256": PRIMARY, **({"md5": HASH} if hash_ == HASH else {})}
        assert run("get", hash_, f"{url}/{hash_}/x").stdout == f"{hash_}\nx\n"
        assert (tmp_path / hash_).read_bytes() == (tmp_path / "x").read_bytes() == DATA
        os.unlink(tmp_path / "x")
        assert run("cat", run("link", hash_).stdout.strip()).stdout_bytes == DATA
        (told,) = objects(run("ls", "--json", "--after", "0" * len(hash_)).stdout)
        assert (told["hash"], told["names"]["sha256"]) == (hash_, PRIMARY)
        (told,) = objects(run("put", "--json", "-f", "large").stdout)
        assert (told["hash"], told["names"], told["created"]) == (PRIMARY, NAMES, False)
        assert objects(run("rm", "--json", hash_).stdout)[0]["names"]["sha256"] == PRIMARY
        assert objects(run("put", "--json", "--hash", hash_, "large").stdout)[0]["created"] is True
    failure = objects(run("stat", "--json", "0" * 40, status=3).stderr)[0]
    assert failure["algorithms"] == ["sha256", "md5"]


def test_a_hash_to_have(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --hash, a file that lacks it is refused before it is sent, and standard input by the server."""
    here(server, monkeypatch, tmp_path)
    for name, data in (("large", DATA), ("small", b"hello")):
        (tmp_path / name).write_bytes(data)
        for algorithm in ("md5", "sha256"):
            hash_ = hashlib.new(algorithm, data).hexdigest()
            assert objects(run("put", "--json", "--hash", hash_.upper(), name).stdout)[0]["size"] == len(data)
            assert run("put", "-n", "--hash", hash_, name).stdout
            assert run("put", "--hash", hash_, "-", stdin=data).stdout
            false = "0" * len(hash_)
            puts = len(server.logged(f"PUT /{false}"))
            (told,) = objects(run("put", "--json", "--hash", false, name, status=5).stderr)
            assert (told["code"], told["expected"]) == ("digest_mismatch", f"{algorithm}:{false}")
            assert len(server.logged(f"PUT /{false}")) == puts
            run("put", "--hash", false, "-", stdin=data, status=5)
    assert len(run("ls").stdout.splitlines()) == 2
    for malformed in ("x", "0" * 40):
        assert (
            "is not a sha256 or md5 digest in hex"
            in run("put", "--hash", malformed, "small", status=2).stderr
        )
    for arguments in (["small", "large"], ["-r", "."]):
        assert "--hash is for one file" in run("put", "--hash", HASH, *arguments, status=2).stderr


def test_a_ticket_for_one_hash(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket is for a file with a hash by any algorithm, which POST and PUT upload."""
    url = here(server, monkeypatch, tmp_path)
    for hash_ in NAMES.values():
        for method in ("POST", "PUT"):
            signed = run("ticket", hash_).stdout.strip()
            assert request(method, signed, body=b"other").status == 422
            assert request(method, signed, body=DATA).json()["hash"] == PRIMARY
            assert request(method, signed, body=DATA).status == 403
            assert run("rm", hash_).stdout == f"{hash_}\n"
        signed = run("ticket", hash_).stdout.strip().replace(f"{url}/?", f"{url}/{hash_}?")
        assert request("PUT", signed, body=DATA).status == 201
        run("rm", hash_)


def test_two_files_with_one_md5(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are stored, and the command says which of them their md5 does not lead to."""
    here(server, monkeypatch, tmp_path)
    for name, data in zip(("a", "b"), COLLIDING, strict=True):
        (tmp_path / name).write_bytes(data)
    done = CliRunner().invoke(main, ["put", "-j", "1", "a", "b"])
    assert not done.exit_code
    first, second = (hashlib.sha256(data).hexdigest() for data in COLLIDING)
    assert [row.split("\t")[0] for row in done.stdout.splitlines()] == [first, second]
    assert done.stderr == "wsgi-store: b: stored; its md5 hash leads to a different file\n"
    sent = run("put", "--force", "--json", "a", "b").stdout
    assert [row["ambiguous"] for row in objects(sent)] == [[], ["md5"]]
    hash_ = hashlib.md5(COLLIDING[1]).hexdigest()
    assert run("cat", hash_).stdout_bytes == COLLIDING[0]
    (failure,) = objects(run("put", "--json", "--hash", hash_, "b", status=5).stderr)
    assert failure["code"] == "digest_collision"


@pytest.mark.parametrize("more", [b"", LARGE], ids=["small", "large"])
def test_a_migration_between_two_files(
    old: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    """After a migration, a file is not taken for another one with the same md5."""
    here(old, monkeypatch, tmp_path)
    for name, data in zip(("a", "b", "c"), (*COLLIDING, b"third"), strict=True):
        (tmp_path / name).write_bytes(data + more)
    url = os.environ["WSGI_STORE_URL"]
    first = run("put", "a").stdout.split()[0]
    find = upload.find

    def migrated(*arguments: Any) -> Iterator[str]:
        """Migrate the store while the command knows the old algorithm."""
        store = LocalStore(str(old.root), None)
        store.change_marker(lambda _: Marker(SHA256, (MD5,), MD5, time.time(), 1.0))
        with Client(url) as other:
            other.put(tmp_path / "a")  # gives it its primary name
        yield from find(*arguments)

    monkeypatch.setattr(upload, "find", migrated)
    rows = objects(run("put", "--json", "b", "c").stdout)
    assert [row["hash"] for row in rows] == [
        hashlib.sha256(data + more).hexdigest() for data in (COLLIDING[1], b"third")
    ]
    assert [(row["created"], row["ambiguous"]) for row in rows] == [(True, ["md5"]), (True, [])]
    assert run("cat", rows[0]["hash"]).stdout_bytes == COLLIDING[1] + more
    assert run("cat", first).stdout_bytes == COLLIDING[0] + more


def test_without_the_package_blake3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs to hash ends at once with a line that names the extra; the rest works."""
    (tmp_path / "here").mkdir()
    with gunicorn(tmp_path, WSGI_STORE_HASH="blake3") as blake3:
        here(blake3, monkeypatch, tmp_path / "here")
        hash_ = run("put", "-", stdin=b"hello").stdout.split()[0]
        monkeypatch.setitem(sys.modules, "blake3", None)
        said = "wsgi-store: blake3 needs the package blake3: install the extra blake3 (docs/deployment.md)\n"
        for name in ("a", "b"):
            (tmp_path / "here" / name).write_text(name)
        for arguments in (["put", "a", "b"], ["get", hash_, f"{hash_[:-1]}0"], ["cat", hash_]):
            done = run(*arguments, status=2)
            assert (done.stdout, done.stderr) == ("", said)
        assert run("ls").stdout == f"{hash_}\t5\n"
        assert run("stat", hash_).stdout.startswith(hash_)
        assert run("rm", hash_).stdout == f"{hash_}\n"
    assert sorted(os.listdir(tmp_path / "here")) == ["a", "b"]
