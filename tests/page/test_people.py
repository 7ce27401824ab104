"""People who use no mouse, and people who read Russian."""

from pathlib import Path

import pytest

from tests.support.browsers import Profile
from tests.support.fresh import fresh
from tests.support.servers import Server
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
# Stops on the way to anything on the page.
STOPS = 40


def reach(visit: Visit, selector: str) -> None:
    """Press Tab until the focus is on what a selector finds."""
    for _ in range(STOPS):
        visit.tab.press("Tab")
        if visit.tab.js("(selector) => document.activeElement.matches(selector)", selector):
            assert visit.tab.js("() => document.activeElement.matches(':focus-visible')")
            return
    raise AssertionError(f"no {selector} within {STOPS} steps")


def test_keyboard(profile: Profile, service: Server, tmp_path: Path) -> None:
    """By keys alone: choose a file, copy its link, look at it, delete it, and keep the focus on the way."""
    (tmp_path / "letter.txt").write_text(f"of {tmp_path}")
    url = f"http://127.0.0.1:{service.port}/"
    profile.allow_clipboard(url)
    visit = Visit(profile.tab(url))
    reach(visit, "#choose-files")
    with visit.tab.choosing(key="Enter") as choose:
        choose(tmp_path / "letter.txt")
    hash_ = visit.until_stored("letter.txt")
    reach(visit, "#queue [data-do='copy-link']")
    visit.tab.press("Enter")
    source = "(wanted) => navigator.clipboard.readText().then((text) => text === wanted)"
    visit.tab.until(source, f"{url}{hash_}/letter.txt")
    reach(visit, "#queue [data-do='preview']")
    visit.tab.press("Enter")
    visit.tab.until_text("of /", "dialog[open]")
    visit.tab.press("Escape")
    visit.tab.until("() => document.querySelector('dialog[open]') === null")
    reach(visit, "#queue [data-do='delete']")
    visit.tab.press("Enter")
    visit.sees("line.sure", name="letter.txt")
    # The focus is on what keeps the file; what deletes it is one step back.
    visit.tab.press("Shift+Tab", "Enter")
    visit.sees("line.deleted", name="letter.txt")
    assert hash_ not in service.blobs()
    assert visit.tab.js("() => document.activeElement !== document.body")


def test_russian(profile: Profile, service: Server, tmp_path: Path) -> None:
    """Who prefers Russian gets all of the page in it, and the switch changes it without a reload."""
    tab = profile.tab(setExtraHTTPHeaders={"Accept-Language": "ru-RU,ru;q=0.9,en;q=0.5"})
    tab.go(f"http://127.0.0.1:{service.port}/")
    visit = Visit(tab, "ru")
    visit.sees("add.files")
    fresh(tmp_path / "письмо.bin")
    visit.choose(tmp_path / "письмо.bin")
    visit.until_stored("письмо.bin")
    visit.sees("line.compared")
    tab.js("() => { globalThis.sameDocument = true; }")
    tab.click("a[hreflang='en']")
    english = Visit(tab)
    english.sees("add.files")
    english.sees("line.compared")
    assert tab.js("() => sameDocument && document.documentElement.lang") == "en"
    assert english.state("письмо.bin") == "done"
