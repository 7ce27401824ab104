"""The type hints of the installed package, checked by mypy as in a user's project."""

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.documents import PROJECT

USES = PROJECT / "tests" / "project" / "typed_uses.py"
# Pyramid has no type hints.
SETTINGS = "[mypy]\nstrict = true\n[mypy-pyramid.*]\nignore_missing_imports = true\n"


@pytest.fixture(name="user", scope="module")
def fixture_user(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project, whose environment has the wheel and the packages of this one."""
    directory = tmp_path_factory.mktemp("user")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", directory / ".venv"], check=True, timeout=60
    )
    (packages,) = (directory / ".venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "rest.pth").write_text(sysconfig.get_path("purelib"))
    (directory / "mypy.ini").write_text(SETTINGS)
    shutil.copy(USES, directory)
    shutil.copytree(
        PROJECT / "examples", directory / "examples", ignore=shutil.ignore_patterns("__pycache__")
    )
    return directory


def mypy(directory: Path, *arguments: str) -> dict[tuple[str, int], str]:
    """The error codes that mypy reports, by file and line."""
    command = [sys.executable, "-m", "mypy", "--python-executable", ".venv/bin/python", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=250, check=False)
    assert not done.stderr, done.stderr
    found = re.findall(r"^([\w./]+):(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.M)
    assert bool(found) == bool(done.returncode), done.stdout
    return {(path, int(line)): code for path, line, code in found}


def test_right_uses_pass_and_wrong_ones_fail(user: Path) -> None:
    """mypy --strict reports exactly the lines marked as wrong."""
    marked = {
        (USES.name, number): code[1]
        for number, line in enumerate(USES.read_text().splitlines(), 1)
        if (code := re.search(r"  # error: ([a-z-]+)$", line))
    }
    assert len(marked) > 20
    assert mypy(user, USES.name) == marked


def test_the_examples_pass(user: Path) -> None:
    """Every file in examples/ passes mypy --strict."""
    paths = sorted(str(path.relative_to(user)) for path in user.glob("examples/*.py"))
    assert len(paths) > 8
    assert not mypy(user, *paths)


def test_the_mark_of_the_hints_counts(user: Path, tmp_path: Path) -> None:
    """Without py.typed the package has no types, so the other tests really check its hints."""
    shutil.copytree(user, tmp_path / "user", symlinks=True)
    for path in (tmp_path / "user").glob(".venv/lib/python*/site-packages/wsgi_store/py.typed"):
        path.unlink()
    (tmp_path / "user" / "one.py").write_text("from wsgi_store import Config\n")
    assert mypy(tmp_path / "user", "one.py") == {("one.py", 1): "import-untyped"}
