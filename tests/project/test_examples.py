"""Each example without a framework prints the output shown in its file."""

import hashlib
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from webtest import TestApp

from examples import folders, photos
from examples.in_process import drop, keep
from tests.support.servers import PROJECT, gunicorn
from wsgi_store.choices import Protocol
from wsgi_store.config import Config
from wsgi_store.protocols.blossom import create_app

DATA = b"kept without HTTP" * 10_000
HASH = hashlib.sha256(DATA).hexdigest()


def test_in_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program adds, reads, lists and removes blobs."""
    (tmp_path / "file").write_bytes(DATA)
    root = str(tmp_path / "store")
    assert keep(root, tmp_path / "file") == HASH
    first, *read, listed = capsys.readouterr().out.splitlines()
    assert first == f"{HASH} {len(DATA)} True"
    assert sum(int(line.split()[0]) for line in read) == len(DATA)
    assert listed == f"{HASH} {len(DATA)}"
    assert [drop(root, HASH), drop(root, HASH)] == [True, False]


def test_in_process_as_a_program(tmp_path: Path) -> None:
    """The example runs as its docstring says."""
    (tmp_path / "file").write_bytes(DATA)
    command = [sys.executable, PROJECT / "examples" / "in_process.py", "store", "file"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"{HASH} {len(DATA)} True\n")
    assert (tmp_path / "store" / HASH[:2] / HASH).read_bytes() == DATA


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program stores a folder, lists it, and tells what changed."""
    top = tmp_path / "folder"
    top.mkdir()
    (top / "a").write_text("a")
    (top / "b.tmp").write_text("b")
    with gunicorn(tmp_path, workers=1) as server:
        url = f"http://127.0.0.1:{server.port}"
        before = folders.keep(url, None, str(top), None)
        assert capsys.readouterr().out.splitlines() == [f"{before} 1 1", "dir .", "file a"]
        (top / "a").chmod(0o600)
        (top / "c").write_text("c")
        after = folders.keep(url, None, str(top), before)
        assert capsys.readouterr().out.splitlines() == [f"{after} 2 1", "a mode", "c"]
        command = [sys.executable, PROJECT / "examples" / "folders.py", url, top / "missing"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (1, "")
        assert "No such file or directory" in done.stderr


def test_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program uploads many files, and tells which are new."""
    top = tmp_path / "photos" / "2026"
    top.mkdir(parents=True)
    (top / "a.jpg").write_bytes(DATA)
    (top / "b.jpg").symlink_to("missing")
    (top / "c.txt").write_text("c")
    with gunicorn(tmp_path, workers=1) as server:
        url = f"http://127.0.0.1:{server.port}"
        for new in ([f"{top}/a.jpg {HASH}"], []):
            photos.upload(url, None, str(top.parent))
            lines = sorted(capsys.readouterr().out.splitlines())
            assert lines[:-1] == new
            assert lines[-1].startswith(f"{top}/b.jpg failed: [Errno 2] No such file or directory")


def test_blossom(tmp_path: Path, config: Config) -> None:
    """A program makes a key, and signs an upload that a Blossom server accepts from it, and nowhere else."""
    command = [sys.executable, PROJECT / "examples" / "blossom.py"]

    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == status, done.stderr
        return done.stdout.strip()

    key = run("new", "me.key")
    assert stat.S_IMODE((tmp_path / "me.key").stat().st_mode) == 0o600
    run("new", "me.key", status=1)
    (tmp_path / "tokens").write_text(f"me write nostr:{key}\n")
    (tmp_path / "file").write_bytes(DATA)
    config = replace(config, tokens=str(tmp_path / "tokens"), protocols=(Protocol.BLOSSOM,))
    api = TestApp(create_app(config))
    name, _, value = run("upload", "me.key", "file").partition(": ")
    fields = {name: value, "Content-Type": "text/plain"}
    assert api.put("/upload", DATA, {**fields, "Host": "127.0.0.1"}, status=201).json["sha256"] == HASH
    api.put("/upload", DATA, {**fields, "Host": "elsewhere.example"}, status=401)
