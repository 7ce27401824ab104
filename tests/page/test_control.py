"""What a person does while files are uploaded."""

from pathlib import Path

import pytest

from tests.support.browsers import Profile
from tests.support.fresh import MIB, fresh
from tests.support.relay import Relay
from tests.support.servers import Server, until
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
SIZE = 24 * MIB
STILL = """() => [...document.querySelectorAll("#queue-files > li")]
    .every((line) => line.dataset.hash || line.dataset.state === "paused")"""
# What may be on its way when an upload stops, and is sent again.
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


def test_pause(visit: Visit, slow: Relay, service: Server, path: Path) -> None:
    """A paused upload sends nothing, and goes on where it was."""
    visit.choose(path)
    sent(slow, SIZE // 3)
    visit.act("pause", path.name)
    visit.until_state(path.name, "paused")
    # What the browser had handed to the network still arrives.
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
    visit.choose(path)
    sent(slow, SIZE // 3)
    visit.act("cancel", path.name)
    visit.tab.until("() => document.querySelector('#queue').hidden")
    until(lambda: not service.staged(), "the upload to be deleted")


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
