"""The command that migrates a store: results, output and exit status, also next to a running server."""

import hashlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.support.cli_service import invoke, objects
from tests.support.commands import in_own_group, install, run, terminal
from tests.support.servers import gunicorn, until
from tests.support.upkeep import fill, flip, named
from wsgi_store.digest import Algorithm

pytestmark = pytest.mark.long(40)
MANY = 1500
SIZE = 2000
CONTENTS = [f"{number:{SIZE}}".encode() for number in range(MANY)]


@pytest.fixture(name="here")
def fixture_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an md5 store that holds the numbers 0 to 9."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "store", Algorithm.MD5, [str(number).encode() for number in range(10)])
    return tmp_path


def checked(directory: Path) -> None:
    """Check all names with the programs of the system."""
    for algorithm in ("md5", "sha256"):
        lines = invoke("manifest", "--names", algorithm).stdout
        assert lines.count("\n") == 10
        command = [f"{algorithm}sum", "--check", "--strict", "--quiet"]
        subprocess.run(command, cwd=directory / "store", input=lines.encode(), check=True)


def test_to_another_algorithm_and_back_to_one_name(here: Path) -> None:
    """The last line says what became of every blob, and what there is to do."""
    assert invoke("migrate", "--to", "sha256", "--dry-run").stdout == (
        "migrating to sha256 would read 10 blobs, 10 bytes\n"
    )
    assert invoke("migrate", "--to", "sha256", "--budget", "4").stdout == (
        "clean: migrating to sha256: 10 blobs, 4 migrated, 6 left, 4 bytes read, not finished, run it again\n"
    )
    assert invoke("migrate", "--to", "SHA256").stdout == (
        "clean: migrating to sha256: 10 blobs, 6 migrated, 4 already, 6 bytes read, finished\n"
    )
    checked(here)
    assert invoke("migrate", "--add-names", "sha1").stdout == (
        "clean: adding sha1 names: 10 blobs, 10 named, 10 bytes read, finished\n"
    )
    assert re.match(r"blobs\t10\t10\nnames\t20\t\d+\n", invoke("du").stdout)
    assert invoke("migrate", "--drop-names", "md5,sha1", "--dry-run").stdout == (
        "dropping md5 and sha1 names would read 0 blobs, 0 bytes and remove 20 names\n"
    )
    assert invoke("migrate", "--drop-names", "md5,sha1").stdout == (
        "clean: dropping md5 and sha1 names: 0 blobs, 20 names removed, 0 bytes read, finished\n"
    )
    assert (here / "store" / "store.json").read_text() == '{"algorithm": "sha256", "layout": "ab/abcdef"}\n'
    assert invoke("verify").stdout.startswith("clean: checked 10 of 10 blobs")


def test_json(here: Path) -> None:
    """With --json, each finding and the result are objects whose counts add up."""
    bad = flip(here / "store" / named(Algorithm.MD5, b"3"))
    finding, report = objects(invoke("migrate", "--to", "sha256", "--json", status=5).stdout)
    assert (finding["state"], finding["hash"], finding["quarantined"]) == ("corrupt", bad, True)
    assert report == {
        "result": "corrupt",
        "blobs": 10,
        "migrated": 9,
        "named": 0,
        "already": 0,
        "by_others": 0,
        "gone": 0,
        "corrupt": 1,
        "unreadable": 0,
        "left": 0,
        "removed": 0,
        "read_bytes": 10,
        "finished": True,
        "interrupted": False,
        "unnoted": None,
    }
    (dry,) = objects(invoke("migrate", "--drop-names", "md5", "--dry-run", "--json").stdout)
    assert dry == {"blobs": 0, "bytes": 0, "removed": 9, "dry_run": True}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "give one of --to, --add-names and --drop-names"),
        (["--to", "sha256", "--add-names", "sha1"], 2, "give one of"),
        (["--to", "crc32"], 2, "expected one or more of md5, sha1"),
        (["--to", "sha256,sha512"], 2, "expected one of md5, sha1"),
        (["--add-names", "sha1,"], 2, "expected one or more of"),
        (["--to", "sha1"], 2, "different files can have the same sha1"),
        (["--add-names", "md5"], 2, "md5 is the primary name"),
        (["--add-names", "sha256,blake3"], 2, "hashes of the same length"),
        (["--drop-names", "md5"], 2, "migrate to another algorithm first"),
        (["--to", "sha256", "--root", "nowhere"], 6, "there is no store at nowhere"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_refusals(here: Path, arguments: list[str], status: int, message: str) -> None:
    """What cannot be done is refused with its reason, and the store stays as it is."""
    assert message in invoke("migrate", *arguments, status=status).stderr
    assert (here / "store" / "store.json").read_text() == '{"algorithm": "md5", "layout": "ab/abcdef"}\n'


def test_a_read_only_store(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is only read is refused with the status of a missing permission."""
    monkeypatch.setenv("WSGI_STORE_READ_ONLY", "yes")
    assert "this store is read-only" in invoke("migrate", "--to", "sha256", status=4).stderr
    assert invoke("migrate", "--to", "sha256", "--dry-run").stdout.startswith(
        "migrating to sha256 would read"
    )
    assert b"md5" in (here / "store" / "store.json").read_bytes()


@pytest.mark.races
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interruptions(tmp_path: Path, number: signal.Signals) -> None:
    """After Ctrl-C, SIGTERM and kill -9 of all processes the next run goes on, and every name works."""
    root = tmp_path / "store"
    fill(root, Algorithm.MD5, CONTENTS)
    program = install(tmp_path)
    with in_own_group(
        tmp_path, program, "migrate", "--to", "sha256", "--workers", "2", "--rate", "500KB"
    ) as process:
        until(lambda: any(path.is_symlink() for path in root.glob("??/*")), "a name")
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    if number is not signal.SIGKILL:
        assert (process.returncode, err) == (130, b"")
        assert out.decode().endswith(" read, interrupted, the next run continues from here\n"), out
    assert json.loads((root / "store.json").read_text())["migrating"] == "md5"
    done = run(program, "migrate", "--to", "sha256", "--json")
    (report,) = objects(done.stdout.decode())
    assert (done.returncode, report["finished"], report["left"], report["blobs"]) == (0, True, 0, MANY)
    assert 0 < report["already"] < MANY
    for data in CONTENTS:
        assert (root / named(Algorithm.MD5, data)).read_bytes() == data
        assert not (root / named(Algorithm.SHA256, data)).is_symlink()


def test_next_to_a_server(tmp_path: Path) -> None:
    """A server that runs since before the migration serves every name, and gives new uploads the new ones."""
    fill(tmp_path / "store", Algorithm.MD5, CONTENTS[:200])
    program = install(tmp_path)
    with gunicorn(tmp_path, WSGI_STORE_HASH="md5") as server:

        def ask(path: str, method: str = "GET", data: bytes | None = None) -> bytes:
            url = f"http://127.0.0.1:{server.port}/{path}"
            with urlopen(Request(url, data, method=method), timeout=30) as answer:
                sent: bytes = answer.read()
                return sent

        assert json.loads(ask("", "POST", b"before"))["hash"] == hashlib.md5(b"before").hexdigest()
        done = run(program, "migrate", "--to", "sha256")
        assert (done.returncode, done.stderr) == (0, b"")
        for data in (*CONTENTS[:200:20], b"before"):
            for algorithm in ("md5", "sha256"):
                assert ask(hashlib.new(algorithm, data).hexdigest()) == data
        assert json.loads(ask("", "POST", b"after"))["hash"] == hashlib.sha256(b"after").hexdigest()
        ask(hashlib.md5(CONTENTS[0]).hexdigest(), "DELETE")
        with pytest.raises(HTTPError, match="404"):
            ask(hashlib.sha256(CONTENTS[0]).hexdigest())
    assert run(program, "verify").returncode == 0


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal, progress, speed and remaining time are shown."""
    fill(tmp_path / "store", Algorithm.MD5, CONTENTS)
    shown = terminal(install(tmp_path), "migrate", "--to", "sha256", "--rate", "1.5MB")
    assert re.search(r"[\d.]+/3.0 MB +[\d.]+ [kM]B/s +0:00:0\d", shown), shown
    assert "clean: migrating to sha256: 1,500 blobs, 1,500 migrated, 3.0 MB read, finished" in shown
