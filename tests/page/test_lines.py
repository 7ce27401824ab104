"""Uploads that are interrupted."""

import shutil
import time
from pathlib import Path

import pytest

from tests.support.bridge import function
from tests.support.browsers import Browser, Profile
from tests.support.footprint import below
from tests.support.fresh import MIB, fresh
from tests.support.pauses import paused
from tests.support.relay import Break, Relay, Way
from tests.support.servers import PROJECT, Server, gunicorn, until
from tests.support.visits import HASTE, Visit

pytestmark = pytest.mark.clients
# Below it, files are hashed before they are sent.
AT_ONCE = 32 * MIB
SIZES = pytest.mark.parametrize("size", [24 * MIB, 40 * MIB], ids=["hashed first", "hashed meanwhile"])
# After a cut a browser sends the bytes again that were on their way; Chromium sends the whole piece anew.
FLIGHT = 10 * MIB
# Seconds.
SLEEP = 6


@pytest.fixture(name="visit")
def fixture_visit(profile: Profile, slow: Relay) -> Visit:
    """A person who has opened the page through a slow line."""
    return Visit(profile.tab(f"{slow.url}/"))


def sent(relay: Relay, count: int) -> None:
    """Wait until this many bytes have passed."""
    until(lambda: relay.carried >= count, "bytes")


@SIZES
def test_cut_line(visit: Visit, slow: Relay, service: Server, tmp_path: Path, size: int) -> None:
    """The line is cut three times: the upload goes on by itself, and sends little twice."""
    hash_ = fresh(tmp_path / "film.bin", size)
    visit.choose(tmp_path / "film.bin")
    for part in (1, 2, 3):
        sent(slow, part * size // 4)
        slow.cut()
    assert visit.until_stored("film.bin") == hash_
    assert hash_ in service.blobs()
    assert slow.carried < size + 3 * FLIGHT


def test_offline(visit: Visit, slow: Relay, service: Server, tmp_path: Path) -> None:
    """Without a network the page says that it waits, and goes on when the network is back."""
    hash_ = fresh(tmp_path / "film.bin", 24 * MIB)
    visit.choose(tmp_path / "film.bin")
    sent(slow, 8 * MIB)
    visit.tab.page.call("setOfflineMode", True)
    # Browsers refuse new connections only.
    slow.cut()
    visit.until_state("film.bin", "retrying")
    visit.tab.page.call("setOfflineMode", False)
    assert visit.until_stored("film.bin") == hash_
    assert hash_ in service.blobs()


@pytest.mark.parametrize("way", Way)
def test_silent_line(profile: Profile, slow: Relay, service: Server, tmp_path: Path, way: Way) -> None:
    """A line that is dead without a word, as after a night, is noticed, and the upload goes on by another."""
    hash_ = fresh(tmp_path / "film.bin", 24 * MIB)
    tab = profile.tab(evaluateOnNewDocument=function(HASTE))
    tab.go(f"{slow.url}/")
    visit = Visit(tab)
    # Downwards only the answer to the piece is lost.
    slow.break_after(Break.STALL, way, 8 * MIB if way is Way.UP else 3000, times=1)
    visit.choose(tmp_path / "film.bin")
    assert visit.until_stored("film.bin") == hash_
    assert hash_ in service.blobs()


def test_closed_laptop(browser: Browser, visit: Visit, slow: Relay, service: Server, tmp_path: Path) -> None:
    """The device sleeps and its connections end meanwhile: the upload goes on when it wakes."""
    hash_ = fresh(tmp_path / "film.bin", 40 * MIB)
    visit.choose(tmp_path / "film.bin")
    sent(slow, 8 * MIB)
    with paused(browser.pid, *below(browser.pid)):
        slow.cut()
        time.sleep(SLEEP)
    assert visit.until_stored("film.bin") == hash_
    assert hash_ in service.blobs()
    assert slow.carried < 40 * MIB + 2 * FLIGHT


def test_silent_server(profile: Profile, tmp_path: Path) -> None:
    """The server stops for longer than the page waits: the upload goes on."""
    hash_ = fresh(tmp_path / "film.bin", 24 * MIB)
    with gunicorn(tmp_path) as server, Relay(server.port, 16e6) as slow:
        tab = profile.tab(evaluateOnNewDocument=function(HASTE))
        tab.go(f"{slow.url}/")
        visit = Visit(tab)
        visit.choose(tmp_path / "film.bin")
        sent(slow, 8 * MIB)
        with paused(*server.workers):
            visit.until_state("film.bin", "retrying")
        assert visit.until_stored("film.bin") == hash_
        assert hash_ in server.blobs()


@SIZES
def test_closed_tab(profile: Profile, slow: Relay, service: Server, tmp_path: Path, size: int) -> None:
    """A tab is closed in the middle: when the file is chosen in another one, its upload goes on."""
    hash_ = fresh(tmp_path / "film.bin", size)
    first = Visit(profile.tab(f"{slow.url}/"))
    first.choose(tmp_path / "film.bin")
    sent(slow, size // 2)
    first.tab.close()
    second = Visit(profile.tab(f"{slow.url}/"))
    second.choose(tmp_path / "film.bin")
    assert second.until_stored("film.bin") == hash_
    assert hash_ in service.blobs()
    assert slow.carried < size + FLIGHT


def test_another_profile(browser: Browser, slow: Relay, service: Server, tmp_path: Path) -> None:
    """A browser that remembers nothing goes on with an upload: its content is the key."""
    hash_ = fresh(tmp_path / "film.bin", 24 * MIB)
    with browser.profile() as profile:
        visit = Visit(profile.tab(f"{slow.url}/"))
        visit.choose(tmp_path / "film.bin")
        sent(slow, 12 * MIB)
        visit.tab.close()
    with browser.profile() as profile:
        visit = Visit(profile.tab(f"{slow.url}/"))
        # The name is another one, too.
        (tmp_path / "film.bin").rename(tmp_path / "copy.bin")
        visit.choose(tmp_path / "copy.bin")
        assert visit.until_stored("copy.bin") == hash_
    assert hash_ in service.blobs()
    assert slow.carried < 24 * MIB + FLIGHT


@pytest.mark.parametrize("size", [300_000, 24 * MIB, 40 * MIB], ids=["small", "hashed first", "large"])
def test_held(profile: Profile, visit: Visit, slow: Relay, tmp_path: Path, size: int) -> None:
    """What the store holds is not sent, or hardly: a large file is sent while it is hashed."""
    hash_ = fresh(tmp_path / "film.bin", size)
    visit.choose(tmp_path / "film.bin")
    visit.until_stored("film.bin")
    carried = slow.carried
    visit = Visit(profile.tab(f"{slow.url}/"))
    (tmp_path / "film.bin").rename(tmp_path / "again.bin")
    visit.choose(tmp_path / "again.bin")
    assert visit.until_stored("again.bin") == hash_
    visit.sees("line.held")
    assert slow.carried - carried < (100_000 if size <= AT_ONCE else size // 2)


@pytest.fixture(name="upgraded")
def fixture_upgraded(tmp_path: Path) -> Path:
    """A copy of the package whose page differs, and with it the URLs of all files."""
    shutil.copytree(PROJECT / "wsgi_store", tmp_path / "new" / "wsgi_store")
    with (tmp_path / "new" / "wsgi_store" / "web" / "page" / "app.css").open("a") as style:
        style.write("/* changed */")
    return tmp_path / "new"


def test_restart(profile: Profile, tmp_path: Path, upgraded: Path) -> None:
    """The server is killed and upgraded: a page that was open goes on, and takes another large file."""
    hash_, other = (fresh(tmp_path / name, 40 * MIB) for name in ("film.bin", "other.bin"))
    server = gunicorn(tmp_path)
    with Relay(server.port, 16e6) as line:
        visit = Visit(profile.tab(f"{line.url}/"))
        visit.choose(tmp_path / "film.bin")
        sent(line, 20 * MIB)
        server.kill()
        line.cut()
        visit.until_state("film.bin", "retrying")
        with gunicorn(tmp_path, PYTHONPATH=str(upgraded)) as server:
            line.target = server.port
            assert visit.until_stored("film.bin") == hash_
            assert line.carried < 40 * MIB + FLIGHT
            visit.choose(tmp_path / "other.bin")
            assert visit.until_stored("other.bin") == other
            assert {hash_, other} <= server.blobs()
