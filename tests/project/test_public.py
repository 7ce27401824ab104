"""The public names, and what importing each of them loads."""

import subprocess
import sys

import pytest

import wsgi_store
from tests.support.documents import read

# Packages that are slow to import or installed by an extra, and the names that need them.
HEAVY = {
    "werkzeug": {"create_app"},
    "multipart": {"create_app"},
    "loguru": {"create_app"},
    "itsdangerous": set(),  # Signer imports it when it signs
    "urllib3": {"Client"},
    "gunicorn": set(),
    "click": set(),
    "rich": set(),
    "obstore": set(),
    "botocore": set(),
    "prometheus_client": set(),
    "pytest": set(),
    "hypothesis": set(),
}


def loaded(statement: str) -> set[str]:
    """The top-level packages that a statement loads in a fresh interpreter."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", wsgi_store.__all__)
def test_a_name_loads_what_it_needs(name: str) -> None:
    """Importing a name loads only the packages that it needs."""
    there = loaded(f"from wsgi_store import {name}")
    assert {package for package, names in HEAVY.items() if package in there and name not in names} == set()


def test_the_package_alone_loads_nothing() -> None:
    """The package itself, its version and its directory load none of these."""
    assert not HEAVY.keys() & loaded("import wsgi_store; dir(wsgi_store); wsgi_store.__version__")


def test_the_surface_is_the_documented_one() -> None:
    """The public names are the documented ones."""
    surface = ["Blob", "Client", "Config", "Grant", "Signer", "Store", "create_app", "errors", "open_store"]
    assert wsgi_store.__all__ == surface
    for name in surface:
        assert f"wsgi_store.{name}\n" in read("docs/reference.md"), name
    assert "`wsgi_store.__all__`" in read("docs/stability.md")
