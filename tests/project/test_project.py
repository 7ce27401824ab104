"""The project: its version, imports, distributions and Makefile."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

import wsgi_store
from tests.support.servers import PROJECT

PACKAGE = PROJECT / "wsgi_store"
# What `make clients` installs by npm.
INSTALLED = PROJECT / "tests/node/node_modules"
# Names in werkzeug.http.
DROPPED = """
    HTTP_STATUS_CODES dump_csp_header parse_accept_header parse_cache_control_header parse_csp_header
    parse_content_range_header parse_etags parse_if_range_header parse_range_header parse_set_header
""".split()
# A file of about 300 lines should be reviewed for a second subject; this is the hard limit.
MAX_LINES = 350


def sources() -> list[str]:
    """The files of the package except its top __init__.py."""
    found = (str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
    return sorted(name for name in found if name != "__init__.py")


def imports(text: str) -> Iterator[str]:
    """The modules that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_nothing_is_imported_that_werkzeug_drops() -> None:
    """No code, tests and benchmarks included, uses a name that Werkzeug 3.2 deprecates and 3.3 removes."""
    dropped = {f"werkzeug.http.{name}" for name in DROPPED}
    for folder in ("wsgi_store", "tests", "examples", "benchmarks"):
        for path in PROJECT.glob(f"{folder}/**/*.py"):
            if INSTALLED in path.parents:
                continue
            assert not dropped.intersection(imports(path.read_text())), path


def test_imports_are_found_in_every_form() -> None:
    """Imports are found in every form."""
    text = "import a.b, c\nfrom d import e\ndef f():\n    from g.h import i as j\n"
    assert set(imports(text)) == {"a.b", "c", "d", "d.e", "g.h", "g.h.i"}


def test_files_are_short() -> None:
    """A file over the limit must be split."""
    lengths = {name: len((PACKAGE / name).read_text().splitlines()) for name in sources()}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_importing_the_package_is_cheap() -> None:
    """Reading the version loads neither the application nor its dependencies."""
    code = (
        "import sys; before = set(sys.modules); import wsgi_store; print(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split() == ["wsgi_store"]


def test_starting_imports_nothing_that_is_not_needed(tmp_path: Path) -> None:
    """A server loads no module that it does not need: for signing, testing or gunicorn."""
    code = "import sys, wsgi_store.wsgi; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={"WSGI_STORE_ROOT": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(result.stdout.split())
    assert {"wsgi_store.web.application", "werkzeug.routing"} <= loaded
    unneeded = {"itsdangerous", "gunicorn", "unittest", "doctest", "pdb", "sqlite3", "xml", "distutils"}
    unneeded |= {
        "concurrent.futures.process",
        "werkzeug.debug",
        "wsgi_store.gunicorn.worker",
        "wsgi_store.gunicorn.startup",
    }
    assert not unneeded & loaded


def test_the_changelog_has_the_version() -> None:
    """The newest release in the changelog is this version."""
    releases = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", (PROJECT / "CHANGELOG.md").read_text(), re.M
    )
    assert releases[0][0] == wsgi_store.__version__
    assert releases == sorted(releases, key=lambda release: release[1], reverse=True)


@pytest.mark.races
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """The wheel has every module, py.typed, the OpenAPI description and the page, and no tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        fields = message_from_bytes(archive.read(metadata))
    page = [str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("web/page/**/*") if path.is_file()]
    described = [f"protocols/{path.name}" for path in PACKAGE.glob("protocols/*.json")]
    assert {"web/page/index.html", "web/page/main.js", "web/page/ru.json"} <= set(page)
    assert names == {
        f"wsgi_store/{name}"
        for name in [*sources(), "__init__.py", "web/openapi.json", *described, "py.typed", *page]
    }
    assert fields["Version"] == wsgi_store.__version__
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["License-Expression"] == "MIT"
    assert fields["Description-Content-Type"] == "text/markdown"


@pytest.mark.races
def test_the_source_distribution_can_be_served_and_tested(wheel: Path) -> None:
    """The source distribution has every file needed to serve and to test."""
    root = wheel.parent.parent
    for name in ("Makefile", "LICENSE", ".flake8", ".pre-commit-config.yaml", "store/.gitkeep"):
        assert (root / name).is_file(), name
    for page in (*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")):
        assert (root / page.relative_to(PROJECT)).is_file(), page
    for directory in (".github", "changelog.d", "deploy", "examples", "tests"):
        for path in (PROJECT / directory).rglob("*"):
            if path.suffix not in (".pyc", "") and INSTALLED not in path.parents:
                assert (root / path.relative_to(PROJECT)).is_file(), path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A directory with the Makefile and an empty project."""
    shutil.copy(PROJECT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "bin").mkdir()
    return tmp_path


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make without the variables of an outer make."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}
    return subprocess.run(
        ["make", *arguments],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def python(path: Path, script: str) -> None:
    """Create a fake Python interpreter that runs this shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@needs_make
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "exit 1",
            "make: bin/python3 is not Python 3.11 or newer: pass another: make PYTHON=/path/to/python3",
        ),
        (
            'case "$*" in *ensurepip*) exit 1;; esac',
            "make: bin/python3 lacks the module venv: install it (Debian, Ubuntu: apt install python3-venv)",
        ),
    ],
)
def test_an_unfit_python_is_named(clone: Path, script: str, message: str) -> None:
    """If Python is too old or lacks a module, make says so in one line."""
    python(clone / "bin/python3", script)
    result = make(clone, "serve", "PYTHON=bin/python3")
    assert result.returncode
    assert result.stderr.splitlines()[0] == message


@needs_make
def test_no_python_is_said(clone: Path) -> None:
    """If no Python is new enough, make says what to do."""
    result = make(clone, "serve", "PYTHON=")
    assert result.returncode
    assert result.stderr.startswith("make: no Python 3.11 or newer found: install one, or pass its path: ")


@needs_make
def test_nothing_is_installed_twice(clone: Path) -> None:
    """The environment is created once, updated if the project changes, and replaced if its Python is gone."""
    log = clone / "log"
    link = "mkdir -p .venv/bin && ln -sf ../../bin/python3 .venv/bin/python"
    python(
        clone / "bin/python3",
        f"""case "$*" in *version_info*|*ensurepip*) exit;; esac
        echo "$1 $2" >>"{log}"
        case "$*" in "-m venv"*) {link};; esac""",
    )
    # An old file, like the system's Python, because make compares file times.
    os.utime(clone / "bin/python3", (1, 1))

    def serve() -> list[str]:
        log.write_text("")
        result = make(clone, "serve", "PYTHON=bin/python3")
        assert result.returncode == 0, result.stderr
        return log.read_text().splitlines()

    assert serve() == ["-m venv", "-m pip", ".venv/bin/gunicorn -c"]
    assert serve() == [".venv/bin/gunicorn -c"]
    os.utime(clone / ".venv/.installed", (2, 2))
    assert serve() == ["-m pip", ".venv/bin/gunicorn -c"]
    (clone / ".venv/bin/python").unlink()
    assert serve() == ["-m venv", "-m pip", ".venv/bin/gunicorn -c"]
