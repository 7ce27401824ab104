"""The browsers of these tests report what they should."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browsers import Profile
from tests.support.servers import Server, gunicorn

pytestmark = pytest.mark.clients


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service."""
    with gunicorn(tmp_path_factory.mktemp("service")) as server:
        yield server


def test_requests(profile: Profile, server: Server) -> None:
    """The page opens with one request for each of its files, and one for the list of the store."""
    tab = profile.tab()
    base = f"http://127.0.0.1:{server.port}/"
    tab.go(base, "networkidle0")
    urls = [value["url"] for value in tab.told("request") if value["url"].startswith(base)]
    files = tab.js("""() => [...document.querySelectorAll("[rel=stylesheet], [rel=modulepreload], [src]")]
        .map((element) => element.href ?? element.src)""")
    assert sorted(url.partition("?")[0] for url in urls) == sorted([base, *files, f"{base}files"])


def test_drop(profile: Profile, server: Server, tmp_path: Path) -> None:
    """A dropped file of this machine can be read by the page."""
    (tmp_path / "hello.txt").write_text("hello")
    tab = profile.tab(f"http://127.0.0.1:{server.port}/healthz")
    tab.js("() => addEventListener('drop', (event) => { window.dropped = event.dataTransfer.files[0]; })")
    tab.drop(tab.files(tmp_path / "hello.txt"))
    assert tab.js("() => dropped.text()") == "hello"


@pytest.mark.parametrize(
    "fault",
    [
        "console.error('wrong')",
        "setTimeout(() => { throw new Error('wrong'); })",
        "Promise.reject(new Error('wrong'))",
        "setTimeout(() => confirm('wrong'))",
        "document.body.append(Object.assign(document.createElement('img'), { src: 'http://a.test/wrong' }))",
    ],
    ids=["console", "script", "promise", "dialog", "policy"],
)
def test_trouble(profile: Profile, server: Server, fault: str) -> None:
    """An error, a dialog and what the policy forbids fail a test."""
    tab = profile.tab(f"http://127.0.0.1:{server.port}/")
    tab.js(f"() => {{ {fault}; }}")
    # An event may come a moment after the call.
    tab.until("() => new Promise((done) => setTimeout(() => done(true), 50))")
    assert "wrong" in "".join(tab.trouble())
    tab.expected = ["wrong"]
