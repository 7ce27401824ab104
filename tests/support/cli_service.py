"""A service on the shipped gunicorn, for tests that run the command in process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.access import KEY, line
from tests.support.servers import Server, gunicorn
from wsgi_store.cli.main import main
from wsgi_store.client import Client


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that requires tokens and has signing keys."""
    directory = tmp_path_factory.mktemp("cli")
    tokens = directory / "tokens"
    text = line("all", "read,write,delete,list") + line("writer", "write") + line("reader", "read")
    text += line("lister", "list")
    tokens.write_text(text, encoding="ascii")
    settings = {"TOKENS": str(tokens), "SIGNING_KEYS": KEY, "MAX_SIZE": "5MB"}
    with gunicorn(directory, **{f"WSGI_STORE_{name}": value for name, value in settings.items()}) as server:
        yield server
        assert not server.staged()


@pytest.fixture(name="url")
def fixture_url(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the service, also set in the environment; the working directory is empty."""
    url = f"http://127.0.0.1:{server.port}"
    for name, value in {"URL": url, "TOKEN": "all", "SIGNING_KEYS": KEY}.items():
        monkeypatch.setenv(f"WSGI_STORE_{name}", value)
    monkeypatch.chdir(tmp_path)
    with Client(url, "all") as client:
        for blob in client.list():
            client.delete(blob.hash)
    return url


def run(*arguments: str, status: int = 0, stdin: bytes = b"") -> Result:
    """Run the command; each failure is reported in one line."""
    result = CliRunner().invoke(main, arguments, input=stdin)
    assert result.exit_code == status, (result.output, result.exception)
    assert (result.stderr == "") is (status == 0)
    assert "Traceback" not in result.stderr
    return result


def objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects in an output."""
    return [json.loads(row) for row in text.splitlines()]


def invoke(*arguments: str, status: int = 0) -> Result:
    """Run the command in this process."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status, (result.output, result.exception)
    return result
