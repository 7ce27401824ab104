"""The benchmarks check what they need before they start."""

import os
import re
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from benchmarks.client import whole_units
from tests.support import ceph
from tests.support.servers import PROJECT, gunicorn
from tests.support.wire import Connection, chunked, message

WITHOUT = sorted(PROJECT.glob("benchmarks/without/[a-z]*.py"))


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark with only the programs of one directory on its PATH."""
    code = (
        "import runpy, sys; from benchmarks import needs; needs.PATH = sys.argv.pop(1); "
        "runpy.run_module(sys.argv.pop(1), run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(path), *arguments]
    environ = {**os.environ, "PATH": str(path)}
    return subprocess.run(
        command, cwd=PROJECT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def put_there(directory: Path, *programs: str) -> None:
    """Create programs that are found but never run."""
    for program in programs:
        (directory / program).write_text("#!/bin/false\n", encoding="ascii")
        (directory / program).chmod(0o755)


@pytest.mark.parametrize(
    ("arguments", "target", "programs"),
    [
        (["benchmarks.bucket"], "make bench-s3", [*ceph.PROGRAMS, "setpriv", "wrk"]),
        (["benchmarks", "--quick", "--dry"], "make bench", ["wrk"]),
        (["benchmarks.folders"], "benchmarks.folders", sorted([*ceph.PROGRAMS, "setpriv", "wrk"])),
        (["benchmarks.names", "."], "benchmarks.names", ["nginx", "wrk"]),
        (["benchmarks.syscalls", ".", "."], "benchmarks.syscalls", ["strace"]),
    ],
    ids=["bench-s3", "bench", "folders", "names", "syscalls"],
)
def test_programs_that_are_missing(
    tmp_path: Path, arguments: list[str], target: str, programs: list[str]
) -> None:
    """Missing programs are named in one line, with their packages, before anything starts."""
    done = run(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    found = re.fullmatch(rf"{target} needs programs that are not here: (.*) \(apt install [a-z -]+\)", line)
    assert found and found[1].split(", ") == programs
    put_there(tmp_path, *programs[:-1])
    assert f"not here: {programs[-1]} (apt install {programs[-1]})" in run(tmp_path, *arguments).stderr


def test_a_plain_client_is_installed() -> None:
    """The S3 client that the bucket benchmark runs is part of its extra."""
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    extra = text[text.index("\nbench = [") :]
    assert '"s3cmd' in extra[: extra.index("\n]")]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--rounds", "2", "--cold"], r"20 blobs of 4 KiB, 2 rounds, .* MB/s, ratio \d+\.\d\d \(.*\)"),
        (["--memory"], r"peak memory: 1,000 blobs \d.* MiB, 20 blobs \d.*, growth -?\d.*"),
    ],
    ids=["rate", "memory"],
)
def test_a_migration_is_measured(tmp_path: Path, options: list[str], line: str) -> None:
    """The benchmark migrates a small store, and gives the blobs their old names back after each round."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.migrate",
        "--at",
        str(tmp_path),
        "--blobs",
        "20",
        "--size",
        "4",
    ]
    done = subprocess.run(
        [*command, *options], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )
    assert re.fullmatch(line, done.stdout.strip()), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("settings", WITHOUT, ids=lambda path: path.stem)
def test_settings_that_leave_a_part_out(tmp_path: Path, settings: Path) -> None:
    """A worker with one part switched off, for comparison, serves the same requests."""
    data = bytes(3 << 20)
    with (
        gunicorn(tmp_path, "-c", str(settings), workers=1) as server,
        Connection(server.port) as connection,
    ):
        for number in range(3):
            connection.send(message("POST", "/", data + bytes([number])))
            location = connection.receive().fields["location"]
            connection.send(message("POST", "/", Transfer_Encoding="chunked"), chunked(data, bytes([number])))
            assert connection.receive().fields["location"] == location
            for _ in range(3):
                connection.send(message("GET", location))
                assert connection.receive().body == data + bytes([number])


@pytest.mark.parametrize("name", ["compare", "uploads"])
def test_sizes_that_the_payload_cannot_have(tmp_path: Path, name: str) -> None:
    """A big file is the payload, once or several times: any other size would give rates of nothing."""
    for size in ("0", "16", "-64", "100"):
        with pytest.raises(ArgumentTypeError):
            whole_units(size)
    done = run(tmp_path, f"benchmarks.{name}", *([".", "."] if name == "compare" else []), "--size=16")
    assert done.returncode == 2
    assert done.stderr.endswith("argument --size: 16 is not a multiple of 64\n")
