"""The upkeep commands: results, output and exit status, also next to a running server."""

import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.support.cli_service import invoke, objects
from tests.support.commands import environment, install, run, terminal
from tests.support.servers import gunicorn, until
from tests.support.upkeep import fill, flip, named
from wsgi_store.client import Client
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.ledger import Ledger

pytestmark = pytest.mark.long(44)
# Enough small blobs for verify to start processes.
MANY = 4500
SIZE = 2000


@pytest.fixture(name="here")
def fixture_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an md5 store that holds the numbers 0 to 9."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "store", Algorithm.MD5, [str(number).encode() for number in range(10)])
    return tmp_path


@pytest.fixture(name="program")
def fixture_program(tmp_path: Path) -> Path:
    """The command, next to a sha256 store with many blobs."""
    fill(tmp_path / "store", Algorithm.SHA256, [f"{number:{SIZE}}".encode() for number in range(MANY)])
    return install(tmp_path)


def test_damage_is_found_and_healed(tmp_path: Path) -> None:
    """Next to a running server, verify quarantines every damaged blob, and uploads restore them."""
    contents = [f"{number:{SIZE}}".encode() for number in range(MANY)]
    fill(tmp_path / "store", Algorithm.SHA256, contents)
    program = install(tmp_path)
    with gunicorn(tmp_path, WSGI_STORE_HASH="sha256") as server:
        bad = {flip(server.root / named(Algorithm.SHA256, data)) for data in contents[::450]}
        assert len(bad) == 10
        done = run(program, "verify", "--workers", "2")
        assert (done.returncode, done.stderr) == (5, b"")
        *rows, said = done.stdout.decode().splitlines()
        assert {tuple(row.split("\t")) for row in rows} == {
            ("corrupt", name, "moved to quarantine") for name in bad
        }
        assert said.startswith("corrupt: checked 4,500 of 4,500 blobs, 9.0 MB of 9.0 MB (100.0%), 10 corrupt")
        assert set(os.listdir(server.root / ".quarantine")) == bad
        with Client(f"http://127.0.0.1:{server.port}") as client:
            assert sum(client.put(data).created for data in contents[::450]) == 10
        assert not os.listdir(server.root / ".quarantine")
        done = run(program, "verify", "--json")
        (report,) = objects(done.stdout.decode())
        assert done.returncode == 0
        assert (report["result"], report["checked_blobs"], report["corrupt"]) == ("clean", MANY, 0)


def test_json(here: Path) -> None:
    """With --json, each finding and the report are objects."""
    bad = [flip(here / "store" / named(Algorithm.MD5, str(number).encode())) for number in (3, 4)]
    (here / "store" / ".quarantine").write_bytes(b"")
    *findings, report = objects(invoke("verify", "--json", status=5).stdout)
    assert {row["hash"]: (row["state"], row["quarantined"]) for row in findings} == {
        name: ("corrupt", False) for name in bad
    }
    assert all(row["detail"].startswith("not moved to quarantine: cannot move") for row in findings)
    assert report["oldest"] == pytest.approx(time.time(), abs=60)
    assert {name: value for name, value in report.items() if name != "oldest"} == {
        "result": "corrupt",
        "checked_blobs": 10,
        "checked_bytes": 10,
        "total_blobs": 10,
        "total_bytes": 10,
        "gone": 0,
        "corrupt": 2,
        "unreadable": 0,
        "misnamed": 0,
        "adopted": 0,
        "interrupted": False,
        "unnoted": None,
    }


@pytest.mark.usefixtures("here")
def test_unreadable() -> None:
    """Unreadable blobs are named, and the exit status says that the run was incomplete."""
    with mock.patch("os.preadv", side_effect=OSError(errno.EIO, os.strerror(errno.EIO))):
        result = invoke("verify", status=8)
    *rows, said = result.stdout.splitlines()
    assert len(rows) == 10
    assert all(
        re.fullmatch("unreadable\t[0-9a-f]{32}\tcannot read.*: Input/output error", row) for row in rows
    )
    assert said.startswith(
        "incomplete: checked 0 of 10 blobs, 0 bytes of 10 bytes (0.0%), 0 corrupt, 10 unread"
    )


@pytest.mark.usefixtures("here")
def test_parts() -> None:
    """With a budget or a sample, the report says how much was checked."""
    said = invoke("verify", "--budget", "3").stdout
    assert said.startswith(
        "clean: checked 3 of 10 blobs, 3 bytes of 10 bytes (30.0%), 0 corrupt, 0 unreadable"
    )
    said = invoke("verify", "--sample", "0.0001").stdout
    assert re.match(r"clean: checked \d of 10 blobs", said)
    for wrong in (
        ["--sample", "0"],
        ["--sample", "2"],
        ["--sample", "nan"],
        ["--budget", "x"],
        ["--rate", "1s"],
        ["--workers", "0"],
    ):
        assert wrong[0] in invoke("verify", *wrong, status=2).stderr


def test_which_store(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command reads the algorithm from the store, and never creates a store."""
    fill(here / "other", Algorithm.SHA256, [b"one"])
    assert invoke("verify", "--root", "other").stdout.startswith("clean: checked 1 of 1 blob, ")
    monkeypatch.setenv("WSGI_STORE_ROOT", "other")
    assert invoke("du", "--json").stdout.startswith('{"kind": "blobs", "count": 1, "size": 3}')
    for command in ("verify", "collect", "du", "manifest"):
        assert "there is no store at none: No such" in invoke(command, "--root", "none", status=6).stderr
    assert not (here / "none").exists()
    (here / "other" / "store.json").write_text("{}")
    assert "is not a valid store marker" in invoke("du", status=1).stderr
    monkeypatch.setenv("WSGI_STORE_TOKEN", "the client's")
    invoke("du", "--root", "none", status=6)
    monkeypatch.setenv("WSGI_STORE_HAHS", "md5")
    assert "WSGI_STORE_HAHS" in invoke("du", status=2).stderr


def test_collect(here: Path) -> None:
    """collect lists, counts and sums up what it removes; a dry run prints the same and removes nothing."""
    root = here / "store"
    old = [root / named(Algorithm.MD5, str(number).encode()) for number in (1, 2)]
    for number, path in enumerate(old):
        then = time.time() - 100 * 86400 + number
        os.utime(path, (then, then))
    (root / ".staging" / ("0" * 32)).write_bytes(b"half")
    rows = "staged\t\t4\n" + "".join(f"blob\t{path.name}\t1\n" for path in sorted(old))
    summary = "1 staged file, 2 blobs: 6 bytes\n"
    assert invoke("collect", "--older", "90d", "--dry-run").stdout == f"{rows}would remove {summary}"
    assert all(path.exists() for path in old)
    assert invoke("collect", "--older", "90d").stdout == f"{rows}removed {summary}"
    assert not any(path.exists() for path in old)
    assert invoke("collect", "--json", "--max-size", "8", "--quarantined-older", "0").stdout == (
        '{"staged": 0, "upload": 0, "expired": 0, "litter": 0, "quarantined": 0, "blob": 0, '
        '"pieces": 0, "name": 0, '
        '"bytes": 0, '
        '"dry_run": false}\n'
    )
    assert invoke("collect").stdout == "removed nothing: 0 bytes\n"


def test_du(here: Path) -> None:
    """du counts blobs, staged files and quarantined blobs, with their bytes."""
    flip(here / "store" / named(Algorithm.MD5, b"7"))
    invoke("verify", status=5)
    (here / "store" / ".staging" / ("0" * 32)).write_bytes(b"half")
    assert (
        invoke("du").stdout
        == "blobs\t9\t9\nnames\t0\t0\nstaged\t1\t4\nuploads\t0\t0\npromised\t0\t0\nquarantined\t1\t1\n"
    )


@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.SHA256])
def test_manifest(tmp_path: Path, algorithm: Algorithm) -> None:
    """md5sum and sha256sum accept the manifest, and find damaged blobs."""
    fill(tmp_path / "store", algorithm, [b"one", b"two"])
    program = install(tmp_path)
    command = f"{program} manifest > m && cd store && {algorithm.value}sum --check --strict ../m"

    def check() -> tuple[int, list[str]]:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            check=False,
        )
        return done.returncode, sorted(line.split(b": ")[1].decode() for line in done.stdout.splitlines())

    assert check() == (0, ["OK", "OK"])
    flip(tmp_path / "store" / named(algorithm, b"two"))
    assert check() == (1, ["FAILED", "OK"])


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """The worker processes of a command, once they have started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: len(children.read_text(encoding="ascii").split()) == 2, "the workers")
    return [int(pid) for pid in children.read_text(encoding="ascii").split()]


def until_told(process: subprocess.Popen[bytes]) -> None:
    """Wait until the workers have reported their first blobs."""

    def received() -> int:
        lines = Path(f"/proc/{process.pid}/io").read_text(encoding="ascii").splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    # Starting the second worker reads fewer bytes; each report has about 200.
    before = received()
    until(lambda: received() > before + 600, "the first reports")


@pytest.fixture(name="verifying")
def fixture_verifying(program: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A verification that takes a few seconds."""
    with subprocess.Popen(
        [program, "verify", "--workers", "2", "--rate", "1MB"],
        cwd=program.parent,
        env=environment(program.parent),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        yield process


def gone(pid: int) -> bool:
    """Tell whether a process has ended; it may still be a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_interrupted(verifying: subprocess.Popen[bytes], program: Path) -> None:
    """Ctrl-C ends verify quickly with a report, and the next run continues from there."""
    pids = workers(verifying)
    until_told(verifying)
    os.killpg(verifying.pid, signal.SIGINT)  # as a terminal sends it
    out, err = verifying.communicate(timeout=20)
    assert (verifying.returncode, err) == (130, b"")
    said = re.fullmatch(
        r"incomplete: checked ([\d,]+) of 4,500 blobs, .* MB of 9.0 MB \(\d+\.\d%\), 0 corrupt, "
        r"0 unreadable, .*, interrupted, the next run continues from here\n",
        out.decode(),
    )
    assert said, out
    covered = int(said[1].replace(",", ""))
    assert 0 < covered < MANY
    until(lambda: all(map(gone, pids)), "the end of the workers")
    store = open_store(str(program.parent / "store"), Algorithm.SHA256, Durability.NONE)
    known = Ledger.load(store)
    assert known.blobs == covered
    assert sum(len(list(part.blobs(store))) for part in known.parts() if part.time) == covered
    done = run(program, "verify", "--budget", f"{(MANY - covered) * SIZE}")
    assert done.returncode == 0
    assert all(part.time for part in Ledger.load(store).parts() if list(part.blobs(store)))


def test_killed(verifying: subprocess.Popen[bytes], program: Path) -> None:
    """kill -9 leaves no worker running, and the next run works."""
    pids = workers(verifying)
    verifying.kill()
    verifying.communicate(timeout=20)
    until(lambda: all(map(gone, pids)), "the end of the workers")
    done = run(program, "verify")
    assert done.stdout.startswith(b"clean: checked 4,500 of 4,500 ")


def test_a_killed_worker(verifying: subprocess.Popen[bytes], program: Path) -> None:
    """If a worker is killed, verify ends with a message, an error status and a report."""
    pids = workers(verifying)
    until_told(verifying)
    os.kill(pids[0], signal.SIGKILL)
    out, err = verifying.communicate(timeout=20)
    assert (verifying.returncode, err) == (
        6,
        b"wsgi-store: a worker process was killed while reading blobs\n",
    )
    assert out.startswith(b"incomplete: checked ")
    assert b"Traceback" not in out + err
    until(lambda: all(map(gone, pids)), "the end of the workers")
    assert run(program, "verify").returncode == 0


def test_a_terminal(program: Path) -> None:
    """On a terminal, verify shows progress, speed and remaining time."""
    shown = terminal(program, "verify", "--rate", "3MB")
    assert re.search(r"[\d.]+/9.0 MB +[\d.]+ [kM]B/s +0:00:0\d", shown), shown
    assert "clean: checked 4,500 of 4,500 blobs" in shown


def test_a_large_blob_on_a_terminal(tmp_path: Path) -> None:
    """The bar advances while one large blob is read, and never goes back."""
    fill(tmp_path / "store", Algorithm.MD5, [bytes(20_000_000)])
    shown = terminal(install(tmp_path), "verify", "--rate", "10MB", "--workers", "1")
    steps = [float(step) for step in re.findall(r"([\d.]+)/20.0 MB", shown)]
    assert steps == sorted(steps)
    assert len({step for step in steps if 0 < step < 20}) >= 4, steps


def test_a_closed_pipe(program: Path) -> None:
    """When the reader of the manifest is gone, the command ends silently."""
    command = f"{program} manifest | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=program.parent,
        env=environment(program.parent),
        capture_output=True,
        check=True,
    )
    assert (done.stdout.splitlines()[1:], done.stderr) == ([b"141"], b"")
