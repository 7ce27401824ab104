"""Only Config.from_env reads the settings; other variables are the listed exceptions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsgi_store

PACKAGE = Path(wsgi_store.__file__).parent
READERS = {"environ", "environb", "getenv", "getenvb", "putenv"}
# Each file that may use os.environ, and the variables that it reads. All other settings go through
# Config.
PERMITTED = {
    "config.py": {"WSGI_STORE_*"},
    "cli/local.py": {"WSGI_STORE_*"},  # passes them to Config.from_env, without those of the client
    "banner.py": {"WSGI_STORE_TOKEN", "WSGI_STORE_IDLE_TIMEOUT"},  # warns of variables without effect
    "client/address.py": {"NETRC"},  # as curl does
    "store/bucket/endpoint.py": {"AWS_*"},  # shared by all S3 clients, such as obstore and botocore
    "gunicorn/conf.py": {"WEB_CONCURRENCY"},  # gunicorn's own
    "gunicorn/settings.py": {"SCRIPT_NAME"},  # gunicorn's own
    "gunicorn/startup.py": {"PROMETHEUS_MULTIPROC_DIR"},  # set for the workers
    "metrics/figures.py": {"PROMETHEUS_MULTIPROC_DIR"},  # prometheus-client's own
}


def environments(path: Path) -> Iterator[int]:
    """The lines in which a file uses os.environ or its like."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in READERS:
            if isinstance(node.value, ast.Name) and node.value.id == "os":
                yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            if READERS & {alias.name for alias in node.names}:
                yield node.lineno


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_only_config_reads_settings(path: Path) -> None:
    """Only the listed files use os.environ."""
    if str(path.relative_to(PACKAGE)) not in PERMITTED:
        assert not list(environments(path))


def test_config_itself_reads_nothing() -> None:
    """Creating a Config directly does not read the environment."""
    source = ast.parse((PACKAGE / "config.py").read_text())
    (config,) = (node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    readers = {
        function.name
        for function in config.body
        if isinstance(function, ast.FunctionDef) and "os.environ" in ast.unparse(function)
    }
    assert readers == {"from_env"}
