"""The public surface, and what each part of it loads."""

import subprocess
import sys

import pytest

import wsgi_store
from tests.support.documents import read

# Packages that take long to import or that only an extra installs, and the names that need them.
HEAVY = {
    "werkzeug": {"create_app"},
    "multipart": {"create_app"},
    "loguru": {"create_app"},
    "itsdangerous": set(),  # Signer loads it when it signs
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
    """The top packages that a statement loads in a fresh interpreter."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", wsgi_store.__all__)
def test_a_name_loads_what_it_needs(name: str) -> None:
    """Whoever uses one part does not wait for another, nor has to install it."""
    there = loaded(f"from wsgi_store import {name}")
    assert {package for package, names in HEAVY.items() if package in there and name not in names} == set()


def test_the_package_alone_loads_nothing() -> None:
    """Its version and its directory load none of these."""
    assert not HEAVY.keys() & loaded("import wsgi_store; dir(wsgi_store); wsgi_store.__version__")


def test_the_surface_is_the_documented_one() -> None:
    """A name that comes or goes is a change of what users may rely on."""
    surface = ["Blob", "Client", "Config", "Grant", "Signer", "Store", "create_app", "errors", "open_store"]
    assert wsgi_store.__all__ == surface
    for name in surface:
        assert f"wsgi_store.{name}\n" in read("docs/reference.md"), name
    assert "`wsgi_store.__all__`" in read("docs/stability.md")
