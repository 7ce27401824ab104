"""The modules of the page: their types, their tests in Node beside real services, and hash-wasm."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.access import line
from tests.support.node import DIRECTORY, node
from tests.support.servers import PROJECT, gunicorn

UNIT = Path(__file__).parent / "unit"
VENDOR = PROJECT / "wsgi_store" / "web" / "page" / "vendor"


@pytest.fixture(name="services")
def fixture_services(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A service for everybody, and one that wants a token; as environment variables."""
    with ExitStack() as stack:
        tokens = tmp_path / "tokens"
        tokens.write_text(line("secret-of-these-tests", "read,write"), encoding="utf-8")
        urls = {}
        for name, settings in {
            "PAGE_OPEN": {},
            "PAGE_CLOSED": {"WSGI_STORE_TOKENS": str(tokens), "WSGI_STORE_MAX_SIZE": "1MiB"},
        }.items():
            (tmp_path / name).mkdir()
            server = stack.enter_context(gunicorn(tmp_path / name, workers=1, **settings))
            urls[name] = f"http://127.0.0.1:{server.port}/"
        yield urls


@pytest.mark.clients
def test_modules(services: dict[str, str]) -> None:
    """The tests of tests/page/unit pass."""
    tests = sorted(map(str, UNIT.glob("*.test.mjs")))
    # The worker that hashes would keep the process alive.
    command = [node("")[0], "--test", "--test-force-exit", "--test-reporter=spec", *tests]
    env = {**os.environ, **services}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.clients
def test_types() -> None:
    """The types in the comments of the page's modules are right."""
    program = Path(node("")[0])
    compiler = DIRECTORY / "node_modules" / ".bin" / "tsc"
    command = [str(compiler), "-p", str(Path(__file__).with_name("tsconfig.json"))]
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_vendor() -> None:
    """The files of hash-wasm are those of the version that VERSIONS names, and no others."""
    first, *lines = (VENDOR / "VERSIONS").read_text(encoding="utf-8").splitlines()
    assert first.startswith("hash-wasm 4.13.0 ")
    listed = {name: digest for digest, name in (one.split() for one in lines)}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "VERSIONS"
    }
    assert found == listed
