"""What docs/clients.md says, but its blocks of commands, which tests/protocols/test_pages.py runs."""

import asyncio
import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from examples import http_clients
from tests.support import sites
from tests.support.access import KEY, line
from tests.support.chromium import chromium
from tests.support.documents import blocks
from tests.support.relay import Break, Relay, Way
from tests.support.servers import Server, gunicorn
from tests.support.uppy import bundled
from tests.uploads.test_uppy import Site

pytestmark = pytest.mark.clients
PAGE = "docs/clients.md"
ADDRESS = "127.0.0.1:8000"
DATA = random.Random(1).randbytes(12 << 20)
HASH = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as the page starts it."""
    with gunicorn(tmp_path_factory.mktemp("service")) as server:
        yield server


def content(server: Server, hash_: str) -> bytes:
    """The bytes of a blob in the store."""
    return (server.root / hash_[:2] / hash_).read_bytes()


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "numbers.txt"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(
    "client",
    [
        http_clients.by_requests,
        http_clients.by_toolbelt,
        http_clients.by_httpx,
        http_clients.by_httpx_async,
        http_clients.by_aiohttp,
    ],
)
def test_libraries(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, client: Callable[[str, str], Any]
) -> None:
    """Libraries of Python send a file, and get it back."""
    monkeypatch.chdir(path.parent)
    found = client(f"http://127.0.0.1:{server.port}", str(path))
    assert (asyncio.run(found) if isinstance(found, Awaitable) else found) == HASH  # type: ignore[arg-type]
    copy = path.with_name("copy")
    assert not copy.exists() or copy.read_bytes() == DATA
    assert content(server, HASH) == DATA


def test_curl_goes_on(server: Server, path: Path) -> None:
    """With the options of the page curl gets a file over a line that breaks, and goes on in the next run."""
    command = ["curl", "-sS", "-T", str(path), f"http://127.0.0.1:{server.port}/"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    copy = path.with_name("copy.txt")
    command = ["curl", "-sS", "--retry", "5", "-C", "-"]
    assert " ".join(command) in "".join(blocks(PAGE, "sh"))
    with Relay(server.port, way=Way.DOWN) as relay:
        command += ["-o", str(copy), f"{relay.url}/{HASH}"]
        relay.break_after(Break.CUT, Way.DOWN, 4 << 20, times=2)
        subprocess.run([*command, "--retry-all-errors"], check=True, capture_output=True, timeout=60)
        assert relay.breaks == 2
        assert copy.read_bytes() == DATA
        copy.unlink()
        relay.break_after(Break.CUT, Way.DOWN, 8 << 20)
        done = subprocess.run(command, check=False, capture_output=True, timeout=60)
        assert done.returncode
        relay.mend()
        left = len(DATA) - copy.stat().st_size
        assert left < len(DATA) - (4 << 20)
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert copy.read_bytes() == DATA
    assert server.logged(f"GET /{HASH} 206 {left} B ")


def test_php(server: Server, path: Path) -> None:
    """PHP's curl sends a form with several files."""
    has_curl = ["php", "-r", "exit(function_exists('curl_init') ? 0 : 1);"]
    if not shutil.which("php") or subprocess.run(has_curl, check=False, timeout=60).returncode:
        pytest.skip("php and its extension curl are not installed")
    (block,) = blocks(PAGE, "php")
    path.with_name("hello.py").write_text("print('hello, world')\n")
    path.with_name("send.php").write_text(block.replace(ADDRESS, f"127.0.0.1:{server.port}"))
    command = ["php", "send.php"]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"numbers.txt {len(DATA)}\nagain.py 22\n", done
    assert content(server, HASH) == DATA


@pytest.fixture(name="tab", scope="module")
def fixture_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[webdriver.Chrome, Server]]:
    """A page of another site, with the scripts of the page, and the service that it may use."""
    directory = tmp_path_factory.mktemp("other")
    (directory / "tokens").write_text(line("secret", "read,write"))
    code = "\n".join(blocks(PAGE, "javascript"))
    with sites.site(Site) as port:
        settings = {"WSGI_STORE_CORS_ORIGINS": f"http://127.0.0.1:{port}", "WSGI_STORE_SIGNING_KEYS": KEY}
        settings["WSGI_STORE_TOKENS"] = str(directory / "tokens")
        with gunicorn(directory, **settings) as server:
            exported = f"{code}\nObject.assign(window, {{ upload, byForm, byTus }});"
            bundle = bundled(exported.replace(ADDRESS, f"127.0.0.1:{server.port}"))
            with chromium(tmp_path_factory.mktemp("browser")) as browser:
                browser.get(f"http://127.0.0.1:{port}")
                browser.execute_script(bundle)
                yield browser, server


def told(browser: webdriver.Chrome, promise: str) -> Any:
    """Wait for what a promise comes to in the page."""
    browser.set_script_timeout(60)
    script = (
        "const done = arguments[arguments.length - 1];"
        f"Promise.resolve({promise}).then(done, (error) => done(`failed: ${{error}}`));"
    )
    return browser.execute_async_script(script)


TOKEN = json.dumps({"Authorization": "Bearer secret"})
BLOB = "new Blob([new Uint8Array(3000000).fill(7)])"
SEVENS = hashlib.sha256(bytes([7]) * 3_000_000).hexdigest()


def test_fetch_in_a_page_of_another_site(tab: tuple[webdriver.Chrome, Server]) -> None:
    """`fetch` uploads a file, and shows why it may not."""
    browser, server = tab
    assert told(browser, f"upload({BLOB}, {TOKEN})") == SEVENS
    assert content(server, SEVENS) == bytes([7]) * 3_000_000
    assert str(told(browser, f"upload({BLOB})")).startswith("failed: Error: ")


@pytest.mark.parametrize("way", ["byForm", "byTus"])
def test_uppy_in_a_page_of_another_site(tab: tuple[webdriver.Chrome, Server], way: str) -> None:
    """Uppy uploads a file in a form, and by tus."""
    browser, server = tab
    text = f"from {way}"
    file = f"{{ name: 'a.txt', type: 'text/plain', data: new File(['{text}'], 'a.txt') }}"
    start = f"(() => {{ const uppy = {way}({TOKEN}); uppy.addFile({file}); return uppy.upload(); }})()"
    ended = told(browser, f"{start}.then((ended) => [ended.successful.length, ended.failed.length])")
    assert ended == [1, 0]
    assert content(server, hashlib.sha256(text.encode()).hexdigest()) == text.encode()
