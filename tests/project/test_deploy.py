"""The systemd units in `deploy/`."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.commands import install, run
from tests.support.servers import DEPLOY, PROGRAMS, PROJECT


@pytest.fixture(name="unit", params=["wsgi-store.service", "wsgi-store-verify.service"])
def fixture_unit(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A systemd unit with the paths of this environment."""
    text = (DEPLOY / request.param).read_text(encoding="utf-8")
    assert "/opt/wsgi-store/.venv/bin" in text
    # The environment may lack the command, so install it.
    text = text.replace("/opt/wsgi-store/.venv/bin/wsgi-store", str(install(tmp_path)))
    text = text.replace("/opt/wsgi-store/.venv/bin", str(PROGRAMS))
    text = text.replace("/opt/wsgi-store/deploy", str(DEPLOY))
    path = tmp_path / request.param
    path.write_text(text, encoding="utf-8")
    return path


def analyze(*arguments: str) -> str:
    """Run systemd-analyze(1); fail if it reports an error."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def test_unit(unit: Path) -> None:
    """systemd accepts the unit."""
    # It may report other units of the machine, which this one depends on.
    assert "wsgi-store" not in analyze("verify", str(unit))


def test_unit_is_hardened(unit: Path) -> None:
    """systemd rates the exposure of the service as low, on a scale from 0 to 10."""
    rating = re.search(r"exposure level .*: ([0-9.]+)", analyze("security", "--offline=true", str(unit)))
    assert rating is not None
    assert float(rating[1]) < 2


def test_timer(tmp_path: Path) -> None:
    """systemd accepts the timer that starts the nightly check."""
    for name in ("wsgi-store-verify.service", "wsgi-store-verify.timer"):
        text = (DEPLOY / name).read_text(encoding="utf-8")
        program = "/opt/wsgi-store/.venv/bin/wsgi-store"
        (tmp_path / name).write_text(text.replace(program, str(install(tmp_path))), encoding="utf-8")
    assert "wsgi-store" not in analyze("verify", str(tmp_path / "wsgi-store-verify.timer"))


def extras_of_make(directory: Path) -> list[str]:
    """The extras of this project that `make .venv/.installed` installs."""
    shutil.copy(PROJECT / "Makefile", directory)
    (directory / "pyproject.toml").touch()
    done = subprocess.run(
        ["make", "--dry-run", f"PYTHON={sys.executable}", ".venv/.installed"],
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    (extras,) = re.findall(r"install --editable '?\.(?:\[([a-z0-9,]+)\])?'?$", done.stdout, re.M)
    return extras.split(",") if extras else []


def link(site: Path, wanted: list[str]) -> None:
    """Link the required distributions and their dependencies into a directory."""
    while wanted:
        requirement = Requirement(wanted.pop())
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = distribution(requirement.name)
        tops = {file.parts[0] for file in found.files or []} - {"..", "__pycache__", *os.listdir(site)}
        for top in tops:
            (site / top).symlink_to(str(found.locate_file(top)))
        if tops:
            wanted += found.requires or []


def environment_of_make(directory: Path) -> Path:
    """An environment like that of make, linked from this one; returns the directory of its programs."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / ".venv"], check=True)
    (site,) = (directory / ".venv").glob("lib/python*/site-packages")
    (site / "project.pth").write_text(f"{PROJECT}\n", encoding="utf-8")
    extras = [project["optional-dependencies"][extra] for extra in extras_of_make(directory)]
    link(site, sum(extras, project["dependencies"]))
    (script,) = distribution("gunicorn").entry_points.select(group="console_scripts", name="gunicorn")
    programs = directory / ".venv/bin"
    for name, entry in {**project["scripts"], "gunicorn": script.value}.items():
        module, _, function = entry.partition(":")
        text = f"#!{programs}/python\nfrom {module} import {function}\n{function}()\n"
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    return programs


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_the_commands_of_the_units(tmp_path: Path) -> None:
    """In an environment made by make, the commands of the units exist and succeed."""
    programs = environment_of_make(tmp_path)
    ran = []
    for name in ("wsgi-store.service", "wsgi-store-verify.service"):
        text = (DEPLOY / name).read_text(encoding="utf-8").replace("/opt/wsgi-store/deploy", str(DEPLOY))
        for line in re.findall("^Exec[A-Za-z]+=/opt/wsgi-store/.venv/bin/(.*)$", text, re.M):
            program, *arguments = line.split()
            ran.append(program)
            if program == "gunicorn":
                arguments.append("--check-config")
            done = run(programs / program, *arguments, WSGI_STORE_ROOT=str(tmp_path / "store"))
            # The check loads the application, which says what it would serve.
            lines = [line for line in done.stderr.splitlines() if b" INFO " not in line]
            assert (done.returncode, lines) == (0, [])
    assert ran == ["gunicorn", "wsgi-store", "wsgi-store"]
