"""The environment is read in one place: Config.from_env. Other programs' variables are the exceptions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsgi_store

PACKAGE = Path(wsgi_store.__file__).parent
READERS = {"environ", "environb", "getenv", "getenvb", "putenv"}
# Each file that may use os.environ, and the variables that it names. What is not listed here goes through
# Config.
PERMITTED = {
    "config.py": {"WSGI_STORE_*"},
    "cli/upkeep.py": {"WSGI_STORE_*"},  # hands them to Config.from_env, without those of the client
    "banner.py": {"WSGI_STORE_TOKEN", "WSGI_STORE_IDLE_TIMEOUT"},  # warns of what has no effect
    "client/address.py": {"NETRC"},  # as curl does
    "store/bucket/endpoint.py": {"AWS_*"},  # what all S3 clients share, obstore and botocore among them
    "gunicorn/conf.py": {"WEB_CONCURRENCY"},  # gunicorn's own
    "gunicorn/settings.py": {"SCRIPT_NAME"},  # gunicorn's own
    "gunicorn/startup.py": {"PROMETHEUS_MULTIPROC_DIR"},  # set for the workers
    "metrics/prometheus.py": {"PROMETHEUS_MULTIPROC_DIR"},  # prometheus-client's own
}


def environments(path: Path) -> Iterator[int]:
    """The lines in which a file uses the environment of its process."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in READERS:
            if isinstance(node.value, ast.Name) and node.value.id == "os":
                yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            if READERS & {alias.name for alias in node.names}:
                yield node.lineno


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_only_config_reads_settings(path: Path) -> None:
    """No file but those named here uses os.environ."""
    if str(path.relative_to(PACKAGE)) not in PERMITTED:
        assert not list(environments(path))


def test_config_itself_reads_nothing() -> None:
    """A Config that a host application makes does not look at the environment."""
    source = ast.parse((PACKAGE / "config.py").read_text())
    (config,) = (node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    readers = {
        function.name
        for function in config.body
        if isinstance(function, ast.FunctionDef) and "os.environ" in ast.unparse(function)
    }
    assert readers == {"from_env"}
