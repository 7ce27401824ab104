"""What axe-core finds, and what people see who enlarge, touch, use keys or choose their own colours."""

from pathlib import Path

import pytest

from tests.support.audits import Audit
from tests.support.browsers import Profile
from tests.support.fresh import fresh
from tests.support.servers import Server, gunicorn
from tests.support.visits import Visit

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]
# The page is in English again after each look.
BOTH = ("ru", "en")
IN_CHROMIUM = pytest.mark.only("chromium", "WebDriver BiDi sets neither colour schemes nor forced colours")


def verdict(*audits: Audit) -> None:
    """Fail with all that was found; print what axe-core could not decide."""
    found = [fault for audit in audits for fault in audit.faults]
    doubts = [doubt for audit in audits for doubt in audit.doubts]
    print(f"{sum(audit.runs for audit in audits)} runs of axe-core")
    assert not found + doubts, "\n".join([*found, "in doubt:", *doubts])


@IN_CHROMIUM
def test_read_only(profile: Profile, tmp_path: Path) -> None:
    """Nothing is found on the page of a store that takes nothing, and on those of problems."""
    (tmp_path / "store").mkdir()
    with gunicorn(tmp_path) as server:
        pass
    with gunicorn(tmp_path, WSGI_STORE_READ_ONLY="yes") as server:
        url = f"http://127.0.0.1:{server.port}/"
        visit = Visit(profile.tab(url))
        audit = Audit(visit.tab)
        visit.sees("add.read_only")
        audit.look("read-only", *BOTH)
        for language in BOTH:
            visit.tab.page.call("setExtraHTTPHeaders", {"Accept-Language": language})
            for path in ("0" * 64, "nowhere"):
                assert visit.tab.go(f"{url}{path}") == 404
                audit.look(f"{path[:7]} in {language}")
        verdict(audit)


@IN_CHROMIUM
@pytest.mark.parametrize("language", BOTH)
def test_plain(profile: Profile, service: Server, tmp_path: Path, language: str) -> None:
    """Nothing is found on the page without scripts, and in its answer."""
    fresh(tmp_path / "letter.txt")
    tab = profile.tab(
        setJavaScriptEnabled=False,
        setExtraHTTPHeaders={"Accept-Language": language},  # fmt: skip
    )
    tab.go(f"http://127.0.0.1:{service.port}/")
    audit = Audit(tab)
    # What a page is without scripts stays when they may run again, and axe-core needs its timers.
    tab.page.call("setJavaScriptEnabled", True)
    audit.look(f"form in {language}")
    tab.page.call("setJavaScriptEnabled", False)
    tab.choose("form input[type=file]", tmp_path / "letter.txt")
    tab.js("() => document.querySelector('form button').focus()")
    tab.press("Enter")
    tab.until_text("letter.txt|[0-9a-f]{64}")
    tab.page.call("setJavaScriptEnabled", True)
    audit.look(f"answer in {language}")
    verdict(audit)
