"""Browsers that keep nothing for the site."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browsers import Browser, Profile, running
from tests.support.fresh import fresh
from tests.support.servers import Server
from tests.support.visits import Visit

pytestmark = pytest.mark.clients
# What a person chooses who forbids sites to keep data.
CHROMIUM = {"profile": {"default_content_setting_values": {"cookies": 2}}}
FIREFOX = {"network.cookie.cookieBehavior": 2}
KEPT = "() => { try { return globalThis.localStorage !== null; } catch { return false; } }"


@pytest.fixture(name="browser", scope="module")
def fixture_browser(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """A browser of its own that lets no site keep data."""
    data = tmp_path_factory.mktemp("browser")
    options = {"extraPrefsFirefox": FIREFOX}
    if request.param == "chromium":
        (data / "Default").mkdir()
        (data / "Default" / "Preferences").write_text(json.dumps(CHROMIUM), encoding="utf-8")
        options = {"userDataDir": str(data)}
    with running(request.param, **options) as browser:
        yield browser


def test_nothing_kept(profile: Profile, guarded: Server, tmp_path: Path) -> None:
    """Where the browser keeps no data of the site, the page takes a token and a file all the same."""
    hash_ = fresh(tmp_path / "film.bin", 40 << 20)
    visit = Visit(profile.tab(f"http://127.0.0.1:{guarded.port}/"))
    assert not visit.tab.js(KEPT)
    visit.choose(tmp_path / "film.bin")
    visit.enter("writing-token", keep=True)
    assert visit.until_stored("film.bin") == hash_
    visit.tab.click("a[hreflang='ru']")
    Visit(visit.tab, "ru").sees("add.files")
