"""Pausing, cancelling and repeating uploads."""

import shutil
import signal
from pathlib import Path

import pytest

from tests.support.access import line
from tests.support.between import Between, Fields
from tests.support.browsers import Profile
from tests.support.fresh import MIB, fresh
from tests.support.relay import Relay
from tests.support.servers import Server, gunicorn, matching, until
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
SIZE = 24 * MIB
STILL = """() => [...document.querySelectorAll("#queue-files > li")]
    .every((line) => line.dataset.hash || line.dataset.state === "paused")"""
# Bytes that are on their way when an upload stops; they are sent again.
FLIGHT = 6 * MIB


@pytest.fixture(name="visit")
def fixture_visit(profile: Profile, slow: Relay) -> Visit:
    """A person who has opened the page through a slow line."""
    return Visit(profile.tab(f"{slow.url}/"))


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A file that the store does not have."""
    fresh(tmp_path / "film.bin", SIZE)
    return tmp_path / "film.bin"


def sent(relay: Relay, count: int) -> None:
    """Wait until this many bytes have passed."""
    until(lambda: relay.carried >= count, "bytes")


def unfinished(server: Server) -> set[Path]:
    """The directories of unfinished uploads."""
    found = matching(server.root, ".uploads/*/*")
    return {path for path in found if not (path / "done.json").exists()}


def test_pause(visit: Visit, slow: Relay, service: Server, path: Path) -> None:
    """A paused upload sends nothing, and goes on where it was."""
    visit.choose(path)
    sent(slow, SIZE // 3)
    visit.act("pause", path.name)
    visit.until_state(path.name, "paused")
    # The network still delivers bytes that the browser has handed to it.
    before = -1
    while before != slow.carried:
        before = slow.carried
        visit.tab.js("() => new Promise((done) => setTimeout(done, 200))")
    assert before < SIZE
    visit.act("go-on", path.name)
    assert visit.until_stored(path.name) in service.blobs()
    assert slow.carried < SIZE + FLIGHT


def test_pause_all(visit: Visit, slow: Relay, service: Server, tmp_path: Path) -> None:
    """All uploads pause, and go on."""
    wanted = {f"{number}.bin": fresh(tmp_path / f"{number}.bin", 4 * MIB) for number in range(8)}
    visit.choose(*(tmp_path / name for name in wanted))
    sent(slow, 6 * MIB)
    visit.press("pause-all")
    visit.tab.until(STILL)
    assert not set(wanted.values()) <= service.blobs()
    visit.press("go-on-all")
    for name in wanted:
        visit.until_stored(name)
    assert set(wanted.values()) <= service.blobs()


def test_cancel(visit: Visit, slow: Relay, service: Server, path: Path) -> None:
    """A cancelled upload leaves the list and the server."""
    before = unfinished(service)
    visit.choose(path)
    sent(slow, SIZE // 3)
    assert unfinished(service) - before
    visit.act("cancel", path.name)
    visit.tab.until("() => document.querySelector('#queue').hidden")
    until(lambda: not unfinished(service) - before, "the upload to be deleted")


def test_leave(visit: Visit, slow: Relay, service: Server, path: Path) -> None:
    """Leaving is asked about while something is under way, and not afterwards."""
    visit.tab.expected.append("^dialog: beforeunload")
    with visit.tab.choosing("#choose-files") as choose:
        choose(path)
    sent(slow, SIZE // 3)
    visit.tab.close("dismiss")
    until(lambda: visit.tab.told("dialog"), "the question")
    assert visit.until_stored(path.name) in service.blobs()
    # The page looks at its totals a few times a second.
    visit.tab.until("(title) => document.title === title", visit.words("page.title"))
    visit.tab.close("dismiss")
    until(lambda: visit.tab.page.call("isClosed"), "the tab to close")
    assert len(visit.tab.told("dialog")) == 1


def test_expired(visit: Visit, slow: Relay, service: Server, path: Path) -> None:
    """An upload that the server gave up while it was paused begins anew."""
    visit.choose(path)
    sent(slow, slow.carried + SIZE // 3)
    visit.act("pause", path.name)
    visit.until_state(path.name, "paused")
    until(lambda: unfinished(service), "an upload")
    for directory in unfinished(service):
        shutil.rmtree(directory)
    visit.act("go-on", path.name)
    assert visit.until_stored(path.name) in service.blobs()


def test_retry_all(visit: Visit, service: Server, tmp_path: Path) -> None:
    """One button tries all failed uploads again."""
    wanted = {f"{number}.bin": fresh(tmp_path / f"{number}.bin", MIB) for number in range(4)}
    refused: list[str] = []

    def own(method: str, _: str) -> tuple[int, Fields, bytes] | None:
        refused.append(method)
        return None if method == "GET" or len(refused) > 40 else (400, {"Content-Type": "text/html"}, b"no")

    with Between(service.port, own) as proxy:
        visit.tab.go(f"{proxy.url}/")
        visit.choose(*(tmp_path / name for name in wanted))
        for name in wanted:
            visit.until_state(name, "failed")
        refused += ["enough"] * 40
        visit.press("retry-all")
        for name, hash_ in wanted.items():
            assert visit.until_stored(name) == hash_
    assert set(wanted.values()) <= service.blobs()


def test_revoked(profile: Profile, tmp_path: Path) -> None:
    """A token that is revoked in the middle is asked for once, and all files go on with another."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("old-token", "read,write"), encoding="utf-8")
    wanted = {f"{number}.bin": fresh(tmp_path / f"{number}.bin", 8 * MIB) for number in range(5)}
    with gunicorn(tmp_path, WSGI_STORE_TOKENS=str(tokens)) as server, Relay(server.port, 16e6) as slow:
        visit = Visit(profile.tab(f"{slow.url}/"))
        visit.press("token")
        visit.tab.until("() => document.activeElement.id === 'token'")
        visit.tab.type("old-token")
        visit.tab.press("Enter")
        visit.tab.until("() => !document.querySelector('dialog[open]')")
        visit.choose(*(tmp_path / name for name in wanted))
        sent(slow, 6 * MIB)
        tokens.write_text(line("new-token", "read,write"), encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        visit.tab.until("() => document.querySelector('dialog[open]') !== null", seconds=60)
        visit.tab.until("() => document.activeElement.id === 'token'")
        visit.tab.type("new-token")
        visit.tab.press("Enter")
        for name, hash_ in wanted.items():
            assert visit.until_stored(name) == hash_
        assert set(wanted.values()) <= server.blobs()
        # Workers were replaced.
        server.workers = server.processes()
