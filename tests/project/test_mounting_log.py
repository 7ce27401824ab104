"""A mounted store logs only if the host asks for it, and logs no secrets."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import PROJECT
from tests.support.silent_host import SECRET
from wsgi_store.logs import trace

PACKAGE = PROJECT / "wsgi_store"
# Modules that may write to the terminal: our own servers and the command.
WRITERS = {"logs.py", "loading.py", "gunicorn/conf.py", "gunicorn/startup.py"}


def written(directory: Path, *arguments: str) -> str:
    """The standard output and error of a host with a store."""
    command = [
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error",
        "-m",
        "tests.support.silent_host",
        directory / "store",
    ]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [*command, *arguments],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_host_that_wants_no_log(tmp_path: Path) -> None:
    """Without the host's request nothing is written, whatever goes wrong."""
    assert written(tmp_path) == ""


def test_a_host_that_wants_the_log(tmp_path: Path) -> None:
    """Even loguru's default sink, which adds the values of variables, gets a traceback without them."""
    text = written(tmp_path, "enable")
    assert "Traceback (most recent call last):" in text
    assert "in authorize\n" in text
    for said in (
        "FileNotFoundError: No such file",
        "ExceptionGroup",
        "KeyError",
        "replaced the damaged blob",
        "is missing",
        "tokens",
    ):
        assert said in text, said
    assert SECRET not in text


def test_a_traceback_without_values() -> None:
    """Chained exceptions, even in a cycle, are shown once each, the first one first."""
    first, second = ValueError("first secret"), RuntimeError("second secret")
    with pytest.raises(RuntimeError):
        raise second from first
    first.__context__ = second
    assert re.fullmatch(
        r"Traceback \(most recent call last\):\nValueError\n"
        r"Traceback \(most recent call last\):\n  File .*\n    raise second from first\nRuntimeError",
        trace(second),
    )
    with pytest.raises(RuntimeError):
        raise second from None
    assert "ValueError" not in trace(second)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_nothing_is_written_past_the_log(path: Path) -> None:
    """Only logs.py imports loguru, and only servers and the command write to the terminal."""
    name = str(path.relative_to(PACKAGE))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "loguru":
            assert name == "logs.py"
        if name in WRITERS or name.startswith("cli/"):
            continue
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("stderr", "stdout", "print_exc"), f"{name}, line {node.lineno}"
            written_so = ast.unparse(node) in ("logger.opt", "logger.exception")
            assert not written_so, f"{name}, line {node.lineno}"
        assert not (isinstance(node, ast.Name) and node.id == "print"), f"{name}, line {node.lineno}"
