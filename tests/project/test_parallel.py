"""Parallel tests are as strict as sequential ones, no test is lost, and `make races` tries many cases."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.servers import PROJECT, STRICT

# These tests spend most of their time on starting processes.
pytestmark = pytest.mark.uncounted
STRICTLY = """
import logging
import sys

def test_strict():
    assert sys.flags.dev_mode
    assert sys.warnoptions[-1] == "error"

def test_log():
    logging.getLogger("x").warning("\\ud800")
"""
# A report that cannot be sent ends its process, which xdist does not count as a failure.
LOSING = """
import time

def test_first():
    time.sleep(2)

def test_lost(record_property):
    record_property("x", "\\ud800")

def test_beside():
    pass

def test_behind():
    pass
"""
# Both ways in which tests are those of Hypothesis.
RANDOM = """
from hypothesis import given, strategies
from hypothesis.stateful import RuleBasedStateMachine, rule

CASES = {"given": 0, "rules": 0}

@given(strategies.integers())
def test_given(number):
    CASES["given"] += 1

class Rules(RuleBasedStateMachine):
    @rule()
    def nothing(self):
        pass

    def teardown(self):
        CASES["rules"] += 1

TestRules = Rules.TestCase

def teardown_module():
    print(CASES)

def test_not_random():
    raise AssertionError
"""
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def inner(directory: Path, text: str, plugins: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run tests with the configuration of the project."""
    (directory / "test_inner.py").write_text(text, encoding="ascii")
    command = [
        sys.executable,
        *STRICT,
        "-m",
        "pytest",
        # Only the plugins that the configuration names: others take longer to import than these tests to run.
        *(f"-p{name}" for name in ("xdist.plugin", "pytest_timeout", "tests.conftest", *plugins)),
        # pytest would close its usual directory to other users, one of whom may be in it for another test.
        "--basetemp=.inner",
        *options,
        "test_inner.py",
    ]
    command += ["--config-file", str(PROJECT / "pyproject.toml"), "--rootdir=."]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=directory, env=environ, capture_output=True, text=True, check=False, timeout=120
    )


def beside(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run tests in two processes."""
    return inner(directory, text, [], "--numprocesses=2")


def made(target: str) -> list[str]:
    """The options of pytest in each command of `make`, up to those of its processes."""
    # An outer `make` hands on the variables that it was given, COUNT for one.
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = ["make", "--dry-run", "--directory", str(PROJECT), target]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    chosen = [line.partition("pytest ")[2] for line in done.stdout.splitlines() if "-m pytest" in line]
    return [one.partition(" --numprocesses")[0].strip() for one in chosen]


@pytest.mark.races
def test_processes_beside(tmp_path: Path) -> None:
    """The worker processes inherit the interpreter flags, and may log lone surrogates."""
    done = beside(tmp_path, STRICTLY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.races
def test_a_test_that_is_lost(tmp_path: Path) -> None:
    """A run that lost a test fails, even if all the others have passed."""
    done = beside(tmp_path, LOSING)
    assert "failed" not in done.stdout
    assert done.returncode == 3, done.stdout + done.stderr
    assert "1 of 4 tests were not run" in done.stderr


@needs_make
def test_both_runs() -> None:
    """Each test runs by one target, and those marked alone in a second, sequential run."""
    assert made("test") == [f"-m '{alone} and not clients and not races'" for alone in ("not alone", "alone")]
    assert [made("races")[1], *made("clients")] == [
        "-m 'races and alone'",
        "-m 'clients and not alone'",
        "-m 'clients and alone'",
    ]


@needs_make
def test_few_and_many_cases(tmp_path: Path) -> None:
    """`make test` tries few random cases, and `make races` tries many in every test of Hypothesis."""
    options = made("races")[0]
    done = inner(tmp_path, RANDOM, ["_hypothesis_pytestplugin"], "--capture=no", *shlex.split(options))
    assert done.returncode == 0, done.stdout + done.stderr
    few, many = (settings.get_profile(name).max_examples for name in ("few", "many"))
    assert settings().max_examples == few < many // 2
    counted = re.search(r"{'given': (\d+), 'rules': (\d+)}", done.stdout)
    # Hypothesis does not count a case that it gives up on the way.
    assert counted and all(many <= int(cases) < many + few for cases in counted.groups()), done.stdout
