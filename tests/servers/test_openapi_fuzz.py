"""Schemathesis fuzzes a real server from its own description, with all checks."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.access import ALL, KEY, line
from tests.support.nostr import MINE, OTHERS, public
from tests.support.servers import BLOSSOM, PROJECT, STRICT, Server, gunicorn
from tests.support.wire import Connection, message
from wsgi_store.web import service

pytestmark = pytest.mark.races
TOKEN = "all"
# Log lines without which the fuzz tested too little: method, path and status.
DONE = [
    "POST / 200",
    "POST / 200 .* files=[2-9]",
    "POST / 400",
    "POST / 401",
    "POST / 422",
    "GET /[0-9a-f]{64} 200",
    "GET /[0-9a-f]{64} 404",
    "GET /[0-9a-f]{64}/[^ ]+ 200",
    "HEAD /[0-9a-f]{64} (200|304)",
    "PUT / 200",
    "PUT / 400",
    "PUT / 401",
    "PUT / 415",
    "PUT /[^/ ]+ 200",
    "PUT /[0-9a-fA-F]{64} 20[01]",
    "PUT /[0-9a-fA-F]{64} 412",
    "PUT /[0-9a-fA-F]{64} 422",
    "PUT /[0-9a-fA-F]{64}/[^ ]+ 422",
    "DELETE /[0-9a-f]{64} 200",
    "DELETE /[0-9a-f]{64} 401",
    "DELETE / 405",
    "GET /files 200",
    "GET /files 400",
    "PATCH /files 405",
    "GET /page/[0-9a-f]{16}/[^ ]+ 404",
    "POST /links 200",
    "POST /links 400",
    "POST /links 401",
    "POST /uploads 201",
    "POST /uploads 200",
    "POST /uploads 400",
    "POST /uploads 401",
    "POST /uploads 422",
    "HEAD /uploads/[0-9a-f]{32} 200",
    "HEAD /uploads/[0-9a-f]{32} 204",
    "GET /uploads/[0-9a-f]{32} 200",
    "PATCH /uploads/[0-9a-f]{32} 204",
    "PATCH /uploads/[0-9a-f]{32} 401",
    "PATCH /uploads/[0-9a-f]{32} 409",
    "DELETE /uploads/[0-9a-f]{32} 204",
    "DELETE /uploads/[0-9a-f]{32} 404",
]


# The same of protocols that are off by default.
DONE_BY_OTHERS = [
    "POST /lfs/[^ ]*objects/batch 200",
    "POST /lfs/[^ ]*objects/batch 4(00|22)",
    "POST /lfs/[^ ]*locks/verify 401",
    "POST /lfs/[^ ]*objects/batch 415",
    "POST /lfs/[^ ]*objects/verify 404",
    "POST /lfs/[^ ]*locks/verify 200",
    "POST /lfs/[^ ]*locks 501",
    "(HEAD|GET) /lfs/[^ ]*objects/[0-9a-f]{64}/[0-9]+ 20[04]",
    "PATCH /lfs/[^ ]*objects/[0-9a-f]{64}/[0-9]+ 4",
    "GET /dvc/files/md5/[0-9a-f]{2}/[0-9a-f]{30}(.dir)? 404",
    "(POST|PUT) /dvc/files/md5/[0-9a-f]{2}/[0-9a-f]{30}(.dir)? 422",
]


DONE_BY_BLOSSOM = [
    "PUT /upload 201",
    "PUT /upload 200",
    "PUT /upload 40[0139]",
    "HEAD /upload 200",
    "HEAD /upload 400",
    "HEAD /upload 411",
    "GET /[0-9a-f]{64} 20[06]",
    "GET /[0-9a-f]{64} 404",
    "GET /[0-9a-f]{64}.[^ ]+ 20[06]",
    "HEAD /[0-9a-f]{64} (200|404)",
    "DELETE /[0-9a-f]{64} 200",
    "DELETE /[0-9a-f]{64} 40[0134]",
    "POST /upload 405",
]


@pytest.fixture(name="settings")
def fixture_settings() -> dict[str, str]:
    """Further settings of the server."""
    return {}


@pytest.fixture(name="server")
def fixture_server(tmp_path: Path, settings: dict[str, str]) -> Iterator[Server]:
    """A server that requires tokens."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line(TOKEN, ALL), encoding="utf-8")
    settings = {**settings, "WSGI_STORE_TOKENS": str(tokens), "WSGI_STORE_SIGNING_KEYS": KEY}
    with gunicorn(tmp_path, workers=1, WSGI_STORE_DURABILITY="none", **settings) as server:
        yield server
        assert not server.staged()


def schemathesis(
    server: Server,
    document: str,
    *arguments: str,
    config: str = "openapi.toml",
    access: tuple[str, ...] = ("--header", f"Authorization: Bearer {TOKEN}"),
) -> subprocess.CompletedProcess[str]:
    """Run it in a separate process: it brings a pytest plugin and many modules."""
    command = [
        sys.executable,
        *STRICT,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(PROJECT / "tests/support" / config),
    ]
    command += ["run", document, *access, "--checks", "all", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    # It saves its state in the working directory.
    return subprocess.run(
        command, cwd=server.log.parent, env=environ, capture_output=True, text=True, check=False, timeout=400
    )


def test_the_service_is_as_described(server: Server) -> None:
    """Valid, invalid and chained requests get answers that fit the description."""
    with Connection(server.port) as connection:
        # The blob of the description's examples, so that requests find it from the start.
        upload = message("POST", "/", b"hello, world\n", Authorization=f"Bearer {TOKEN}")
        assert connection.ask(upload).status == 200
    result = schemathesis(server, f"http://127.0.0.1:{server.port}/openapi.json")
    assert result.returncode == 0, result.stdout + result.stderr
    described = json.loads(Path(service.__file__).with_name("openapi.json").read_bytes())["paths"].values()
    count = sum("operationId" in operation for path in described for operation in path.values())
    assert f"Tested: {count}" in result.stdout
    missing = [pattern for pattern in DONE if not server.logged(f"{pattern} ")]
    assert not missing, missing


@pytest.mark.parametrize("settings", [{"WSGI_STORE_PROTOCOLS": "lfs,dvc", "WSGI_STORE_NAMES": "md5"}])
def test_other_protocols_are_as_described(server: Server) -> None:
    """So do requests of the protocols that are on."""
    server.expected.append("not enough free space")
    only = ["--include-path-regex", "^/(lfs|dvc)/", "--phases", "examples,coverage,fuzzing"]
    result = schemathesis(server, f"http://127.0.0.1:{server.port}/openapi.json", *only)
    assert result.returncode == 0, result.stdout + result.stderr
    missing = [pattern for pattern in DONE_BY_OTHERS if not server.logged(f"{pattern}")]
    assert not missing, missing


def test_blossom_is_as_described(tmp_path: Path) -> None:
    """So do signed requests to the application of Blossom."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"me read,write,delete nostr:{public(MINE)}\nother read nostr:{public(OTHERS)}\n")
    settings = {"WSGI_STORE_TOKENS": str(tokens), "WSGI_STORE_PROTOCOLS": "blossom"}
    with gunicorn(tmp_path, BLOSSOM, workers=1, WSGI_STORE_DURABILITY="none", **settings) as server:
        server.expected.append("not enough free space")
        url = f"http://127.0.0.1:{server.port}/openapi.json"
        only = ["--phases", "examples,coverage,fuzzing"]
        result = schemathesis(server, url, *only, config="blossom.toml", access=())
        assert result.returncode == 0, result.stdout + result.stderr
        missing = [pattern for pattern in DONE_BY_BLOSSOM if not server.logged(f"{pattern} ")]
        assert not missing, missing
        assert not server.staged()


def test_what_is_not_so_is_found(server: Server, tmp_path: Path) -> None:
    """Each error put into the description makes the fuzz fail."""
    with Connection(server.port) as connection:
        document = json.loads(connection.ask(message("GET", "/openapi.json")).body)
    paths, components = document["paths"], document["components"]
    del paths["/{hash}"]["delete"]["responses"]["404"]
    components["schemas"]["Page"]["required"].append("total")
    components["parameters"]["Limit"]["schema"]["maximum"] = 2000
    paths["/healthz"]["get"]["responses"]["200"]["headers"]["X-No-Such"] = {"required": True, "schema": {}}
    paths["/readyz"]["get"]["security"] = [{"bearer": ["read"]}]
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    only = ["removeBlob", "listBlobs", "getHealth", "getReadiness"]
    options = [option for name in only for option in ("--include-operation-id", name)]
    url = f"http://127.0.0.1:{server.port}"
    result = schemathesis(server, str(path), "--url", url, "--phases", "coverage", *options)
    assert result.returncode == 1, result.stdout + result.stderr
    for failure in (
        "Undocumented status code",
        "Response violates schema",
        "Schema-valid request rejected",
        "Missing required response headers",
        "API accepts requests without authentication",
    ):
        assert re.search(rf"❌ ST\d+ {failure}: \d", result.stdout), (failure, result.stdout)
